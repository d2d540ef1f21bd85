"""A tracked clip without jitter and without gaps, for driving: frames without a face are bridged, the rest is smoothed.

Legend: F frames of one take, B some of them, W frames of a window, D numbers of a polynomial, X numbers of a frame,
K = 68 landmarks, C coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from data_partition.faces.face_table import FaceTable, Rows
from data_partition.faces.track import TrackedClip
from model.networks.landmark_base import MAX_AU_INTENSITY

WINDOW_FRAMES = 7
"""Of which a frame is the middle, or as near to it as the ends of a take allow."""
HEAD_DEGREE, EXPRESSION_DEGREE = 2, 4
"""Of the polynomials: a parabola takes most noise from the slow head; lips and lids, which open and close within a few
frames, would lose up to a fifth of their movement by it."""
_EXPRESSION = slice(36, 68)
"""Landmarks of eyes and mouth."""

_BLOCK_FRAMES = 4096
"""Of which the polynomials are fitted at once: of an hour they would take gigabytes."""

Array = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """Successive frames of a clip without a face."""

    first: int
    """Index of the first of them."""
    last: int
    """Index of the last of them."""
    is_bridged: bool
    """Whether the face is carried on from before to after; else the result stands still."""

    def __str__(self) -> str:
        """As a person counts frames from 0."""
        frames = f"frame {self.first}" if self.first == self.last else f"frames {self.first} to {self.last}"
        return f"{frames}: no face, {'bridged' if self.is_bridged else 'the result stands still'}"


def gaps(clip: TrackedClip) -> list[Gap]:
    """Where a clip shows no face; a gap inside of a take can be bridged."""
    rows = clip.faces.rows
    take_of = dict(zip(rows["frame_index"].tolist(), rows["take"].tolist(), strict=True))
    found = []
    for before, after in pairwise([-1, *take_of, clip.num_frames]):
        if after - before > 1:
            is_bridged = before in take_of and take_of[before] == take_of.get(after)
            found.append(Gap(first=before + 1, last=after - 1, is_bridged=is_bridged))
    return found


def steadied(clip: TrackedClip) -> TrackedClip:
    """The clip with gaps within takes bridged, and what is measured of the faces smoothed."""
    takes = np.split(clip.faces.rows, np.flatnonzero(np.diff(clip.faces.rows["take"])) + 1)
    lengths = [take["frame_index"][-1] + 1 - take["frame_index"][0] for take in takes]
    rows = np.zeros(sum(lengths), clip.faces.rows.dtype)
    for take, steady in zip(takes, np.split(rows, np.cumsum(lengths)[:-1]), strict=True):
        _bridge(take, steady)
        _smooth_rows(steady)
    return replace(clip, faces=FaceTable(rows))


def smooth(values_FX: Array, time_F: Array, degree: int) -> Array:
    """Savitzky and Golay's filter (1964), for any frame times: at every frame the polynomial that fits 7 frames best.

    The window is symmetric, so nothing lags; at the ends it is the first or last 7 frames, of fewer than 7 all. Frames
    that the polynomial passes through anyway stay as they are.

    Args:
        values_FX: of the frames of a take.
        time_F: rising, in any unit.
        degree: of the polynomial, even, at most 4.

    Returns:
        [F, X] of the type of the values.
    """
    num_window = min(WINDOW_FRAMES, len(time_F))
    if num_window <= degree + 1:
        return values_FX
    smooth_FX = np.empty_like(values_FX)
    for first in range(0, len(time_F), _BLOCK_FRAMES):
        block = slice(first, first + _BLOCK_FRAMES)
        smooth_FX[block] = _fitted(values_FX, time_F, np.arange(len(time_F))[block], num_window, degree)
    return smooth_FX


def _fitted(values_FX: Array, time_F: Array, frame_B: NDArray[np.int64], num_window: int, degree: int) -> Array:
    """[B, X] the polynomials of some frames' windows at these frames."""
    first_B = np.clip(frame_B - WINDOW_FRAMES // 2, 0, len(time_F) - num_window)
    row_BW = first_B[:, None] + np.arange(num_window)
    offset_BW = time_F[row_BW] - time_F[frame_B, None]
    offset_BW = offset_BW / np.abs(offset_BW).max(axis=1, keepdims=True)
    fit_BDW = np.linalg.pinv(offset_BW[..., None] ** np.arange(degree + 1))
    places = range(num_window)  # place by place: all of it at once would be seven copies
    return np.asarray(sum(fit_BDW[:, 0, place, None] * values_FX[row_BW[:, place]] for place in places))


def _bridge(take: Rows, bridged: Rows) -> None:
    """Write rows of every frame from the take's first to its last, those between two faces by straight lines."""
    index_N = take["frame_index"].copy()
    bridged[index_N - index_N[0]] = take
    for place in np.flatnonzero(np.diff(index_N) > 1):
        (first, second), first_index = take[place : place + 2], index_N[place]
        for missing in range(first_index + 1, index_N[place + 1]):
            share = float((missing - first_index) / (index_N[place + 1] - first_index))
            bridged[missing - index_N[0]] = _between(first, second, share, missing)


def _between(first: np.void, second: np.void, share: float, frame_index: int) -> np.void:
    """A row in place of a missing one; what is yes or no stays as it was."""
    row = first.copy()
    for name in ("landmarks_KC", "pose_C", "au_intensity_A", "irises_EC", "timestamp_s", *_mesh_fields(row)):
        row[name] = (1 - share) * first[name] + share * second[name]
    row["box"] = np.rint(np.asarray((1 - share) * first["box"] + share * second["box"], np.float32))
    row["frame_index"] = frame_index
    return row


def _smooth_rows(take: Rows) -> None:
    """Smooth the rows of a take where they are."""
    time_F = take["timestamp_s"].copy()
    points_FKC = take["landmarks_KC"].copy()
    take["landmarks_KC"] = _smooth_each(points_FKC, time_F, HEAD_DEGREE)
    take["landmarks_KC"][:, _EXPRESSION] = _smooth_each(points_FKC[:, _EXPRESSION], time_F, EXPRESSION_DEGREE)
    take["pose_C"] = _smooth_each(take["pose_C"], time_F, HEAD_DEGREE)
    intensity_FA = _smooth_each(take["au_intensity_A"], time_F, EXPRESSION_DEGREE)
    take["au_intensity_A"] = np.clip(intensity_FA, 0, MAX_AU_INTENSITY)
    for name in ("irises_EC", *_mesh_fields(take)):
        take[name] = _smooth_each(take[name], time_F, EXPRESSION_DEGREE)
    if "blendshapes_B" in _mesh_fields(take):
        take["blendshapes_B"] = np.clip(take["blendshapes_B"], 0, 1)


def _mesh_fields(rows: Rows | np.void) -> tuple[str, ...]:
    """Names of what tells the meshes, where they are kept."""
    return tuple(name for name in ("middle_C", "mesh_VC", "blendshapes_B") if name in (rows.dtype.names or ()))


def _smooth_each(values: Array, time_F: Array, degree: int) -> Array:
    """`smooth` of [F, ...] numbers."""
    return smooth(values.reshape(len(time_F), -1), time_F, degree).reshape(values.shape)
