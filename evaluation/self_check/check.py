"""Do the metrics measure what they should? Known alterations of real frames, and what each must do.

Legend: N pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_partition.batches import FrameRef
from data_partition.shards.shard import open_dataset
from evaluation.faces.analysis import FaceAnalyser, RememberingAnalyser
from evaluation.faces.embedders import Embedder
from evaluation.faces.mediapipe_analyser import MediaPipeAnalyser
from evaluation.figures.bootstrap import Estimate, estimate
from evaluation.figures.tables import TextTable
from evaluation.measurement import FrameDistance, face_values, frame_at, pixel_values
from evaluation.metrics.catalogue import (
    AUCON,
    AUCON_SHUFFLED,
    CSIM,
    L1,
    LANDMARK_ERROR,
    METRICS,
    PERCEPTUAL,
    PRMSE,
    PSNR,
    SSIM,
    Metric,
)
from evaluation.metrics.faces import csim
from evaluation.metrics.perceptual_distance import PerceptualDistance
from evaluation.self_check.alterations import blur, jpeg, mirror, shrink, turn_back
from model.frames import Frame

_METRICS = tuple(metric for metric in METRICS if metric is not AUCON_SHUFFLED)
_MAX_MIRRORED_PRMSE_DEG = 1.5
_MIN_SEPARATION = 0.98
_NUM_FRAMES = 60
"""Of all people together."""
_JPEG, _BLUR, _SMALL = "JPEG {}", "blur {} %", "size 1/{}"
_LEVELS: tuple[tuple[str, str], ...] = (
    (_JPEG.format(60), _JPEG.format(10)),
    (_BLUR.format(1), _BLUR.format(3)),
    (_SMALL.format(2), _SMALL.format(4)),
)
"""A little and a lot of each damage: JPEG quality, blur sigma in percent of the side, reduction and back."""
_IDENTICAL, _MIRRORED, _TURNED = "identical", "mirrored", "turned back"
_OTHER_FRAME, _OTHER_PERSON = "other frame", "other person"

Row = Mapping[str, Estimate]


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that must hold."""

    text: str
    holds: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfCheck:
    """Figures of every alteration, and what must hold between them."""

    figures: TextTable
    checks: TextTable
    """Each promise with "ok" or "wrong"."""
    holds: bool
    """Whether all are ok."""


def self_check_dataset(dataset: Path, embedder: Embedder) -> SelfCheck:
    """Check the analyser with an embedder on frames spread evenly over every person of a dataset.

    Raises:
        DataError: if the dataset cannot be used.
        WeightsError: if the analyser's files are missing.
    """
    shards = open_dataset(dataset)
    size_px = min(shard.size_px for shard in shards)
    num_each = max(2, _NUM_FRAMES // len(shards))
    frames = {
        shard.identity: [
            frame_at(FrameRef(shard, row), size_px)
            for row in np.unique(np.linspace(0, shard.num_frames - 1, num_each).round().astype(int)).tolist()
        ]
        for shard in shards
    }
    with MediaPipeAnalyser(embedder) as faces:
        perceptual = PerceptualDistance()
        return self_check(frames, RememberingAnalyser(faces), perceptual, perceptual.name)


def self_check(
    frames: Mapping[str, Sequence[Frame]], analyser: FaceAnalyser, perceptual: FrameDistance, perceptual_name: str
) -> SelfCheck:
    """Measure altered copies of the frames, other frames and other people against the frames.

    Args:
        frames: person to at least two uint8 [S, S, 3] RGB frames, one size for all.
        analyser: the one to check; each frame is asked for several times.
        perceptual: the perceptual distance to check.
        perceptual_name: its network.
    """
    everything = [frame for own in frames.values() for frame in own]
    found = {
        name: _figures(((frame, alter(frame)) for frame in everything), analyser, perceptual)
        for name, alter in _alterations().items()
    }
    found[_TURNED] = _turned_figures(everything, analyser)
    found[_OTHER_FRAME] = _figures(_other_frames(frames), analyser, perceptual)
    checks = [*_checks_of_copies(found), *_checks_of_other_frames(found)]
    if len(frames) > 1:
        found[_OTHER_PERSON] = _figures(_other_people(frames), analyser, perceptual)
        checks.append(_separation(frames, analyser))
    backends = replace(analyser.backends, perceptual=perceptual_name)
    no_face = sum(analyser.analyse(frame) is None for frame in everything)
    figures = TextTable(
        title=f"Metrics of {len(everything)} frames of {len(frames)} people against altered copies and other frames "
        f"(no face found in {no_face})",
        header=("against", *(metric.name(backends) for metric in _METRICS)),
        rows=tuple((name, *(_text(row[metric.key], metric) for metric in _METRICS)) for name, row in found.items()),
    )
    verdicts = tuple((check.text, "ok" if check.holds else "wrong") for check in checks)
    num_wrong = sum(not check.holds for check in checks)
    title = f"{num_wrong} of {len(checks)} checks fail" if num_wrong else f"All {len(checks)} checks hold"
    return SelfCheck(
        figures=figures,
        checks=TextTable(title=title, header=("check", ""), rows=verdicts),
        holds=not num_wrong,
    )


def _alterations() -> dict[str, Callable[[Frame], Frame]]:
    return {
        _IDENTICAL: lambda frame: frame.copy(),
        _MIRRORED: mirror,
        _JPEG.format(60): lambda frame: jpeg(frame, 60),
        _JPEG.format(10): lambda frame: jpeg(frame, 10),
        _BLUR.format(1): lambda frame: blur(frame, 0.01),
        _BLUR.format(3): lambda frame: blur(frame, 0.03),
        _SMALL.format(2): lambda frame: shrink(frame, 2),
        _SMALL.format(4): lambda frame: shrink(frame, 4),
    }


def _figures(pairs: Iterator[tuple[Frame, Frame]], analyser: FaceAnalyser, perceptual: FrameDistance) -> Row:
    """Every metric pooled over pairs of (frame that is source and driving, frame in place of the generated)."""
    values = []
    for frame, other in pairs:
        face, other_face = analyser.analyse(frame), analyser.analyse(other)
        of_faces = face_values(face, face, other_face, analyser.evaluated_aus)
        values.append(pixel_values(frame, other, perceptual) | of_faces)
    return _pooled(values)


def _turned_figures(frames: Sequence[Frame], analyser: FaceAnalyser) -> Row:
    """Face metrics of mirrored frames after their analysis is turned back, as if the mirror had not been there."""
    values = []
    for frame in frames:
        face, mirrored = analyser.analyse(frame), analyser.analyse(mirror(frame))
        turned = turn_back(mirrored, frame.shape[1]) if mirrored else None
        nothing = dict.fromkeys((PSNR.key, SSIM.key, L1.key, PERCEPTUAL.key), math.nan)
        values.append(nothing | face_values(face, face, turned, analyser.evaluated_aus))
    return _pooled(values)


def _other_frames(frames: Mapping[str, Sequence[Frame]]) -> Iterator[tuple[Frame, Frame]]:
    for own in frames.values():
        yield from zip(own, [*own[1:], own[0]], strict=True)


def _other_people(frames: Mapping[str, Sequence[Frame]]) -> Iterator[tuple[Frame, Frame]]:
    people = list(frames.values())
    for own, other in zip(people, [*people[1:], people[0]], strict=True):
        yield from zip(own, other, strict=False)


def _pooled(values: Sequence[Mapping[str, float]]) -> Row:
    return {
        metric.key: estimate(
            [value[metric.key] for value in values], is_root_mean_square=metric.is_root_mean_square, seed=0
        )
        for metric in _METRICS
    }


def _checks_of_copies(found: Mapping[str, Row]) -> Iterator[Check]:
    best = {CSIM: 1, SSIM: 1, L1: 0, PERCEPTUAL: 0, PRMSE: 0, AUCON: 1, LANDMARK_ERROR: 0}
    for metric, value in best.items():
        holds = abs(found[_IDENTICAL][metric.key].value - value) < 1e-5
        yield Check(text=f"{metric.title} of identical frames is {value}", holds=holds)
    for little, much in _LEVELS:
        for metric in (CSIM, PSNR, SSIM, L1, PERCEPTUAL):
            yield _worsens(metric, found, (_IDENTICAL, little, much))
        for metric in (PRMSE, AUCON, LANDMARK_ERROR):
            yield _worsens(metric, found, (_IDENTICAL, much))


def _checks_of_other_frames(found: Mapping[str, Row]) -> Iterator[Check]:
    turned, mirrored = found[_TURNED][PRMSE.key].value, found[_MIRRORED][PRMSE.key].value
    yield Check(
        text=f"Mirroring changes the sign of yaw and roll and little else: {PRMSE.title} falls from {mirrored:.2f} to "
        f"{turned:.2f}, wanted below {_MAX_MIRRORED_PRMSE_DEG}",
        holds=turned < min(mirrored, _MAX_MIRRORED_PRMSE_DEG),
    )
    for metric in (CSIM, PSNR, SSIM, L1, PERCEPTUAL, PRMSE, AUCON, LANDMARK_ERROR):
        yield _worsens(metric, found, (_IDENTICAL, _OTHER_FRAME))


def _worsens(metric: Metric, found: Mapping[str, Row], names: Sequence[str]) -> Check:
    """Each of the named rows must be strictly worse than the one before it."""
    values = [found[name][metric.key].value for name in names]
    sign = 1 if metric.is_higher_better else -1
    holds = all(sign * (before - after) > 0 for before, after in pairwise(values))
    text = " to ".join(f"{value:.{metric.num_decimals}f} ({name})" for value, name in zip(values, names, strict=True))
    return Check(text=f"{metric.title} gets worse: {text}", holds=holds)


def _separation(frames: Mapping[str, Sequence[Frame]], analyser: FaceAnalyser) -> Check:
    """Any two frames of one person must be nearer by CSIM than any two of two people, nearly always."""
    faces = [(who, analyser.analyse(frame)) for who, own in frames.items() for frame in own]
    seen = [(who, face) for who, face in faces if face]
    same: list[float] = []
    other: list[float] = []
    for (who, face), (whom, another) in combinations(seen, 2):
        (same if who == whom else other).append(csim(face, another))
    if not same or not other:
        return Check(text=f"{CSIM.name(analyser.backends)} separates people: too few faces found", holds=False)
    separation = _area_under_curve(np.array(same), np.array(other))
    return Check(
        text=f"{CSIM.name(analyser.backends)} separates people: mean {np.mean(same):.3f} within, {np.mean(other):.3f} "
        f"between, area under the ROC curve {separation:.4f}, wanted at least {_MIN_SEPARATION}",
        holds=separation >= _MIN_SEPARATION,
    )


def _area_under_curve(same_N: NDArray[np.float64], other_N: NDArray[np.float64]) -> float:
    """Probability that a value of `same_N` exceeds one of `other_N`; ties count half."""
    difference = same_N[:, None] - other_N
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def _text(figure: Estimate, metric: Metric) -> str:
    return "-" if math.isnan(figure.value) else f"{figure.value:.{metric.num_decimals}f}"
