"""Promises of model.landmarks.irises, by numbers made by hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.landmarks.irises import are_open_E, carried, draw_irises, gaze_EC


def face_with_eyes(width_px: float, corner: tuple[float, float] = (0, 0), gap: float = 0.3) -> NDArray[np.float32]:
    """Level eyes of a width, two widths apart; the first begins at `corner`, lids lie `gap` widths apart."""
    landmarks_KC = np.zeros((68, 2), np.float32)
    for first, left in ((36, corner[0]), (42, corner[0] + 2 * width_px)):
        eye = [(0, 0), (1 / 3, -1), (2 / 3, -1), (1, 0), (2 / 3, 1), (1 / 3, 1)]
        landmarks_KC[first : first + 6] = [(left + x * width_px, corner[1] + y * gap * width_px / 2) for x, y in eye]
    return landmarks_KC


def turned(points_XC: NDArray[np.float32]) -> NDArray[np.float32]:
    """A quarter turn: to the right becomes down."""
    return points_XC @ np.array([[0, 1], [-1, 0]], np.float32)


IRISES = np.array([[7, 1], [25, 0]], np.float32)
"""Of eyes 10 px wide at (0, 0): two to the right of the middle and one down; in the middle."""


def test_gaze_is_the_way_from_the_middle_of_the_corners_in_eye_widths() -> None:
    np.testing.assert_allclose(gaze_EC(face_with_eyes(10), IRISES), [[0.2, 0.1], [0, 0]], atol=1e-7)


def test_irises_are_carried_by_eye_width_and_with_the_tilt_of_the_head() -> None:
    small, large = face_with_eyes(10), face_with_eyes(20, corner=(100, 50))
    np.testing.assert_allclose(carried(IRISES, small, large), [[114, 52], [150, 50]])
    np.testing.assert_allclose(carried(IRISES, small, turned(small)), turned(IRISES), atol=1e-5)


def test_irises_carried_to_their_own_face_stay() -> None:
    np.testing.assert_allclose(carried(IRISES, face_with_eyes(10), face_with_eyes(10)), IRISES, atol=1e-6)


def test_lids_a_sixth_of_the_width_apart_are_open_a_seventh_is_closed() -> None:
    assert are_open_E(face_with_eyes(10, gap=1 / 6)).tolist() == [True, True]
    assert are_open_E(face_with_eyes(10, gap=1 / 7)).tolist() == [False, False]
    winking = face_with_eyes(10)
    winking[42:48, 1] = 0
    assert are_open_E(winking).tolist() == [True, False]


def test_an_iris_is_a_disc_of_a_fifth_of_the_eye_width_at_its_place() -> None:
    drawing = draw_irises(face_with_eyes(20, corner=(10, 30)), np.array([[22, 31], [60, 30]], np.float32), 80)
    assert drawing.shape == (80, 80) and drawing.dtype == np.float32
    assert abs(drawing.sum() - 2 * np.pi * 4**2) < 10
    ys, xs = np.indices(drawing.shape)
    first = drawing * (xs < 40)
    centre = [(first * xs).sum() / first.sum(), (first * ys).sum() / first.sum()]
    np.testing.assert_allclose(centre, [22, 31], atol=0.05)
    assert drawing[31, 22] == 1 and drawing[31, 22 + 6] == 0


def test_places_between_pixels_show() -> None:
    face_KC = face_with_eyes(5, corner=(10, 20))
    drawings = [draw_irises(face_KC, np.array([[x, 20], [22.5, 20]], np.float32), 40) for x in (12.0, 12.5)]
    xs = np.arange(20)
    means = [(drawing[:, :20].sum(axis=0) * xs).sum() / drawing[:, :20].sum() for drawing in drawings]
    np.testing.assert_allclose(means, [12.0, 12.5], atol=0.1)


def test_behind_closed_lids_and_without_irises_nothing_is_drawn() -> None:
    irises_EC = np.array([[20, 30], [60, 30]], np.float32)
    winking = face_with_eyes(20, corner=(10, 30))
    winking[42:48, 1] = 30
    drawing = draw_irises(winking, irises_EC, 80)
    assert drawing[:, :40].max() == 1 and drawing[:, 40:].max() == 0
    assert draw_irises(winking, None, 80).max() == 0
