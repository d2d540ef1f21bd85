import numpy as np
import pytest

from evaluation.metrics.dynamics import agreement, brow_motion, head_motion, lip_motion


def clip(num_frames: int = 4) -> np.ndarray:
    """Still faces whose outer eye corners are 20 px apart."""
    landmarks_FKC = np.zeros((num_frames, 68, 2))
    landmarks_FKC[:, 45] = [20, 0]
    return landmarks_FKC


def test_lips_that_open_and_close_move_by_the_spread_of_their_gap_in_eye_distances():
    landmarks_FKC = clip()
    landmarks_FKC[:, 55:60, 1] = np.array([0, 4, 0, 4])[:, None]  # the lower outer lip; the inner lips stay shut
    assert lip_motion(landmarks_FKC) == pytest.approx(2 / 20 / 2)


def test_brows_that_rise_move_and_heads_that_shift_do_not_move_lips_or_brows():
    landmarks_FKC = clip()
    landmarks_FKC[:, 17:27, 1] = np.array([-6, -8, -6, -8])[:, None]
    assert brow_motion(landmarks_FKC) == pytest.approx(1 / 20)
    shifted = landmarks_FKC + np.arange(4)[:, None, None]
    assert brow_motion(shifted) == pytest.approx(1 / 20) and lip_motion(shifted) == 0


def test_head_motion_is_the_formula_written_out():
    pose_FC = np.array([[0.0, 0, 0], [3, 0, 0], [0, 0, 0], [0, 0, 0]])
    turning = (np.std([0, 3, 0, 0]) / 3) * (np.var([3, -3, 0]) / 3)
    assert head_motion(clip(), pose_FC) == pytest.approx(np.sqrt(turning))
    shifted = clip() + np.array([0.0, 1, 0, 0])[:, None, None] * [1, 0]
    steps = 100 * np.array([1, -1, 0]) / 20
    assert head_motion(shifted, pose_FC) == pytest.approx(np.sqrt(turning + np.var(steps) / 2))


def test_agreement_is_best_for_equal_amounts():
    assert agreement(0.2, 0.2) == 1
    assert [agreement(0.2, 0.1), agreement(0.2, 0.3)] == pytest.approx([0.5, 0.5])
    assert agreement(0.2, 0) == 0 and agreement(0.2, 0.6) == pytest.approx(-1)
    assert np.isnan(agreement(0, 0.1))
