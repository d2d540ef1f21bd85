"""Promises of data_partition.faces.crop."""

import numpy as np
import pytest

from data_partition.faces.crop import CropBox, crop_and_resize, find_takes, single_image_box, steady_boxes


def _faces(centre_FC: np.ndarray, size: float | np.ndarray = 100.0) -> np.ndarray:
    """68 landmarks on a circle around each centre: the bounding box is a square of `size`."""
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1) / 2
    sizes = np.broadcast_to(np.asarray(size, float), (len(centre_FC),))
    return (np.asarray(centre_FC)[:, None] + circle * sizes[:, None, None]).astype(np.float32)


def test_landmarks_move_with_the_crop() -> None:
    box = CropBox(left=10, top=20, side=100)
    # the first pixel's outer corner is (9.5, 19.5); halving the size maps it to (-0.5, -0.5)
    landmarks = np.array([[9.5, 19.5], [109.5, 119.5], [59.5, 69.5]], np.float32)
    np.testing.assert_allclose(box.to_crop(landmarks, 50), [[-0.5, -0.5], [49.5, 49.5], [24.5, 24.5]], atol=1e-5)


def test_a_marked_pixel_is_where_its_landmark_says() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    image[118:122, 158:162] = 255
    box = CropBox(left=60, top=40, side=160)
    crop = crop_and_resize(image, box, 80)
    rows, columns = np.nonzero(crop[..., 0] > 127)
    expected = box.to_crop(np.array([[159.5, 119.5]], np.float32), 80)[0]
    np.testing.assert_allclose([columns.mean(), rows.mean()], expected, atol=0.01)


def test_beyond_the_picture_its_border_is_repeated() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    crop = crop_and_resize(image, CropBox(left=-2, top=1, side=6), 6)
    np.testing.assert_array_equal(crop[0], image[1][[0, 0, 0, 1, 2, 3]])
    np.testing.assert_array_equal(crop[5], image[3][[0, 0, 0, 1, 2, 3]])


def test_a_box_far_outside_still_gives_a_picture() -> None:
    crop = crop_and_resize(np.full((4, 4, 3), 9, np.uint8), CropBox(left=50, top=50, side=4), 8)
    assert crop.shape == (8, 8, 3) and (crop == 9).all()


def test_a_jittering_head_gets_one_box_that_never_moves() -> None:
    rng = np.random.default_rng(0)
    faces = _faces(np.array([400.0, 300.0]) + rng.normal(0, 5, (90, 2)), 100 + rng.normal(0, 3, 90))
    boxes = steady_boxes(faces, np.arange(90) / 30, (600, 800))
    assert len(set(boxes)) == 1
    assert boxes[0].side == pytest.approx(220, abs=5)
    assert boxes[0].left + boxes[0].side / 2 == pytest.approx(400, abs=5)


def test_a_travelling_head_is_followed_slowly_and_stays_in_the_box() -> None:
    time = np.arange(300) / 30
    rng = np.random.default_rng(0)
    path = np.stack([300 + 60 * time, np.full(300, 300.0)], axis=-1)
    faces = _faces(path + rng.normal(0, 2, path.shape))
    boxes = steady_boxes(faces, time, (600, 1200))
    left = np.array([box.left for box in boxes])
    assert left[-1] - left[0] > 400
    assert np.abs(np.diff(left)).max() <= 4  # the head itself moves 2 px a frame, and jitters by more
    for box, face in zip(boxes, faces, strict=True):
        inside = box.to_crop(face, 128)
        assert inside.min() > 0 and inside.max() < 127


def test_a_face_that_comes_near_gets_a_growing_box() -> None:
    faces = _faces(np.full((120, 2), 500.0), np.linspace(100, 250, 120))
    boxes = steady_boxes(faces, np.arange(120) / 30, (1000, 1000))
    assert boxes[-1].side > 1.5 * boxes[0].side
    assert all(box.to_crop(face, 64).min() > 0 for box, face in zip(boxes, faces, strict=True))


def test_a_face_at_the_edge_keeps_the_box_inside_the_picture() -> None:
    box = single_image_box(_faces(np.array([[70.0, 70.0]]))[0], (400, 640))
    assert (box.left, box.top, box.side) == (0, 0, 220)


def test_a_tightly_framed_picture_is_used_whole() -> None:
    box = single_image_box(_faces(np.array([[100.0, 100.0]]))[0], (200, 200))
    assert box == CropBox(left=0, top=0, side=200)


def test_a_face_that_fills_the_picture_gets_room_by_a_repeated_border() -> None:
    box = single_image_box(_faces(np.array([[50.0, 50.0]]))[0], (100, 100))
    assert box == CropBox(left=-30, top=-30, side=160)


def test_a_chin_below_the_picture_stays_in_the_box() -> None:
    face = _faces(np.array([[150.0, 280.0]]))[0]  # reaches to y = 330 in a picture 300 px high
    box = single_image_box(face, (300, 300))
    assert box.to_crop(face, 64).max() <= 63.5


def test_a_film_cut_starts_a_new_take() -> None:
    centres = np.array([[100.0, 100.0]] * 5 + [[300.0, 100.0]] * 4)
    sizes = np.array([100.0] * 5 + [100.0] * 2 + [180.0] * 2)
    shapes = np.full((9, 2), 400)
    takes = find_takes(_faces(centres, sizes), np.arange(9), shapes)
    assert takes.tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 2]


def test_fast_movement_and_short_gaps_are_no_cut() -> None:
    centres = np.array([[100.0, 100.0], [140.0, 100.0], [260.0, 100.0]])
    takes = find_takes(_faces(centres), np.array([0, 1, 4]), np.full((3, 2), 400))
    assert takes.tolist() == [0, 0, 0]  # 0.4 face sizes in one frame, then 1.2 in three


def test_pictures_of_another_size_start_a_new_take() -> None:
    takes = find_takes(_faces(np.full((3, 2), 100.0)), np.arange(3), np.array([[400, 400], [400, 400], [300, 400]]))
    assert takes.tolist() == [0, 0, 1]


def test_landmarks_go_to_the_crop_and_back():
    box, landmarks = CropBox(left=-7, top=20, side=130), np.random.default_rng(0).uniform(0, 100, (68, 2))
    in_crop = box.to_crop(landmarks.astype(np.float32), 64)
    np.testing.assert_allclose(box.to_picture(in_crop, 64), landmarks, atol=1e-3)
