from __future__ import annotations

import numpy as np
import pytest

from model.errors import ConfigError
from model.landmarks.geometry import (
    INNER_LIP_PAIRS,
    PARTS,
    PartSizes,
    draw_heatmap,
    eye_distance,
    interpolating_spline_matrix,
    mean_part_sizes_px,
    pair_distances,
)
from model.landmarks.style import recentre, transfer_landmarks


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("num_knots", [4, 5, 12])
def test_spline_passes_through_its_knots_and_keeps_constants(num_knots: int, closed: bool) -> None:
    matrix = interpolating_spline_matrix(num_knots, closed=closed)
    at_knots = matrix[::6][:num_knots]
    np.testing.assert_allclose(at_knots, np.eye(num_knots), atol=1e-12)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)


def test_open_spline_keeps_straight_lines_straight() -> None:
    knots = np.stack([np.arange(5.0), 2 * np.arange(5.0)], axis=1)
    points = interpolating_spline_matrix(5, closed=False) @ knots
    np.testing.assert_allclose(points[:, 1], 2 * points[:, 0], atol=1e-12)
    np.testing.assert_allclose(points[:, 0], np.linspace(0, 4, 25), atol=1e-12)


def test_closed_spline_ends_where_it_began() -> None:
    knots = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    points = interpolating_spline_matrix(4, closed=True) @ knots
    np.testing.assert_allclose(points[0], points[-1], atol=1e-12)


def test_heatmap_is_bright_on_the_landmarks_and_black_elsewhere() -> None:
    angles = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    landmarks = np.stack([64 + 40 * np.cos(angles), 64 + 40 * np.sin(angles)], axis=1)
    heatmap = draw_heatmap(landmarks, 128)
    assert heatmap.dtype == np.float32 and heatmap.shape == (128, 128)
    assert heatmap.min() >= 0 and heatmap.max() <= 1
    on_curve = [heatmap[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].max() for x, y in landmarks]
    assert min(on_curve) > 0.4
    assert heatmap[64, 64] == 0 and heatmap[0, 0] == 0


def test_heatmap_of_landmarks_outside_the_frame_does_not_fail() -> None:
    assert draw_heatmap(np.full((68, 2), -500.0), 32).max() == 0


def test_mean_part_sizes_by_hand() -> None:
    landmarks = np.zeros((2, 68, 2), np.float32)
    mouth = list(PARTS["mouth"])
    landmarks[0, mouth[0]] = (10, 4)  # frame 0: 10 wide, 4 high; frame 1: 20 wide, 8 high
    landmarks[1, mouth[0]] = (20, 8)
    sizes = mean_part_sizes_px(landmarks)
    np.testing.assert_allclose(sizes, [[0, 0], [0, 0], [0, 0], [6, 15]])


def test_distances_of_lips_and_eyes_by_hand() -> None:
    """Lower lips 3 px right of and 4 px below the upper ones, in the second of two frames alone; eyes 5 px apart."""
    landmarks_FKC = np.zeros((2, 68, 2), np.float32)
    landmarks_FKC[1, 65:68] = [3, 4]
    landmarks_FKC[1, 36] = [4, -3]
    assert pair_distances(landmarks_FKC, INNER_LIP_PAIRS).tolist() == [[0, 0, 0], [5, 5, 5]]
    assert [eye_distance(landmarks_KC) for landmarks_KC in landmarks_FKC] == [1e-6, 5]


def test_part_sizes_are_padded_multiples_of_four_that_fit_the_frame() -> None:
    sizes = PartSizes.from_mean(np.array([[1, 1], [4, 9], [10, 100], [6, 15]]), 32)
    assert sizes == PartSizes((8, 8, 16, 12), (8, 16, 32, 24))
    assert PartSizes.from_flat(sizes.to_flat()) == sizes


def test_part_sizes_name_what_is_missing() -> None:
    flat = PartSizes((8, 8, 8, 8), (8, 8, 8, 8)).to_flat()
    del flat["part-width-px-nose"]
    with pytest.raises(ConfigError, match="width"):
        PartSizes.from_flat(flat)


def test_transfer_follows_eq_3_3_then_moves_to_the_driving_centre() -> None:
    rng = np.random.default_rng(0)
    driving, mean_d, mean_s = (rng.normal(50, 10, (68, 2)).astype(np.float32) for _ in range(3))
    std_d, std_s = (rng.uniform(1, 3, (68, 2)).astype(np.float32) for _ in range(2))
    result = transfer_landmarks(
        driving[None],
        driving_mean_KC=mean_d,
        driving_std_KC=std_d,
        source_mean_KC=mean_s,
        source_std_KC=std_s,
    )[0]
    expected = (driving - mean_d) / std_d * std_s + mean_s
    expected += driving.mean(axis=0) - expected.mean(axis=0)
    np.testing.assert_allclose(result, expected, rtol=1e-4)
    np.testing.assert_allclose(result.mean(axis=0), driving.mean(axis=0), rtol=1e-5)


def test_transfer_to_oneself_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    driving = rng.normal(50, 10, (3, 68, 2)).astype(np.float32)
    mean, std = driving.mean(axis=0), driving.std(axis=0)
    own = transfer_landmarks(driving, driving_mean_KC=mean, driving_std_KC=std, source_mean_KC=mean, source_std_KC=std)
    np.testing.assert_allclose(own, driving, atol=1e-4)


def test_recentre_moves_the_mean_point_only() -> None:
    a = np.arange(136, dtype=np.float32).reshape(1, 68, 2)
    moved = recentre(a, a + np.float32([3, -5]))
    np.testing.assert_allclose(moved, a + np.float32([3, -5]), atol=1e-4)
