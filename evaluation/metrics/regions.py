"""Mouth and eyes cut out of a picture, pixel for pixel.

Legend: K = 68 landmarks, C coordinates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.frames import Frame
from model.landmarks.geometry import eye_distance

PARTS = {"mouth": slice(48, 68), "eyes": slice(36, 48)}
"""Name to its landmarks."""

_WIDTH_EYE_DISTANCES = 1.6
_HEIGHT_EYE_DISTANCES = 0.8
_MIN_SIDE_PX = 8


def cut_out(frame_HWC: Frame, landmarks_KC: NDArray[np.floating], part: str) -> Frame:
    """The pixels about one part of the face, 1.6 times as wide and 0.8 times as high as the eyes are apart.

    Nothing is resampled. Beyond the picture its border is repeated.

    Args:
        frame_HWC: uint8 [H, W, 3] RGB.
        landmarks_KC: [68, 2] (x, y) pixels of the frame.
        part: a key of `PARTS`; the box is centred on the mean of its landmarks.
    """
    return frame_HWC[part_pixels(frame_HWC, landmarks_KC, part)]


def part_pixels(
    frame_HWC: Frame, landmarks_KC: NDArray[np.floating], part: str
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where `cut_out` takes its pixels: ([h, 1] rows, [1, w] columns), which index a frame."""
    centre_x, centre_y = landmarks_KC[PARTS[part]].mean(axis=0)
    distance = min(eye_distance(landmarks_KC), frame_HWC.shape[1])
    rows = _span(centre_y, _HEIGHT_EYE_DISTANCES * distance, frame_HWC.shape[0])
    columns = _span(centre_x, _WIDTH_EYE_DISTANCES * distance, frame_HWC.shape[1])
    return rows[:, None], columns[None]


def _span(centre: float, length: float, side_px: int) -> NDArray[np.intp]:
    """Indices of about `length` pixels around a centre, held within the picture."""
    size = max(_MIN_SIDE_PX, round(length))
    start = round(float(centre) - (size - 1) / 2)
    return np.clip(np.arange(start, start + size), 0, side_px - 1)
