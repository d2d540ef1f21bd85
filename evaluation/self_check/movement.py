"""Altered copies of real clips, and what the metrics of movement must make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from evaluation.clips import motion_values, temporal_distance
from evaluation.measurement import Instruments
from evaluation.metrics.catalogue import BROW_DYNAMICS, HEAD_DYNAMICS, LIP_DYNAMICS, TEMPORAL
from evaluation.self_check.alterations import freeze_part
from evaluation.self_check.rows import Check, Row, equals, pooled_row, worsens
from model.frames import Frame

METRICS = (TEMPORAL, LIP_DYNAMICS, HEAD_DYNAMICS, BROW_DYNAMICS)

_IDENTICAL, _SHUFFLED, _STILL, _MOUTH_FROZEN = "identical", "shuffled", "first frame held", "mouth frozen"

Clip = Sequence[Frame]


def movement_rows(clips: Sequence[Clip], instruments: Instruments) -> dict[str, Row]:
    """The metrics of movement of altered copies of clips against the clips, alteration to figures."""
    return {
        name: pooled_row([_values(clip, alter(clip), instruments) for clip in clips], METRICS)
        for name, alter in _alterations(instruments).items()
    }


def movement_checks(found: Mapping[str, Row]) -> Iterator[Check]:
    """What must hold between the rows."""
    for metric, best in ((TEMPORAL, 0), (LIP_DYNAMICS, 1), (HEAD_DYNAMICS, 1), (BROW_DYNAMICS, 1)):
        yield equals(metric, found, _IDENTICAL, best)
        yield worsens(metric, found, (_IDENTICAL, _STILL))
    for metric in (TEMPORAL, HEAD_DYNAMICS):
        yield worsens(metric, found, (_IDENTICAL, _SHUFFLED))
    yield worsens(LIP_DYNAMICS, found, (_IDENTICAL, _MOUTH_FROZEN))


def _alterations(instruments: Instruments) -> dict[str, Callable[[Clip], Clip]]:
    return {
        _IDENTICAL: list,
        _SHUFFLED: lambda clip: [clip[index] for index in np.random.default_rng(0).permutation(len(clip))],
        _STILL: lambda clip: [clip[0]] * len(clip),
        _MOUTH_FROZEN: lambda clip: frozen(clip, instruments, "mouth"),
    }


def _values(clip: Clip, altered: Clip, instruments: Instruments) -> dict[str, float]:
    distance = temporal_distance(clip, altered, instruments.perceptual)
    return {**motion_values(clip, altered, instruments), TEMPORAL.key: distance}


def frozen(frames: Clip, instruments: Instruments, part: str) -> list[Frame]:
    """Frames of one person, mouth or eyes in all of them those of the first with a face; without a face as they are."""
    faces = [instruments.analyser.analyse(frame) for frame in frames]
    still = next(((frame, face) for frame, face in zip(frames, faces, strict=True) if face), None)
    return [
        freeze_part(frame, face, *still, part) if face and still else frame
        for frame, face in zip(frames, faces, strict=True)
    ]
