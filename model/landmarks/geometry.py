"""Geometry of the 68 iBUG landmarks: parts, their sizes, and the heatmap (thesis 3.2).

Landmarks are float (x, y) pixels with pixel centres at integers. "Left" is the person's left.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from model.batch import NUM_LANDMARKS
from model.errors import ConfigError

FloatArray = npt.NDArray[np.floating]

PARTS: dict[str, tuple[int, ...]] = {
    "left_eye": tuple(range(42, 48)),
    "right_eye": tuple(range(36, 42)),
    "nose": tuple(range(27, 36)),
    "mouth": tuple(range(48, 68)),
}
"""The four individually reenacted parts (thesis 3.2) and their landmark indices."""

CURVES: tuple[tuple[tuple[int, ...], bool], ...] = (
    (tuple(range(17)), False),  # face outline
    (tuple(range(17, 22)), False),  # right brow
    (tuple(range(22, 27)), False),  # left brow
    (tuple(range(27, 31)), False),  # bridge of the nose
    (tuple(range(31, 36)), False),  # nostrils
    (tuple(range(36, 42)), True),  # right eye
    (tuple(range(42, 48)), True),  # left eye
    (tuple(range(48, 60)), True),  # outer lips
    (tuple(range(60, 68)), True),  # inner lips
)
"""Indices of each drawn curve and whether it is closed."""

INNER_LIP_PAIRS = ((61, 67), (62, 66), (63, 65))
"""Upper and lower inner lip."""
LID_PAIRS = ((37, 41), (38, 40), (43, 47), (44, 46))
"""Upper and lower lid; the first two of the eye at landmark 36."""
OUTER_EYE_CORNERS = (36, 45)
"""Image left first."""

_PART_MARGIN = 1.5  # a part wider open than the average still fits its crop
_PART_MULTIPLE_PX = 4  # two max pools
_SAMPLES_PER_SEGMENT = 6
_SUBPIXEL_BITS = 4


@dataclass(frozen=True, slots=True)
class PartSizes:
    """Fixed crop size of each part, in the order of `PARTS`; agreed by all sites before round 1."""

    heights_px: tuple[int, int, int, int]
    widths_px: tuple[int, int, int, int]

    @classmethod
    def from_mean(cls, mean_P2: FloatArray, size_px: int) -> PartSizes:
        """Crop sizes from the mean (height, width) of each part over all sites' frames (thesis 3.2).

        The mean box is enlarged by half, so that a mouth wider open than average still fits, and rounded up
        to a multiple of 4 px for the two max pools.

        Args:
            mean_P2: [4, 2] float mean (height, width) in pixels of a `size_px` frame.
            size_px: side of the frame; no crop is larger.
        """
        largest = size_px // _PART_MULTIPLE_PX * _PART_MULTIPLE_PX
        padded = np.ceil(np.asarray(mean_P2) * _PART_MARGIN / _PART_MULTIPLE_PX) * _PART_MULTIPLE_PX
        sizes = np.clip(padded, 2 * _PART_MULTIPLE_PX, largest).astype(int)
        return cls(tuple(sizes[:, 0].tolist()), tuple(sizes[:, 1].tolist()))

    def to_flat(self) -> dict[str, int]:
        """Kebab-case scalars, as they travel to the clients and into checkpoints."""
        flat: dict[str, int] = {}
        for part, height, width in zip(PARTS, self.heights_px, self.widths_px, strict=True):
            name = part.replace("_", "-")
            flat |= {f"part-height-px-{name}": height, f"part-width-px-{name}": width}
        return flat

    @classmethod
    def from_flat(cls, flat: Mapping[str, object]) -> PartSizes:
        """The inverse of `to_flat`; other keys are ignored.

        Raises:
            ConfigError: if a part is missing or is not a whole number.
        """

        def sizes(kind: str) -> tuple[int, int, int, int]:
            values = [flat.get(f"part-{kind}-px-{part.replace('_', '-')}") for part in PARTS]
            if not all(isinstance(value, int) and value > 0 for value in values):
                raise ConfigError(f"part sizes: got {kind} {values}, wanted four whole numbers of pixels > 0")
            return tuple(values)  # type: ignore[return-value]

        return cls(sizes("height"), sizes("width"))

    def check_within(self, size_px: int) -> None:
        """Check that `from_mean` could have made these sizes for a frame of side `size_px`.

        Raises:
            ConfigError: if a side is larger than the frame or smaller than two max pools need, or no multiple of 4.
        """
        sides = (*self.heights_px, *self.widths_px)
        if not all(2 * _PART_MULTIPLE_PX <= side <= size_px and side % _PART_MULTIPLE_PX == 0 for side in sides):
            raise ConfigError(
                f"part sizes: got heights {self.heights_px} and widths {self.widths_px}, wanted multiples of "
                f"{_PART_MULTIPLE_PX} px from {2 * _PART_MULTIPLE_PX} to {size_px}"
            )


def mean_part_sizes_px(landmarks_FKC: FloatArray) -> npt.NDArray[np.float64]:
    """Mean bounding-box (height, width) of each part over F frames.

    Args:
        landmarks_FKC: [F, 68, 2] float (x, y) pixels.

    Returns:
        [4, 2] float64 (height, width) in pixels, rows in the order of `PARTS`.
    """
    rows = []
    for indices in PARTS.values():
        points = landmarks_FKC[:, list(indices)].astype(np.float64)
        extent_xy = (points.max(axis=1) - points.min(axis=1)).mean(axis=0)
        rows.append(extent_xy[::-1])
    return np.stack(rows)


def pair_distances(landmarks_XKC: FloatArray, pairs: Sequence[tuple[int, int]]) -> FloatArray:
    """Distance between the two landmarks of each pair.

    Args:
        landmarks_XKC: [..., 68, 2] (x, y) in any unit.
        pairs: P >= 1 pairs of indices.

    Returns:
        [..., P] in the same unit.
    """
    first_P, second_P = np.array(pairs).T
    distances_XP: FloatArray = np.linalg.norm(landmarks_XKC[..., first_P, :] - landmarks_XKC[..., second_P, :], axis=-1)
    return distances_XP


def eye_distance(landmarks_KC: FloatArray) -> float:
    """Distance of the outer eye corners of [68, 2] landmarks, in their unit; at least 1e-6."""
    return max(float(np.linalg.norm(np.subtract(*landmarks_KC[list(OUTER_EYE_CORNERS)]))), 1e-6)


def rescaled(
    landmarks_XC: npt.NDArray[Any], from_px: float, to_px: float, corner_C: npt.NDArray[np.int64] | float = 0.0
) -> npt.NDArray[Any]:
    """Landmarks of a square in pixels of the same square resized: x' = (x + 0.5 - corner) * to_px / from_px - 0.5.

    Args:
        landmarks_XC: [..., 2] (x, y) in pixels of the picture, pixel centres at integers.
        from_px: side of the square, > 0.
        to_px: side after resizing, > 0.
        corner_C: [2] column and row of the square's first pixel; 0 where the square is the picture.

    Returns:
        [..., 2] of the dtype of `landmarks_XC`, float64 with a corner.
    """
    return (landmarks_XC + 0.5 - corner_C) * (to_px / from_px) - 0.5


def draw_heatmap(landmarks_KC: FloatArray, size_px: int) -> npt.NDArray[np.float32]:
    """Landmarks drawn as points joined by B-spline curves on black (thesis 3.2).

    Args:
        landmarks_KC: [68, 2] float (x, y) pixels; points outside of the frame are clipped away by drawing.
        size_px: side S of the heatmap.

    Returns:
        [S, S] float32 in [0, 1].
    """
    canvas = np.zeros((size_px, size_px), np.uint8)
    fixed = np.rint(_curve_points(landmarks_KC) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    curves = [fixed[part] for part in _curve_slices()]
    cv2.polylines(canvas, curves, False, 255, max(1, round(size_px / 112)), cv2.LINE_AA, _SUBPIXEL_BITS)
    return canvas.astype(np.float32) / 255.0


def _curve_points(landmarks_KC: FloatArray) -> npt.NDArray[np.float64]:
    return _drawing_matrix() @ np.asarray(landmarks_KC, np.float64)


@functools.cache
def _drawing_matrix() -> npt.NDArray[np.float64]:
    """[P, 68] matrix that maps landmarks to the P points of all curves."""
    rows = []
    for indices, closed in CURVES:
        block = interpolating_spline_matrix(len(indices), closed=closed)
        full = np.zeros((len(block), NUM_LANDMARKS))
        full[:, list(indices)] = block
        rows.append(full)
    return np.concatenate(rows)


@functools.cache
def _curve_slices() -> tuple[slice, ...]:
    slices, start = [], 0
    for indices, closed in CURVES:
        num_points = (len(indices) if closed else len(indices) - 1) * _SAMPLES_PER_SEGMENT + 1
        slices.append(slice(start, start + num_points))
        start += num_points
    return tuple(slices)


def interpolating_spline_matrix(num_knots: int, *, closed: bool) -> npt.NDArray[np.float64]:
    """Matrix M with `points = M @ knots` on the uniform cubic B-spline that passes through the knots.

    Control points c solve (c[i-1] + 4 c[i] + c[i+1]) / 6 = knot[i]; an open curve ends with zero curvature.

    Args:
        num_knots: number of knots n >= 4.
        closed: whether the last knot joins the first.

    Returns:
        [P, n] float64, rows summing to 1; P is 6 samples a segment and the end point.
    """
    n = num_knots
    to_knots = (4 * np.eye(n) + np.eye(n, k=1) + np.eye(n, k=-1)) / 6
    if closed:
        to_knots[0, -1] = to_knots[-1, 0] = 1 / 6
    else:  # zero curvature: the phantom control point is 2 c[0] - c[1], which makes c[0] = knot[0]
        to_knots[0], to_knots[-1] = np.eye(n)[0], np.eye(n)[-1]
    control = np.linalg.inv(to_knots)
    if closed:
        control = np.concatenate([control[-1:], control, control[:2]])
    else:
        control = np.concatenate([2 * control[:1] - control[1:2], control, 2 * control[-1:] - control[-2:-1]])
    num_segments = n if closed else n - 1
    t = np.arange(_SAMPLES_PER_SEGMENT) / _SAMPLES_PER_SEGMENT
    basis = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    segments = [basis @ control[i : i + 4] for i in range(num_segments)]
    end = np.array([[1, 4, 1]]) / 6 @ control[num_segments : num_segments + 3]
    return np.concatenate([*segments, end])
