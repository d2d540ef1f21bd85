"""A tracked clip without jitter and without gaps, for driving: frames without a face are bridged, the rest is smoothed.

Legend: F frames of one take, W frames of a window, X numbers of a frame, K = 68 landmarks, C coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from data_partition.faces.crop import CropBox
from data_partition.faces.track import TrackedClip, TrackedFace
from model.networks.landmark_base import MAX_AU_INTENSITY

WINDOW_FRAMES = 7
"""Of which a frame is the middle, or as near to it as the ends of a take allow."""
HEAD_DEGREE, EXPRESSION_DEGREE = 2, 4
"""Of the polynomials: a parabola takes most noise from the slow head; lips and lids, which open and close within a few
frames, would lose up to a fifth of their movement by it."""
_EXPRESSION = slice(36, 68)
"""Landmarks of eyes and mouth."""

Faces = Mapping[int, TrackedFace]
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
    found = []
    ends = [-1, *clip.faces, clip.num_frames]
    for before, after in pairwise(ends):
        if after - before > 1:
            is_inside = before in clip.faces and after in clip.faces
            is_bridged = is_inside and clip.faces[before].take == clip.faces[after].take
            found.append(Gap(first=before + 1, last=after - 1, is_bridged=is_bridged))
    return found


def steadied(clip: TrackedClip) -> TrackedClip:
    """The clip with gaps within takes bridged, and landmarks, irises, pose and intensities of action units smoothed."""
    faces: dict[int, TrackedFace] = {}
    for _, take in groupby(clip.faces.items(), key=lambda item: item[1].take):
        faces |= _smoothed(dict(_bridged(list(take))))
    return replace(clip, faces=faces)


def smooth(values_FX: Array, time_F: Array, degree: int) -> Array:
    """Savitzky and Golay's filter (1964), for any frame times: at every frame the polynomial that fits 7 frames best.

    The window is symmetric, so nothing lags; at the ends it is the first or last 7 frames, of fewer than 7 all. Frames
    that the polynomial passes through anyway stay as they are.

    Args:
        values_FX: of the frames of a take.
        time_F: rising, in any unit.
        degree: of the polynomial, even, at most 4.

    Returns:
        [F, X] float64.
    """
    num_window = min(WINDOW_FRAMES, len(time_F))
    if num_window <= degree + 1:
        return np.asarray(values_FX, np.float64)
    first_F = np.clip(np.arange(len(time_F)) - WINDOW_FRAMES // 2, 0, len(time_F) - num_window)
    row_FW = first_F[:, None] + np.arange(num_window)
    offset_FW = time_F[row_FW] - time_F[:, None]
    offset_FW = offset_FW / np.abs(offset_FW).max(axis=1, keepdims=True)
    fit_F3W = np.linalg.pinv(offset_FW[..., None] ** np.arange(degree + 1))
    # Place by place in the window: all of it at once would be seven copies of the clip.
    return np.asarray(sum(fit_F3W[:, 0, place, None] * values_FX[row_FW[:, place]] for place in range(num_window)))


def _bridged(take: list[tuple[int, TrackedFace]]) -> Iterator[tuple[int, TrackedFace]]:
    """Index and face of every frame from the take's first to its last, those between two faces by straight lines."""
    for (index, face), (next_index, next_face) in pairwise(take):
        yield index, face
        for missing in range(index + 1, next_index):
            yield missing, _between(face, next_face, (missing - index) / (next_index - index))
    yield take[-1]


def _between(face: TrackedFace, other: TrackedFace, share: float) -> TrackedFace:
    def mixed(first: Array, second: Array) -> NDArray[np.float32]:
        return np.asarray((1 - share) * first + share * second, np.float32)

    first, second = face.annotation, other.annotation
    annotation = replace(
        first,
        landmarks_KC=mixed(first.landmarks_KC, second.landmarks_KC),
        pose_C=mixed(first.pose_C, second.pose_C),
        au_intensity_A=mixed(first.au_intensity_A, second.au_intensity_A),
        irises_EC=None
        if first.irises_EC is None or second.irises_EC is None
        else mixed(first.irises_EC, second.irises_EC),
    )
    left, top, side = np.rint(mixed(_corner(face.box), _corner(other.box))).astype(int).tolist()
    time_s = (1 - share) * face.timestamp_s + share * other.timestamp_s
    box = CropBox(left=left, top=top, side=side)
    return replace(face, annotation=annotation, timestamp_s=time_s, box=box)


def _corner(box: CropBox) -> NDArray[np.float64]:
    return np.array([box.left, box.top, box.side], np.float64)


def _smoothed(faces: Faces) -> Iterator[tuple[int, TrackedFace]]:
    """Index and face of a take's frames."""
    time_F = np.array([face.timestamp_s for face in faces.values()])
    annotations = [face.annotation for face in faces.values()]
    points_FKC = np.stack([one.landmarks_KC for one in annotations])
    head_FKC = _smooth_each(points_FKC, time_F, HEAD_DEGREE)
    head_FKC[:, _EXPRESSION] = _smooth_each(points_FKC[:, _EXPRESSION], time_F, EXPRESSION_DEGREE)
    pose_FC = _smooth_each(np.stack([one.pose_C for one in annotations]), time_F, HEAD_DEGREE)
    intensity_FA = _smooth_each(np.stack([one.au_intensity_A for one in annotations]), time_F, EXPRESSION_DEGREE)
    irises = [one.irises_EC for one in annotations if one.irises_EC is not None]
    irises_FEC = _smooth_each(np.stack(irises), time_F, EXPRESSION_DEGREE) if irises else None
    for row, (index, face) in enumerate(faces.items()):
        annotation = replace(
            face.annotation,
            landmarks_KC=head_FKC[row],
            pose_C=pose_FC[row],
            au_intensity_A=np.clip(intensity_FA[row], 0, MAX_AU_INTENSITY),
            irises_EC=None if irises_FEC is None else irises_FEC[row],
        )
        yield index, replace(face, annotation=annotation)


def _smooth_each(values: NDArray[np.float32], time_F: Array, degree: int) -> NDArray[np.float32]:
    """`smooth` of [F, ...] numbers."""
    return smooth(values.reshape(len(time_F), -1), time_F, degree).reshape(values.shape).astype(np.float32)
