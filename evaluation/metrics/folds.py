"""Where a flow tears a face: it folds there, so that a part of the face is shown twice or turned inside out."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def fold_percent(flow_CHW: NDArray[np.floating], landmarks_KC: NDArray[np.floating]) -> float:
    """Share of the face on which the flow reverses its sense of turning, in percent.

    Those are the pixels in the convex hull of the landmarks where the map from the result to the source has a negative
    Jacobian determinant, by differences to the next pixel.

    Args:
        flow_CHW: [2, S, S] offsets to the source as in `model.networks.warping`, in half frames.
        landmarks_KC: [68, 2] (x, y) pixels, where the result has its face.

    Returns:
        0 to 100; NaN if the hull has no pixel of the frame in it.
    """
    side_px = flow_CHW.shape[-1]
    rows, columns = np.mgrid[:side_px, :side_px]
    x_HW, y_HW = columns + flow_CHW[0] * side_px / 2, rows + flow_CHW[1] * side_px / 2
    (x_along, x_down), (y_along, y_down) = (_steps(place_HW) for place_HW in (x_HW, y_HW))
    is_face_HW = _hull(landmarks_KC, side_px)[:-1, :-1]
    if not is_face_HW.any():
        return float("nan")
    return float(100 * (x_along * y_down - x_down * y_along < 0)[is_face_HW].mean())


def _steps(place_HW: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Differences to the pixel on the right and to the one below, both [S - 1, S - 1]."""
    here = place_HW[:-1, :-1]
    return place_HW[:-1, 1:] - here, place_HW[1:, :-1] - here


def _hull(landmarks_KC: NDArray[np.floating], side_px: int) -> NDArray[np.bool_]:
    """[S, S], true within the convex hull of the landmarks."""
    hull = cv2.convexHull(np.asarray(landmarks_KC, np.float32))
    filled_HW = cv2.fillConvexPoly(np.zeros((side_px, side_px), np.uint8), np.round(hull).astype(np.int32), 1)
    return np.asarray(filled_HW, bool)
