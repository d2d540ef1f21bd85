"""Irises: where they are in their eyes, without head pose and shape of the face; carried to another face; drawn.

Legend: K = 68 landmarks, C coordinates, E = 2 eyes, the one at landmark 36 first. Pixel centres are at integers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.landmarks.geometry import LID_PAIRS, pair_distances

_EYE_CORNERS = ((36, 39), (42, 45))
"""iBUG landmarks of each eye, from image left to image right."""

_CLOSED_EYE_WIDTHS = 0.15
"""Gap of the lids below which no iris is seen; eyes of five people that look ahead have 0.2 to 0.45."""
_RADIUS_EYE_WIDTHS = 0.2
"""An iris is 12 mm wide, an eye 30."""
_SMALLEST = 1e-12


def gaze_EC(landmarks_KC: NDArray[np.floating], irises_EC: NDArray[np.floating]) -> NDArray[np.float64]:
    """Iris centres from the middles of the eyes' corners, along and across the line through them, in eye widths.

    Args:
        landmarks_KC: [..., 68, 2] (x, y) pixels.
        irises_EC: [..., 2, 2] pixels of the same pictures.

    Returns:
        [..., 2, 2] (along, across).
    """
    middle_EC, along_EC, across_EC = _eye_axes(landmarks_KC)
    offset_EC = irises_EC - middle_EC
    square_E = np.maximum((along_EC**2).sum(axis=-1), _SMALLEST)
    return np.stack([(offset_EC * axis_EC).sum(axis=-1) / square_E for axis_EC in (along_EC, across_EC)], axis=-1)


def carried(
    irises_EC: NDArray[np.floating], landmarks_KC: NDArray[np.floating], target_KC: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Irises that look out of other eyes as these do: the same `gaze_EC`.

    Args:
        irises_EC: [2, 2] pixels.
        landmarks_KC: [68, 2] of the same face.
        target_KC: [68, 2] of the face to which they are carried.

    Returns:
        [2, 2] float32 pixels.
    """
    gaze = gaze_EC(landmarks_KC, irises_EC)
    middle_EC, along_EC, across_EC = _eye_axes(target_KC)
    return np.asarray(middle_EC + gaze[:, :1] * along_EC + gaze[:, 1:] * across_EC, np.float32)


def are_open_E(landmarks_KC: NDArray[np.floating]) -> NDArray[np.bool_]:
    """[..., 2] whether the lids of each eye of [..., 68, 2] landmarks are far enough apart to show an iris."""
    _, along_EC, _ = _eye_axes(landmarks_KC)
    gaps_P = pair_distances(landmarks_KC, LID_PAIRS)
    gap_E = gaps_P.reshape(*gaps_P.shape[:-1], 2, -1).mean(axis=-1)
    return np.asarray(gap_E > _CLOSED_EYE_WIDTHS * np.linalg.norm(along_EC, axis=-1))


def draw_irises(
    landmarks_KC: NDArray[np.floating], irises_EC: NDArray[np.floating] | None, size_px: int
) -> NDArray[np.float32]:
    """Irises as white discs on black, a fifth of their eye's width in radius; none behind closed lids.

    Args:
        landmarks_KC: [68, 2] (x, y) pixels.
        irises_EC: [2, 2] pixels; None draws nothing.
        size_px: side S of the drawing.

    Returns:
        [S, S] float32 in [0, 1].
    """
    drawing_HW = np.zeros((size_px, size_px), np.float32)
    if irises_EC is None:
        return drawing_HW
    is_open_E = are_open_E(landmarks_KC)
    radius_E = _RADIUS_EYE_WIDTHS * np.linalg.norm(_eye_axes(landmarks_KC)[1], axis=1)
    ys, xs = np.ogrid[:size_px, :size_px]
    for (x, y), radius in zip(irises_EC[is_open_E], radius_E[is_open_E], strict=True):
        disc_HW = np.clip(radius + 0.5 - np.hypot(xs - x, ys - y), 0, 1)  # a border one pixel wide is half covered
        np.maximum(drawing_HW, disc_HW, out=drawing_HW, casting="same_kind")
    return drawing_HW


def _eye_axes(
    landmarks_KC: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """[..., 2, 2] middle of each eye's corners, the way from one to the other, and that turned by a right angle."""
    first_EC, last_EC = (
        landmarks_KC[..., list(side), :].astype(np.float64) for side in zip(*_EYE_CORNERS, strict=True)
    )
    along_EC = last_EC - first_EC
    return (first_EC + last_EC) / 2, along_EC, along_EC[..., ::-1] * [-1, 1]
