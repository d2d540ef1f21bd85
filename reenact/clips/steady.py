"""A tracked clip without jitter and without gaps, for driving: frames without a face are bridged, the rest is smoothed.

Legend: F frames of one take, B some of them, W frames of a window, V windows, D numbers of a polynomial, G groups of X
numbers of a frame, K = 68 landmarks, C coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from data_partition.faces.face_table import FaceTable, Rows
from data_partition.faces.track import TrackedClip
from model.landmarks.geometry import OUTER_EYE_CORNERS
from model.networks.landmark_base import MAX_AU_INTENSITY

WINDOW_FRAMES = 7
"""Of which a frame is the middle, or as near to it as the ends of a take allow."""
POINT_NOISE, POSE_NOISE, INTENSITY_NOISE = 0.0015, 0.075, 0.02
"""Root mean square of what a parabola leaves of a face at rest: of landmarks by the outer eye distance, of the head's
angles in degrees, of each action unit. Measured on five people's clips (docs/LOG.md); more than that is movement."""
_REGIONS = (slice(17), slice(17, 27), slice(27, 36), slice(36, 48), slice(48, 68))
"""Landmarks that rest or move together: outline, brows, nose, eyes, mouth."""

_DEGREE = 2
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


def smooth(values_FGX: Array, time_F: Array, noise: float) -> Array:
    """Parabolas where there is noise alone, the values as they are where there is movement, at any frame times.

    At every frame the parabola that fits 7 frames best (Savitzky and Golay 1964), and of what it leaves the share that
    is no noise (Lee 1980, "Digital image enhancement and noise filtering by use of local statistics"): with fit f, mean
    square m of what is left of a group in the 7 frames, and noise n, the result is f + max(0, 1 - n^2 / m) (x - f). The
    window is symmetric, so nothing lags; at the ends it is the first or last 7 frames, of fewer than 7 all.

    A parabola alone cuts blinks, lips and quick turns: trackers have taken most of the noise already, and what it takes
    of people who talk is movement.

    Args:
        values_FGX: of the frames of a take, G groups of X numbers that rest or move together.
        time_F: rising, in any unit.
        noise: n, root mean square of what a parabola leaves of such numbers at rest.

    Returns:
        [F, G, X] of the type of the values.
    """
    num_window = min(WINDOW_FRAMES, len(time_F))
    if num_window <= _DEGREE + 1:
        return values_FGX
    smooth_FGX, energy_FG = np.empty_like(values_FGX), np.empty(values_FGX.shape[:2])
    for frame_B in _blocks(len(time_F)):
        smooth_FGX[frame_B] = _fitted(values_FGX, time_F, frame_B, num_window)
        left_BGX = np.nan_to_num(values_FGX[frame_B] - smooth_FGX[frame_B])
        energy_FG[frame_B] = np.square(left_BGX, dtype=np.float64).mean(axis=2)
    mean_VG = sliding_window_view(energy_FG, num_window, axis=0).mean(axis=2)
    local_FG = mean_VG[_first_of_window(np.arange(len(time_F)), time_F)]
    movement_FG = 1 - np.minimum(noise**2 / np.maximum(local_FG, np.finfo(float).tiny), 1)
    for frame_B in _blocks(len(time_F)):
        smooth_FGX[frame_B] += movement_FG[frame_B, :, None] * (values_FGX[frame_B] - smooth_FGX[frame_B])
    return smooth_FGX


def _blocks(num_frames: int) -> Iterator[NDArray[np.int64]]:
    """Numbers of the frames, some at a time."""
    for first in range(0, num_frames, _BLOCK_FRAMES):
        yield np.arange(first, min(first + _BLOCK_FRAMES, num_frames))


def _first_of_window(frame_B: NDArray[np.int64], time_F: Array) -> NDArray[np.int64]:
    """[B] first frame of the window of each."""
    return np.clip(frame_B - WINDOW_FRAMES // 2, 0, max(len(time_F) - WINDOW_FRAMES, 0))


def _fitted(values_FGX: Array, time_F: Array, frame_B: NDArray[np.int64], num_window: int) -> Array:
    """[B, G, X] the parabolas of some frames' windows at these frames."""
    row_BW = _first_of_window(frame_B, time_F)[:, None] + np.arange(num_window)
    offset_BW = time_F[row_BW] - time_F[frame_B, None]
    offset_BW = offset_BW / np.abs(offset_BW).max(axis=1, keepdims=True)
    fit_BDW = np.linalg.pinv(offset_BW[..., None] ** np.arange(_DEGREE + 1))
    places = range(num_window)  # place by place: all of it at once would be seven copies
    return np.asarray(sum(fit_BDW[:, 0, place, None, None] * values_FGX[row_BW[:, place]] for place in places))


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
    first_FC, second_FC = (points_FKC[:, corner] for corner in OUTER_EYE_CORNERS)
    point_noise = POINT_NOISE * float(np.linalg.norm(second_FC - first_FC, axis=1).mean())
    for region in _REGIONS:
        take["landmarks_KC"][:, region] = _smooth_together(points_FKC[:, region], time_F, point_noise)
    for name in ("irises_EC", *_mesh_fields(take)[:2]):
        take[name] = _smooth_together(take[name], time_F, point_noise)
    take["pose_C"] = _smooth_together(take["pose_C"], time_F, POSE_NOISE)
    intensity_FA = smooth(take["au_intensity_A"][:, :, None], time_F, INTENSITY_NOISE)[:, :, 0]
    take["au_intensity_A"] = np.clip(intensity_FA, 0, MAX_AU_INTENSITY)
    if "blendshapes_B" in _mesh_fields(take):
        blendshapes_FB = smooth(take["blendshapes_B"][:, :, None], time_F, INTENSITY_NOISE / MAX_AU_INTENSITY)[:, :, 0]
        take["blendshapes_B"] = np.clip(blendshapes_FB, 0, 1)


def _mesh_fields(rows: Rows | np.void) -> tuple[str, ...]:
    """Names of what tells the meshes, where they are kept."""
    return tuple(name for name in ("middle_C", "mesh_VC", "blendshapes_B") if name in (rows.dtype.names or ()))


def _smooth_together(values: Array, time_F: Array, noise: float) -> Array:
    """`smooth` of [F, ...] numbers as one group."""
    return smooth(values.reshape(len(time_F), 1, -1), time_F, noise).reshape(values.shape)
