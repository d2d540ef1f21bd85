"""Do the metrics measure what they should? Known alterations of real frames, and what each must do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from data_partition.batches import FrameRef
from data_partition.shards.shard import Shard, open_dataset
from evaluation.attacks.separation import area_under_curve
from evaluation.clips import MIN_FRAMES, rows_about
from evaluation.faces.analysis import FaceAnalyser, RememberingAnalyser
from evaluation.faces.embedders import Embedder
from evaluation.faces.mediapipe_analyser import MediaPipeAnalyser
from evaluation.figures.bootstrap import Estimate, estimate_of_sets
from evaluation.figures.tables import TextTable
from evaluation.measurement import Instruments, detail_values, face_values, frame_at, pixel_values
from evaluation.metrics.catalogue import (
    AU_INTENSITY_ERROR,
    AUCON,
    AUCON_SHUFFLED,
    CSIM,
    FINE_POWER,
    GAZE_ERROR,
    KID,
    L1,
    LANDMARK_ERROR,
    LIP_GAP_SLOPE,
    METRICS,
    PERCEPTUAL,
    PRMSE,
    PSNR,
    SHARPNESS,
    SSIM,
    Metric,
    Scope,
)
from evaluation.metrics.faces import csim
from evaluation.metrics.kid import KidFeatures, kid
from evaluation.metrics.perceptual_distance import PerceptualDistance
from evaluation.metrics.vgg_levels import vgg16_levels
from evaluation.self_check.alterations import blur, jpeg, mirror, shrink, turn_back
from evaluation.self_check.movement import METRICS as MOVEMENT_METRICS
from evaluation.self_check.movement import frozen, movement_checks, movement_rows
from evaluation.self_check.rows import Check, Row, equals, figures_table, pooled_row, worsens
from model.frames import Frame

_DETAIL_METRICS = (*SHARPNESS.values(), *FINE_POWER.values())
_PAIR_METRICS = tuple(metric for metric in METRICS if metric.scope is Scope.PAIR and metric is not AUCON_SHUFFLED)
_FACE_METRICS = tuple(metric for metric in (*_PAIR_METRICS, KID) if metric not in _DETAIL_METRICS)
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
_MOUTH_FROZEN, _EYES_FROZEN = "mouth frozen", "eyes frozen"
_OTHER_FRAME, _OTHER_PERSON = "other frame", "other person"

Pairs = Sequence[tuple[Frame, Frame]]
"""Frame that is source and driving, frame in place of the generated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfCheck:
    """Figures of every alteration, and what must hold between them."""

    figures: tuple[TextTable, ...]
    """Of single frames and sets of them, their detail, and movement."""
    checks: TextTable
    """Each promise with "ok" or "wrong"."""
    holds: bool
    """Whether all are ok."""


def self_check_dataset(dataset: Path, embedder: Embedder) -> SelfCheck:
    """Check the analyser with an embedder on frames spread evenly over every person of a dataset, and a clip of each.

    Raises:
        DataError: if the dataset cannot be used.
        WeightsError: if the analyser's files are missing.
    """
    shards = open_dataset(dataset)
    size_px = min(shard.size_px for shard in shards)
    num_each = max(2, _NUM_FRAMES // len(shards))
    frames = {shard.identity: _frames(shard, _spread(shard, num_each), size_px) for shard in shards}
    clips = [_frames(shard, rows, size_px) for shard in shards if len(rows := _held_out_clip(shard)) >= MIN_FRAMES]
    with MediaPipeAnalyser(embedder) as faces:
        vgg16 = vgg16_levels()
        perceptual, features = PerceptualDistance(vgg16), KidFeatures(vgg16)
        instruments = Instruments(analyser=RememberingAnalyser(faces), perceptual=perceptual, features=features)
        return self_check(frames, clips, instruments, perceptual.name)


def _spread(shard: Shard, num_frames: int) -> list[int]:
    rows = np.unique(np.linspace(0, shard.num_frames - 1, num_frames).round().astype(int))
    return [int(row) for row in rows]


def _held_out_clip(shard: Shard) -> list[int]:
    """Rows of the first successive frames that are held out; none where no frame is."""
    held_out = np.flatnonzero(shard.is_test_F)
    return rows_about(shard, int(held_out[0]), shard.is_test_F) if held_out.size else []


def _frames(shard: Shard, rows: Sequence[int], size_px: int) -> list[Frame]:
    return [frame_at(FrameRef(shard, row), size_px) for row in rows]


def self_check(
    frames: Mapping[str, Sequence[Frame]],
    clips: Sequence[Sequence[Frame]],
    instruments: Instruments,
    perceptual_name: str,
) -> SelfCheck:
    """Measure altered copies of the frames and clips, other frames and other people against the originals.

    Args:
        frames: person to at least two uint8 [S, S, 3] RGB frames, one size for all.
        clips: successive frames, at least three each, of that size; without any, movement is not checked.
        instruments: those to check; each frame is asked for several times.
        perceptual_name: network of the perceptual distance.
    """
    found = _rows(frames, instruments)
    moved = movement_rows(clips, instruments)
    checks = [*_checks_of_copies(found), *_checks_of_frozen_parts(found), *_checks_of_other_frames(found)]
    if len(frames) > 1:
        checks.append(_separation(frames, instruments.analyser))
    checks += movement_checks(moved) if clips else []
    backends = replace(instruments.analyser.backends, perceptual=perceptual_name)
    verdicts = tuple((check.text, "ok" if check.holds else "wrong") for check in checks)
    num_wrong = sum(not check.holds for check in checks)
    title = f"{num_wrong} of {len(checks)} checks fail" if num_wrong else f"All {len(checks)} checks hold"
    return SelfCheck(
        figures=(
            figures_table(_title(frames, instruments.analyser), found, _FACE_METRICS, backends),
            figures_table("Fine detail of the same, over that of the frames", found, _DETAIL_METRICS, backends),
            figures_table(f"Movement of {len(clips)} altered clips", moved, MOVEMENT_METRICS, backends),
        ),
        checks=TextTable(title=title, header=("check", ""), rows=verdicts),
        holds=not num_wrong,
    )


def _title(frames: Mapping[str, Sequence[Frame]], analyser: FaceAnalyser) -> str:
    everything = [frame for own in frames.values() for frame in own]
    no_face = sum(analyser.analyse(frame) is None for frame in everything)
    return (
        f"Metrics of {len(everything)} frames of {len(frames)} people against altered copies and other frames "
        f"(no face found in {no_face})"
    )


def _rows(frames: Mapping[str, Sequence[Frame]], instruments: Instruments) -> dict[str, Row]:
    everything = [frame for own in frames.values() for frame in own]
    pairs: dict[str, Pairs] = {
        name: [(frame, alter(frame)) for frame in everything] for name, alter in _alterations().items()
    }
    for name, part in ((_MOUTH_FROZEN, "mouth"), (_EYES_FROZEN, "eyes")):
        altered = [frame for own in frames.values() for frame in frozen(own, instruments, part)]
        pairs[name] = list(zip(everything, altered, strict=True))
    pairs[_OTHER_FRAME] = list(_other_frames(frames))
    if len(frames) > 1:
        pairs[_OTHER_PERSON] = list(_other_people(frames))
    found: dict[str, Row] = {_TURNED: _turned_figures(everything, instruments.analyser)}
    return {name: _figures(chosen, instruments) for name, chosen in pairs.items()} | found


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


def _figures(pairs: Pairs, instruments: Instruments) -> dict[str, Estimate]:
    """Every metric of pairs and KID, pooled."""
    values = []
    for frame, other in pairs:
        face, other_face = map(instruments.analyser.analyse, (frame, other))
        values.append(
            pixel_values(frame, other, instruments.perceptual)
            | face_values(face, face, other_face, instruments.analyser.evaluated_aus)
            | detail_values(frame, face, other, other_face)
        )
    real_ND, other_ND = (np.stack([instruments.features(frame) for frame in one]) for one in zip(*pairs, strict=True))
    distance = estimate_of_sets(*kid(real_ND, other_ND, seed=0), num_pairs=len(pairs))
    return {**pooled_row(values, _PAIR_METRICS), KID.key: distance}


def _turned_figures(frames: Sequence[Frame], analyser: FaceAnalyser) -> dict[str, Estimate]:
    """Face metrics of mirrored frames after their analysis is turned back, as if the mirror had not been there."""
    values = []
    for frame in frames:
        face, mirrored = analyser.analyse(frame), analyser.analyse(mirror(frame))
        turned = turn_back(mirrored, frame.shape[1]) if mirrored else None
        values.append(face_values(face, face, turned, analyser.evaluated_aus))
    return pooled_row(values, _PAIR_METRICS)


def _other_frames(frames: Mapping[str, Sequence[Frame]]) -> Iterator[tuple[Frame, Frame]]:
    for own in frames.values():
        yield from zip(own, [*own[1:], own[0]], strict=True)


def _other_people(frames: Mapping[str, Sequence[Frame]]) -> Iterator[tuple[Frame, Frame]]:
    people = list(frames.values())
    for own, other in zip(people, [*people[1:], people[0]], strict=True):
        yield from zip(own, other, strict=False)


def _checks_of_copies(found: Mapping[str, Row]) -> Iterator[Check]:
    best: dict[Metric, float] = {CSIM: 1, SSIM: 1, L1: 0, PERCEPTUAL: 0, PRMSE: 0, AUCON: 1, LANDMARK_ERROR: 0}
    best |= {AU_INTENSITY_ERROR: 0, LIP_GAP_SLOPE: 1, GAZE_ERROR: 0, **dict.fromkeys(_DETAIL_METRICS, 1.0)}
    for metric, value in best.items():
        yield equals(metric, found, _IDENTICAL, value)
    for little, much in _LEVELS:
        for metric in (CSIM, PSNR, SSIM, L1, PERCEPTUAL, KID):
            yield worsens(metric, found, (_IDENTICAL, little, much))
        for metric in (PRMSE, AUCON, AU_INTENSITY_ERROR, LANDMARK_ERROR):
            yield worsens(metric, found, (_IDENTICAL, much))
    for little, much in _LEVELS[1:]:
        for metric in SHARPNESS.values():
            yield worsens(metric, found, (_IDENTICAL, little, much))
        for metric in FINE_POWER.values():  # a little takes all of it from a large picture, and much cannot take more
            yield worsens(metric, found, (_IDENTICAL, little))


def _checks_of_frozen_parts(found: Mapping[str, Row]) -> Iterator[Check]:
    for metric in (LIP_GAP_SLOPE, AU_INTENSITY_ERROR):
        yield worsens(metric, found, (_IDENTICAL, _MOUTH_FROZEN))
    for metric in (GAZE_ERROR, AU_INTENSITY_ERROR):
        yield worsens(metric, found, (_IDENTICAL, _EYES_FROZEN))


def _checks_of_other_frames(found: Mapping[str, Row]) -> Iterator[Check]:
    turned, mirrored = found[_TURNED][PRMSE.key].value, found[_MIRRORED][PRMSE.key].value
    yield Check(
        text=f"Mirroring changes the sign of yaw and roll and little else: {PRMSE.title} falls from {mirrored:.2f} to "
        f"{turned:.2f}, wanted below {_MAX_MIRRORED_PRMSE_DEG}",
        holds=turned < min(mirrored, _MAX_MIRRORED_PRMSE_DEG),
    )
    for metric in (CSIM, PSNR, SSIM, L1, PERCEPTUAL, PRMSE, AUCON, AU_INTENSITY_ERROR, LANDMARK_ERROR, GAZE_ERROR):
        yield worsens(metric, found, (_IDENTICAL, _OTHER_FRAME))


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
    separation = area_under_curve(np.array(same), np.array(other))
    return Check(
        text=f"{CSIM.name(analyser.backends)} separates people: mean {np.mean(same):.3f} within, {np.mean(other):.3f} "
        f"between, area under the ROC curve {separation:.4f}, wanted at least {_MIN_SEPARATION}",
        holds=separation >= _MIN_SEPARATION,
    )
