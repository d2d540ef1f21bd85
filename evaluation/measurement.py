"""Every metric of every pair under every method, one pair at a time, so that no value depends on a batch.

Legend: N pairs, M driving frames, U evaluated action units, D features.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_partition.batches import PROCESS_CACHE, FrameRef
from data_partition.faces.action_units import lip_gap
from evaluation.faces.analysis import FaceAnalyser, FaceAnalysis
from evaluation.metrics.catalogue import (
    AU_INTENSITY_ERROR,
    AUCON,
    AUCON_SHUFFLED,
    CSIM,
    FINE_POWER,
    FOLDS,
    GAZE_ERROR,
    L1,
    LANDMARK_ERROR,
    LIP_GAP_SLOPE,
    PERCEPTUAL,
    PRMSE,
    PSNR,
    SHARPNESS,
    SSIM,
)
from evaluation.metrics.faces import (
    au_intensity_error,
    aucon,
    csim,
    gaze_error_percent,
    landmark_error_percent,
    prmse_deg,
)
from evaluation.metrics.pixels import finite_psnr_db, l1, ssim
from evaluation.metrics.regions import PARTS, cut_out
from evaluation.metrics.sharpness import fine_power, laplacian_energy
from evaluation.pairs import EvaluationPair, Protocol
from evaluation.people import nearest_source
from model.batch import AU_ORDER
from model.frames import Frame
from model.progress import Progress


class Drawn(NamedTuple):
    """The result of a pair."""

    frame: Frame
    """[S, S, 3] uint8 RGB."""
    fold_percent: float = math.nan
    """Of `metrics.folds`; NaN where nothing was warped."""


Method = Callable[[EvaluationPair], Drawn]
"""Draws a pair: a model, or a baseline that shows what a cheat scores."""

FrameDistance = Callable[[Frame, Frame], float]
"""Driving and generated frame to a distance: `PerceptualDistance`."""

Features = Callable[[Frame], NDArray[np.float32]]
"""Frame to [D] features: `KidFeatures`."""

_FACE_METRICS = (CSIM, PRMSE, AUCON, AU_INTENSITY_ERROR, LANDMARK_ERROR, GAZE_ERROR, LIP_GAP_SLOPE)

MODEL, COPY_SOURCE, COPY_NEAREST, COPY_DRIVING = "model", "copy-source", "copy-nearest", "copy-driving"


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Instruments:
    """What looks at the pictures, all at one size."""

    analyser: FaceAnalyser
    perceptual: FrameDistance
    """Of driving and generated frames, where the driving one is the truth, and of successive frames."""
    features: Features
    """Of single pictures, for distances of sets of them."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Measurement:
    """One pair under one method."""

    pair: EvaluationPair
    method: str
    values: dict[str, float]
    """Column of a metric to value; NaN where a face that the metric needs was not found."""
    driving: FaceAnalysis | None
    generated: FaceAnalysis | None
    """None: no face found."""
    has_source_face: bool
    features_D: NDArray[np.float32]
    """Of the generated frame."""
    real_features_D: NDArray[np.float32]
    """Of the pair's real frame."""


def frame_at(frame: FrameRef, size_px: int) -> Frame:
    """A frame of a shard at the model's size, [S, S, 3] uint8 RGB."""
    image_CHW = PROCESS_CACHE.get(frame.shard, frame.row, size_px).image_CHW
    return np.ascontiguousarray(image_CHW.transpose(1, 2, 0))


def baselines(size_px: int, num_sources: int = 1) -> dict[str, Method]:
    """Copy-source hands the source back, copy-driving the driving frame; with several sources, copy-nearest theirs."""
    copies: dict[str, Method] = {COPY_SOURCE: lambda pair: Drawn(frame_at(pair.source, size_px))}
    if num_sources > 1:
        copies[COPY_NEAREST] = lambda pair: Drawn(nearest_source(pair, size_px))
    return copies | {COPY_DRIVING: lambda pair: Drawn(frame_at(pair.driving, size_px))}


def methods_for(protocol: Protocol, methods: Mapping[str, Method]) -> dict[str, Method]:
    """Those that mean something: copy-driving only where the driving frame is not what should come out."""
    return {name: method for name, method in methods.items() if name != COPY_DRIVING or not protocol.has_truth}


def real_frame(pair: EvaluationPair) -> FrameRef:
    """The frame that shows how sharp and how real a result should look: the truth, else the source."""
    return pair.driving if pair.protocol.has_truth else pair.source


def measure(
    pairs: Sequence[EvaluationPair],
    methods: Mapping[str, Method],
    instruments: Instruments,
    *,
    size_px: int,
    progress: Progress,
) -> list[Measurement]:
    """Every metric of every pair under every method, pairs in the given order.

    Args:
        pairs: any protocols mixed.
        methods: name to method.
        instruments: look at the frames.
        size_px: side S of all frames.
        progress: told how many pairs are done.

    Raises:
        DataError: if a frame cannot be read.
    """
    found = []
    for done, pair in enumerate(pairs, start=1):
        for name, method in methods_for(pair.protocol, methods).items():
            found.append(_measure(pair, name, method(pair), instruments, size_px))
        progress("Evaluating pairs", done, len(pairs))
    return _with_shuffled_aucon(found, instruments.analyser.evaluated_aus)


def _measure(pair: EvaluationPair, method: str, drawn: Drawn, instruments: Instruments, size_px: int) -> Measurement:
    analyser, generated_HWC = instruments.analyser, drawn.frame
    source_HWC, driving_HWC, real_HWC = (
        frame_at(frame, size_px) for frame in (pair.source, pair.driving, real_frame(pair))
    )
    source, driving, generated = map(analyser.analyse, (source_HWC, driving_HWC, generated_HWC))
    values = face_values(source, driving, generated, analyser.evaluated_aus)
    values |= detail_values(real_HWC, analyser.analyse(real_HWC), generated_HWC, generated)
    values[FOLDS.key] = drawn.fold_percent
    if pair.protocol.has_truth:
        values |= pixel_values(driving_HWC, generated_HWC, instruments.perceptual)
    return Measurement(
        pair=pair,
        method=method,
        values=values,
        driving=driving,
        generated=generated,
        has_source_face=source is not None,
        features_D=instruments.features(generated_HWC),
        real_features_D=instruments.features(real_HWC),
    )


def pixel_values(driving: Frame, generated: Frame, perceptual: FrameDistance) -> dict[str, float]:
    """The pixel and feature metrics of a generated frame against the driving frame that should come out."""
    return {
        PSNR.key: finite_psnr_db(driving, generated),
        SSIM.key: ssim(driving, generated),
        L1.key: l1(driving, generated),
        PERCEPTUAL.key: perceptual(driving, generated),
    }


def face_values(
    source: FaceAnalysis | None,
    driving: FaceAnalysis | None,
    generated: FaceAnalysis | None,
    evaluated_aus: Sequence[int],
) -> dict[str, float]:
    """The face metrics of a generated frame; NaN where a face that a metric needs is missing."""
    values = dict.fromkeys((column for metric in _FACE_METRICS for column in metric.columns), math.nan)
    if source and generated:
        values[CSIM.key] = csim(source, generated)
    if driving and generated:
        values[PRMSE.key] = prmse_deg(driving, generated)
        values[AUCON.key] = aucon(driving, generated, evaluated_aus)
        values[AU_INTENSITY_ERROR.key] = au_intensity_error(driving, generated, evaluated_aus)
        values[LANDMARK_ERROR.key] = landmark_error_percent(driving, generated)
        values[GAZE_ERROR.key] = gaze_error_percent(driving, generated)
        gaps = (lip_gap(face.landmarks_KC) for face in (driving, generated))
        values |= zip(LIP_GAP_SLOPE.columns, gaps, strict=True)
    return values


def detail_values(
    real_HWC: Frame, real: FaceAnalysis | None, generated_HWC: Frame, generated: FaceAnalysis | None
) -> dict[str, float]:
    """Sharpness and fine power of a real and a generated frame, whole, mouth and eyes; NaN for parts without a face."""
    values: dict[str, float] = {}
    for region in SHARPNESS:
        parts = (_part(real_HWC, real, region), _part(generated_HWC, generated, region))
        for metric, measured in ((SHARPNESS[region], laplacian_energy), (FINE_POWER[region], fine_power)):
            amounts = (math.nan if part is None else measured(part) for part in parts)
            values |= zip(metric.columns, amounts, strict=True)
    return values


def _part(frame_HWC: Frame, face: FaceAnalysis | None, region: str) -> Frame | None:
    if region not in PARTS:
        return frame_HWC
    return cut_out(frame_HWC, face.landmarks_KC, region) if face else None


def _with_shuffled_aucon(measurements: Iterable[Measurement], evaluated_aus: Sequence[int]) -> list[Measurement]:
    """AUCON of each generated frame against the driving frames of the *other* pairs, their mean: chance level.

    Only driving frames of the same person count, so that a person who always smiles raises the chance level
    and not the result. Nothing is drawn: it is the exact mean over all of them.
    """
    measurements = list(measurements)
    groups: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for index, found in enumerate(measurements):
        groups[found.pair.protocol, found.method, found.pair.driving.shard.identity].append(index)
    columns = [AU_ORDER.index(au) for au in evaluated_aus]
    result = list(measurements)
    for indices in groups.values():
        chance_N = _chance_aucon_N([measurements[index] for index in indices], columns)
        for index, chance in zip(indices, chance_N, strict=True):
            result[index] = replace(
                measurements[index], values=measurements[index].values | {AUCON_SHUFFLED.key: float(chance)}
            )
    return result


def _chance_aucon_N(group: Sequence[Measurement], columns: Sequence[int]) -> NDArray[np.float64]:
    """[N] mean agreement of each measurement with the group's other driving frames; NaN if it has none."""
    drivings = {found.pair.driving.row: found.driving for found in group if found.driving}
    chance_N = np.full(len(group), np.nan)
    if len(drivings) < 2:
        return chance_N
    rows_M = np.array(sorted(drivings))
    driving_MU = np.stack([drivings[row].au_presence_A[columns] for row in rows_M.tolist()])
    for index, found in enumerate(group):
        if found.generated and found.driving:
            agreement_M = (driving_MU == found.generated.au_presence_A[columns]).mean(axis=1)
            chance_N[index] = agreement_M[rows_M != found.pair.driving.row].mean()
    return chance_N
