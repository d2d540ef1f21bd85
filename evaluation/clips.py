"""Metrics of movement: successive driving frames with one source, for every source person of an evaluation.

Legend: F frames of one clip in their order, K = 68 landmarks, C coordinates or angles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from data_partition.batches import FrameRef
from data_partition.shards.shard import Shard
from evaluation.faces.analysis import FaceAnalysis
from evaluation.measurement import FrameDistance, Instruments, Method, frame_at, methods_for
from evaluation.metrics.catalogue import BROW_DYNAMICS, HEAD_DYNAMICS, LIP_DYNAMICS, TEMPORAL
from evaluation.metrics.dynamics import agreement, brow_motion, head_motion, lip_motion
from evaluation.pairs import EvaluationPair, may_drive
from model.frames import Frame
from model.progress import Progress

_MAX_FRAMES = 32
MIN_FRAMES = 3
_MAX_STEP_S = 0.2
"""Frames further apart are not of one movement."""

Clip = Sequence[EvaluationPair]
"""F >= 3 pairs with one source, whose driving frames follow one another."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class ClipMeasurement:
    """One clip under one method."""

    clip: Clip
    method: str
    values: dict[str, float]
    """Metric key to value; NaN where too few faces were found or the driving clip does not move."""


def clips_of(pairs: Sequence[EvaluationPair]) -> list[Clip]:
    """One clip for every protocol and source person: the source of their first pair, the frames about its driving one.

    The pairs alone decide, so that every model evaluated on them has the same clips. A clip has at most 32 frames; no
    clip is made where fewer than 3 frames that may drive follow one another.
    """
    first: dict[tuple[str, str], EvaluationPair] = {}
    for pair in pairs:
        first.setdefault((pair.protocol, pair.source.shard.identity), pair)
    clips = [
        [
            pair._replace(driving=FrameRef(pair.driving.shard, row))
            for row in rows_about(*pair.driving, may_drive(pair.driving.shard, pair.protocol))
        ]
        for pair in first.values()
    ]
    return [clip for clip in clips if len(clip) >= MIN_FRAMES]


def rows_about(shard: Shard, row: int, is_one_F: NDArray[np.bool_]) -> list[int]:
    """At most 32 of some rows about one of them, which follow one another in time.

    Args:
        shard: of the rows.
        row: one of them.
        is_one_F: [F] which they are.
    """
    rows = np.flatnonzero(is_one_F & (shard.clip == shard.clip[row]))
    rows = rows[np.argsort(shard.timestamp_s[rows], kind="stable")]
    is_cut = np.diff(shard.timestamp_s[rows]) > _MAX_STEP_S
    run = next(run for run in np.split(rows, np.flatnonzero(is_cut) + 1) if row in run)
    middle = int(np.flatnonzero(run == row)[0])
    start = max(0, min(middle - _MAX_FRAMES // 2, len(run) - _MAX_FRAMES))
    return [int(chosen) for chosen in run[start : start + _MAX_FRAMES]]


def measure_clips(
    clips: Sequence[Clip],
    methods: Mapping[str, Method],
    instruments: Instruments,
    *,
    size_px: int,
    progress: Progress,
) -> list[ClipMeasurement]:
    """Every metric of movement of every clip under every method.

    Args:
        clips: what `clips_of` returned.
        methods: name to method.
        instruments: look at the frames.
        size_px: side of all frames.
        progress: told how many clips are done.

    Raises:
        DataError: if a frame cannot be read.
    """
    found = []
    for done, clip in enumerate(clips, start=1):
        driving = [frame_at(pair.driving, size_px) for pair in clip]
        for name, method in methods_for(clip[0].protocol, methods).items():
            generated = [method(pair).frame for pair in clip]
            values = motion_values(driving, generated, instruments)
            if clip[0].protocol.has_truth:
                values[TEMPORAL.key] = temporal_distance(driving, generated, instruments.perceptual)
            found.append(ClipMeasurement(clip=clip, method=name, values=values))
        progress("Evaluating clips", done, len(clips))
    return found


def motion_values(driving: Sequence[Frame], generated: Sequence[Frame], instruments: Instruments) -> dict[str, float]:
    """How far lips, head and brows of a generated clip move as much as those of the driving clip, frame by frame alike.

    Frames in which either face is not found are left out; NaN if fewer than 3 remain.
    """
    analyse = instruments.analyser.analyse
    faces = [(analyse(frame), analyse(other)) for frame, other in zip(driving, generated, strict=True)]
    seen = [(face, other) for face, other in faces if face and other]
    if len(seen) < MIN_FRAMES:
        return dict.fromkeys((LIP_DYNAMICS.key, HEAD_DYNAMICS.key, BROW_DYNAMICS.key), math.nan)
    amounts = [_amounts(clip) for clip in zip(*seen, strict=True)]
    return {key: agreement(amount, amounts[1][key]) for key, amount in amounts[0].items()}


def temporal_distance(driving: Sequence[Frame], generated: Sequence[Frame], perceptual: FrameDistance) -> float:
    """Mean over time of |distance of successive generated frames - that of driving ones|, tLP.

    Returns:
        >= 0, lower is better; flicker and frozen frames both raise it.
    """
    steps = zip(pairwise(driving), pairwise(generated), strict=True)
    return float(np.mean([abs(perceptual(*reversed(fake)) - perceptual(*reversed(real))) for real, fake in steps]))


def _amounts(faces: Sequence[FaceAnalysis]) -> dict[str, float]:
    landmarks_FKC = np.stack([face.landmarks_KC for face in faces]).astype(np.float64)
    pose_FC = np.stack([face.pose_C for face in faces]).astype(np.float64)
    return {
        LIP_DYNAMICS.key: lip_motion(landmarks_FKC),
        HEAD_DYNAMICS.key: head_motion(landmarks_FKC, pose_FC),
        BROW_DYNAMICS.key: brow_motion(landmarks_FKC),
    }
