import numpy as np
import pytest

from evaluation.metrics.folds import fold_percent

SIDE = 16
SQUARE = np.array([[2, 2], [10, 2], [10, 10], [2, 10]])
"""Corners of 9 x 9 pixels."""


def flow(x_HW=0.0, y_HW=0.0):
    """[2, S, S] from offsets in pixels."""
    return np.stack([np.broadcast_to(offset, (SIDE, SIDE)) for offset in (x_HW, y_HW)]) * 2 / SIDE


def test_shifts_turns_and_stretches_do_not_fold():
    rows, columns = np.mgrid[:SIDE, :SIDE]
    assert fold_percent(flow(5.0, -3.0), SQUARE) == 0
    assert fold_percent(flow(-rows - columns, columns - rows), SQUARE) == 0  # a quarter turn
    assert fold_percent(flow(2.0 * columns), SQUARE) == 0


def test_a_mirrored_face_is_all_fold():
    columns = np.arange(SIDE)
    assert fold_percent(flow(-2.0 * columns), SQUARE) == 100


def test_columns_that_go_backwards_are_counted_within_the_face_alone():
    places = np.arange(SIDE, dtype=float)
    places[[5, 6]] = 6, 5  # one of the nine columns steps back; the step from 4 to 6 and that from 5 to 7 are stretched
    places[[13, 14]] = 14, 13  # beside the face
    assert fold_percent(flow(places - np.arange(SIDE)), SQUARE) == pytest.approx(100 / 9)


def test_a_face_outside_of_the_picture_has_no_share():
    assert np.isnan(fold_percent(flow(), SQUARE + 100))
