"""Steady square crops of head and shoulders, and landmarks moved along with them.

A clip is first cut into takes wherever the face jumps (a film cut). Within a take the box stays put while the
head stays near, and follows slowly when the head travels. Landmark noise therefore never moves the picture.
The box stays inside the picture wherever that leaves the landmarks inside the box.

Legend: F frames, H, W picture size, K = 68 landmarks, C coordinates (x, y).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model.landmarks.geometry import rescaled

FACE_TO_BOX = 2.2
"""Side of the wanted box in face sizes; hair and shoulders fit, as in CelebV and VoxCeleb crops."""
MIN_FACE_TO_BOX = 1.6
"""A tightly framed picture is used whole, down to this many face sizes, before its border is continued."""
STILL_RADIUS = 0.35
"""A head that stays this near (in face sizes) to its middle place gets a box that never moves,"""
STILL_GROWTH = 1.5
"""unless the face becomes this many times larger within the take."""
JUMP_DISTANCE = 0.5
"""A face that moves further than this (in face sizes) from one frame to the next is a film cut."""
JUMP_GROWTH = 1.4
"""A face that grows or shrinks by this factor from one frame to the next is a film cut."""
FOLLOW_S = 1.0
"""Standard deviation of the Gaussian that smooths the path of a travelling box, seconds."""


@dataclass(frozen=True, slots=True)
class CropBox:
    """A square in the full picture; its corners may lie outside of it."""

    left: int
    """Column of the first pixel."""
    top: int
    """Row of the first pixel."""
    side: int
    """Width and height in pixels, > 0."""

    def to_crop(self, landmarks_KC: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
        """Landmarks of the full picture in pixels of the crop of `size_px`.

        Args:
            landmarks_KC: [K, 2] (x, y), pixel centres at integers.
            size_px: side of the resized crop.

        Returns:
            [K, 2] float32.
        """
        corner = np.array([self.left, self.top])
        return np.asarray(rescaled(landmarks_KC, self.side, size_px, corner), np.float32)

    def to_picture(self, landmarks_KC: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
        """The inverse of `to_crop`."""
        crop_in_box_KC = rescaled(landmarks_KC, size_px, self.side)
        return np.asarray(crop_in_box_KC + np.array([self.left, self.top]), np.float32)


def single_image_box(landmarks_KC: NDArray[np.float32], image_HW: tuple[int, int]) -> CropBox:
    """The box of one picture.

    Args:
        landmarks_KC: [68, 2] (x, y) pixels.
        image_HW: height and width of the picture.
    """
    return steady_boxes(landmarks_KC[None], np.zeros(1), image_HW)[0]


def find_takes(
    landmarks_FKC: NDArray[np.float32], frame_index_F: NDArray[np.int64], image_FHW: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Number the takes of a clip: a new one starts where the face jumps, or face or picture changes size.

    Args:
        landmarks_FKC: [F, 68, 2] of the frames that have a face, F >= 1.
        frame_index_F: [F] their rising positions in the clip; the allowed movement grows with a gap.
        image_FHW: [F, 2] height and width of each picture.

    Returns:
        [F] int64, 0 for the first take.
    """
    centre_FC, size_F = _face_boxes(landmarks_FKC)
    gap = np.minimum(np.diff(frame_index_F), 5)
    moved = np.linalg.norm(np.diff(centre_FC, axis=0), axis=1) / np.minimum(size_F[1:], size_F[:-1])
    growth = np.abs(np.log(size_F[1:] / size_F[:-1]))
    is_cut = (moved > JUMP_DISTANCE * gap) | (growth > np.log(JUMP_GROWTH) * gap)
    is_cut |= np.diff(image_FHW, axis=0).any(axis=1)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(is_cut)])


def steady_boxes(
    landmarks_FKC: NDArray[np.float32], timestamp_s: NDArray[np.float64], image_HW: tuple[int, int]
) -> list[CropBox]:
    """One box for each frame of a take: all the same, or following a travelling head slowly.

    Args:
        landmarks_FKC: [F, 68, 2] (x, y) pixels.
        timestamp_s: [F] rising, seconds.
        image_HW: height and width of the pictures.

    Returns:
        F boxes.
    """
    centre_FC, size_F = _face_boxes(landmarks_FKC)
    size = float(np.median(size_F))
    middle_C = (np.quantile(centre_FC, 0.05, axis=0) + np.quantile(centre_FC, 0.95, axis=0)) / 2
    distance_F = np.linalg.norm(centre_FC - middle_C, axis=1) / size
    is_near = np.quantile(distance_F, 0.98) <= STILL_RADIUS
    if is_near and np.quantile(size_F, 0.98) <= STILL_GROWTH * np.quantile(size_F, 0.02):
        low_C = np.quantile(landmarks_FKC.min(axis=1), 0.01, axis=0)
        high_C = np.quantile(landmarks_FKC.max(axis=1), 0.99, axis=0)
        return [_box(middle_C, size, (low_C, high_C), image_HW)] * len(centre_FC)
    path = _smoothed(np.column_stack([centre_FC, size_F]), timestamp_s)
    return [
        _box(xy, face, (xy - face / 2, xy + face / 2), image_HW)
        for xy, face in zip(path[:, :2], path[:, 2], strict=True)
    ]


def crop_and_resize(image_HWC: NDArray[np.uint8], box: CropBox, size_px: int) -> NDArray[np.uint8]:
    """The square of `box`, resized; beyond the picture its border pixels are repeated.

    Args:
        image_HWC: [H, W, 3] uint8 RGB.
        box: where to cut.
        size_px: side of the result.

    Returns:
        [size_px, size_px, 3] uint8 RGB, averaged over areas when shrinking.
    """
    square = _cut_out(image_HWC, box)
    interpolation = cv2.INTER_AREA if box.side > size_px else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (size_px, size_px), interpolation=interpolation), np.uint8)


def _cut_out(image_HWC: NDArray[np.uint8], box: CropBox) -> NDArray[np.uint8]:
    """The square of `box`, a view where it lies inside the picture: copying is most of the work on large ones."""
    (top, above, below), (left, before, after) = (
        _span(start, box.side, length) for start, length in zip((box.top, box.left), image_HWC.shape, strict=False)
    )
    inside = image_HWC[top : top + box.side - above - below, left : left + box.side - before - after]
    if not (above or below or before or after):
        return inside
    return np.asarray(cv2.copyMakeBorder(inside, above, below, before, after, cv2.BORDER_REPLICATE), np.uint8)


def _span(start: int, side: int, length: int) -> tuple[int, int, int]:
    """First pixel inside a picture's side, and how many lie before and after it; one pixel at least is inside."""
    before = min(max(-start, 0), side - 1)
    after = min(max(start + side - length, 0), side - 1)
    return min(max(start, 0), length - 1), before, after


def _face_boxes(landmarks_FKC: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre [F, 2] of the landmarks' bounding box and face size [F], its longer side."""
    low_FC = landmarks_FKC.min(axis=1).astype(np.float64)
    high_FC = landmarks_FKC.max(axis=1).astype(np.float64)
    return (low_FC + high_FC) / 2 + 0.5, np.maximum((high_FC - low_FC).max(axis=1), 1.0)


def _box(
    centre_C: NDArray[np.float64],
    face_size: float,
    face_range: tuple[NDArray[np.float64], NDArray[np.float64]],
    image_HW: tuple[int, int],
) -> CropBox:
    """The box around a centre: inside the picture if it fits, but never cutting `face_range` (low, high)."""
    height_px, width_px = image_HW
    fitting = max(min(height_px, width_px), MIN_FACE_TO_BOX * face_size)
    side = round(min(FACE_TO_BOX * face_size, fitting))
    length_C = np.array([width_px, height_px])
    inside_C = np.clip(centre_C - side / 2, np.minimum(0, length_C - side), np.maximum(0, length_C - side))
    low_C, high_C = face_range
    left, top = np.maximum(np.minimum(inside_C, low_C), high_C + 1 - side)
    return CropBox(left=round(float(left)), top=round(float(top)), side=side)


def _smoothed(path_FC: NDArray[np.float64], timestamp_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian average over time of each column [F, C]; timestamps may be uneven."""
    result = np.empty_like(path_FC)
    for frame, now in enumerate(timestamp_s):
        near = slice(*np.searchsorted(timestamp_s, (now - 3 * FOLLOW_S, now + 3 * FOLLOW_S)))
        weight = np.exp(-0.5 * ((timestamp_s[near] - now) / FOLLOW_S) ** 2)
        result[frame] = weight @ path_FC[near] / weight.sum()
    return result
