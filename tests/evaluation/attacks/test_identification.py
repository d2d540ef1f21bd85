import numpy as np
import pytest

from evaluation.attacks.identification import distances_px, identified, shape_distances

SQUARE = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
KITE = np.array([[0.0, 0.0], [3.0, 1.0], [2.0, 2.0], [1.0, 3.0]])


def _moved(shape: np.ndarray, angle_deg: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    angle = np.deg2rad(angle_deg)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return scale * shape @ rotation.T + shift


def test_shape_is_known_again_wherever_it_lies_and_however_large_it_is():
    frames = np.stack([_moved(SQUARE, 30, 5, (40, 7)), _moved(KITE, -70, 0.2, (3, 90))])
    distance = shape_distances(frames, np.stack([SQUARE, KITE])[None])
    assert distance.diagonal() == pytest.approx([0, 0], abs=1e-7)
    assert identified(distance, np.array([0, 1])).tolist() == [1, 1]
    assert identified(distance, np.array([1, 0])).tolist() == [0, 0]


def test_shape_distance_by_hand():
    # segments (0, 1, 2) and (0, 0, 3) on a line: centred -1, 0, 1 and -1, -1, 2; cos = 3 / sqrt(2 * 6)
    one, other = (np.array([[x, 0.0] for x in xs]) for xs in ((0, 1, 2), (0, 0, 3)))
    assert shape_distances(one[None], other[None, None])[0, 0] == pytest.approx(np.sqrt(1 - 9 / 12))


def test_mirrored_shape_is_another_one():
    triangle = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 1.0]])
    assert shape_distances((triangle * [-1, 1])[None], triangle[None, None])[0, 0] > 0.1


def test_distance_in_the_frame_is_root_mean_square_of_points():
    template = np.zeros((1, 2, 2))
    frame = np.array([[[3.0, 4.0], [0.0, 0.0]]])
    assert distances_px(frame, template)[0, 0] == pytest.approx(np.sqrt(25 / 2))


def test_equal_templates_identify_nobody():
    frames = np.stack([SQUARE, KITE])
    distance = distances_px(frames, np.stack([SQUARE] * 4))
    assert identified(distance, np.array([2, 3])).tolist() == [1 / 4, 1 / 4]
