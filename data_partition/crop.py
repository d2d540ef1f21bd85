"""Steady square crops of head and shoulders, and landmarks moved along with them.

A clip is first cut into takes wherever the face jumps (a film cut). Within a take the box keeps one size; it stays put
while the head stays near, and follows slowly when the head travels. Landmark noise therefore never moves the picture.

Legend: F frames, K = 68 landmarks, C coordinates (x, y). A box is (left, top, side) in pixels of the full picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FACE_TO_BOX = 2.2
"""Side of the wanted box in face sizes; hair and shoulders fit, as in CelebV and VoxCeleb crops."""
MIN_FACE_TO_BOX = 1.6
"""A tightly framed picture is used whole, down to this many face sizes, before its border is continued."""
MAX_SHIFT = 0.15
"""The box moves off the face's centre by at most this share of its side to stay inside the picture."""
STILL_RADIUS = 0.35
"""A head that stays this near (in face sizes) to its middle place gets a box that never moves."""
JUMP_DISTANCE = 0.5
"""A face that moves further than this (in face sizes) from one frame to the next is a film cut."""
JUMP_GROWTH = 1.4
"""A face that grows or shrinks by this factor from one frame to the next is a film cut."""
FOLLOW_S = 1.0
"""Standard deviation of the Gaussian that smooths the path of a travelling box, seconds."""


@dataclass(frozen=True, slots=True)
class CropBox:
    """A square in the full picture; its corners may lie outside of it."""

    left: float
    """x of the left edge (edges are half a pixel left of pixel centres)."""
    top: float
    """y of the top edge."""
    side: float
    """Width and height, > 0."""

    def to_crop(self, landmarks_KC: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
        """Landmarks of the full picture in pixels of the crop of `size_px`: x' = (x + 0.5 - left) s - 0.5.

        Args:
            landmarks_KC: [K, 2] (x, y), pixel centres at integers.
            size_px: side of the resized crop.

        Returns:
            [K, 2] float32.
        """
        corner = np.array([self.left, self.top])
        return ((landmarks_KC + 0.5 - corner) * (size_px / self.side) - 0.5).astype(np.float32)


def single_image_box(landmarks_KC: NDArray[np.float32], height_px: int, width_px: int) -> CropBox:
    """The box of one picture.

    Args:
        landmarks_KC: [68, 2] (x, y) pixels.
        height_px: height of the picture.
        width_px: width of the picture.
    """
    centre_FC, size_F = _face_boxes(landmarks_KC[None])
    return _box(centre_FC[0], float(size_F[0]), height_px, width_px)


def find_takes(landmarks_FKC: NDArray[np.float32], frame_index_F: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the takes of a clip: a new one starts where the face jumps or changes size at once.

    Args:
        landmarks_FKC: [F, 68, 2] of the frames that have a face.
        frame_index_F: [F] their rising positions in the clip; the allowed movement grows with a gap.

    Returns:
        [F] int64, 0 for the first take.
    """
    centre_FC, size_F = _face_boxes(landmarks_FKC)
    gap = np.minimum(np.diff(frame_index_F), 5)
    moved = np.linalg.norm(np.diff(centre_FC, axis=0), axis=1) / np.minimum(size_F[1:], size_F[:-1])
    growth = np.abs(np.log(size_F[1:] / size_F[:-1]))
    is_cut = (moved > JUMP_DISTANCE * gap) | (growth > np.log(JUMP_GROWTH) * gap)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(is_cut)])


def steady_boxes(
    landmarks_FKC: NDArray[np.float32],
    timestamp_s: NDArray[np.float64],
    height_px: int,
    width_px: int,
) -> list[CropBox]:
    """One box for each frame of a take: all the same, or following a travelling head slowly.

    Args:
        landmarks_FKC: [F, 68, 2] (x, y) pixels.
        timestamp_s: [F] rising, seconds.
        height_px: height of the pictures.
        width_px: width of the pictures.

    Returns:
        F boxes of one size.
    """
    centre_FC, size_F = _face_boxes(landmarks_FKC)
    size = float(np.median(size_F))
    middle_C = (np.quantile(centre_FC, 0.05, axis=0) + np.quantile(centre_FC, 0.95, axis=0)) / 2
    distance_F = np.linalg.norm(centre_FC - middle_C, axis=1) / size
    if np.quantile(distance_F, 0.98) <= STILL_RADIUS:
        return [_box(middle_C, size, height_px, width_px)] * len(centre_FC)
    path_FC = _smoothed(centre_FC, timestamp_s)
    return [_box(centre_C, size, height_px, width_px) for centre_C in path_FC]


def crop_and_resize(image_HWC: NDArray[np.uint8], box: CropBox, size_px: int) -> NDArray[np.uint8]:
    """The square of `box`, resized; beyond the picture its border pixels are repeated.

    Args:
        image_HWC: [H, W, 3] uint8 RGB.
        box: where to cut, at sub-pixel accuracy.
        size_px: side of the result.

    Returns:
        [size_px, size_px, 3] uint8 RGB, averaged over areas when shrinking.
    """
    side = max(1, round(box.side))
    x0, y0 = round(box.left), round(box.top)
    height, width = image_HWC.shape[:2]
    inside = image_HWC[max(0, y0) : max(0, y0 + side), max(0, x0) : max(0, x0 + side)]
    top, left = max(0, -y0), max(0, -x0)
    bottom, right = max(0, y0 + side - height), max(0, x0 + side - width)
    if top or left or bottom or right:
        inside = cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_REPLICATE)
    interpolation = cv2.INTER_AREA if side > size_px else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(inside, (size_px, size_px), interpolation=interpolation), np.uint8)


def _face_boxes(landmarks_FKC: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre [F, 2] of the landmarks' bounding box and face size [F], its longer side."""
    low_FC = landmarks_FKC.min(axis=1).astype(np.float64)
    high_FC = landmarks_FKC.max(axis=1).astype(np.float64)
    return (low_FC + high_FC) / 2 + 0.5, np.maximum((high_FC - low_FC).max(axis=1), 1.0)


def _box(centre_C: NDArray[np.float64], face_size: float, height_px: int, width_px: int) -> CropBox:
    fitting = max(min(height_px, width_px), MIN_FACE_TO_BOX * face_size)
    side = round(min(FACE_TO_BOX * face_size, fitting))
    corner = []
    for middle, length in zip(centre_C, (width_px, height_px), strict=True):
        start = middle - side / 2
        inside = np.clip(start, 0, length - side) if length >= side else (length - side) / 2
        corner.append(round(float(np.clip(inside, start - MAX_SHIFT * side, start + MAX_SHIFT * side))))
    return CropBox(left=corner[0], top=corner[1], side=side)


def _smoothed(path_FC: NDArray[np.float64], timestamp_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian average of a path over time [F, 2]; works for uneven timestamps in constant memory."""
    result = np.empty_like(path_FC)
    for frame, now in enumerate(timestamp_s):
        near = slice(*np.searchsorted(timestamp_s, (now - 3 * FOLLOW_S, now + 3 * FOLLOW_S)))
        weight = np.exp(-0.5 * ((timestamp_s[near] - now) / FOLLOW_S) ** 2)
        result[frame] = weight @ path_FC[near] / weight.sum()
    return result
