"""Every metric of every pair under every method, one pair at a time, so that no value depends on a batch.

Legend: N pairs, M driving frames, U evaluated action units.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data_partition.batches import PROCESS_CACHE, FrameRef
from evaluation.faces.analysis import FaceAnalyser, FaceAnalysis
from evaluation.metrics.catalogue import AUCON, AUCON_SHUFFLED, CSIM, L1, LANDMARK_ERROR, PERCEPTUAL, PRMSE, PSNR, SSIM
from evaluation.metrics.faces import aucon, csim, landmark_error_percent, prmse_deg
from evaluation.metrics.pixels import l1, largest_psnr_db, psnr_db, ssim
from evaluation.pairs import EvaluationPair
from evaluation.people import nearest_source
from model.batch import AU_ORDER
from model.frames import Frame
from model.progress import Progress

Method = Callable[[EvaluationPair], Frame]
"""Draws the result of a pair, [S, S, 3] uint8 RGB: a model, or a baseline that shows what a cheat scores."""

FrameDistance = Callable[[Frame, Frame], float]
"""Driving and generated frame to a distance: `PerceptualDistance`."""

MODEL, COPY_SOURCE, COPY_NEAREST, COPY_DRIVING = "model", "copy-source", "copy-nearest", "copy-driving"


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Measurement:
    """One pair under one method."""

    pair: EvaluationPair
    method: str
    values: dict[str, float]
    """Metric key to value; NaN where a face that the metric needs was not found."""
    driving: FaceAnalysis | None
    generated: FaceAnalysis | None
    """None: no face found."""
    has_source_face: bool


def frame_at(frame: FrameRef, size_px: int) -> Frame:
    """A frame of a shard at the model's size, [S, S, 3] uint8 RGB."""
    image_CHW = PROCESS_CACHE.get(frame.shard, frame.row, size_px).image_CHW
    return np.ascontiguousarray(image_CHW.transpose(1, 2, 0))


def baselines(size_px: int, num_sources: int = 1) -> dict[str, Method]:
    """Copy-source hands the source back, copy-driving the driving frame; with several sources, copy-nearest theirs."""
    copies: dict[str, Method] = {COPY_SOURCE: lambda pair: frame_at(pair.source, size_px)}
    if num_sources > 1:
        copies[COPY_NEAREST] = lambda pair: nearest_source(pair, size_px)
    return copies | {COPY_DRIVING: lambda pair: frame_at(pair.driving, size_px)}


def measure(
    pairs: Sequence[EvaluationPair],
    methods: Mapping[str, Method],
    analyser: FaceAnalyser,
    *,
    perceptual: FrameDistance,
    size_px: int,
    progress: Progress,
) -> list[Measurement]:
    """Every metric of every pair under every method, pairs in the given order.

    Copy-driving is measured only where the driving frame is not what should come out: elsewhere it is perfect.

    Args:
        pairs: any protocols mixed.
        methods: name to method.
        analyser: looks at source, driving and generated frames, all at the same size.
        perceptual: of driving and generated frames, where the driving one is the truth.
        size_px: side S of all frames.
        progress: told how many pairs are done.

    Raises:
        DataError: if a frame cannot be read.
    """
    found = []
    for done, pair in enumerate(pairs, start=1):
        for name, method in methods.items():
            if name == COPY_DRIVING and pair.protocol.has_truth:
                continue
            frames = (frame_at(pair.source, size_px), frame_at(pair.driving, size_px), method(pair))
            values = pixel_values(*frames[1:], perceptual) if pair.protocol.has_truth else {}
            found.append(_measure(pair, name, frames, analyser, values))
        progress("Evaluating pairs", done, len(pairs))
    return _with_shuffled_aucon(found, analyser.evaluated_aus)


def _measure(
    pair: EvaluationPair,
    method: str,
    frames: tuple[Frame, Frame, Frame],
    analyser: FaceAnalyser,
    of_pixels: dict[str, float],
) -> Measurement:
    source, driving, generated = map(analyser.analyse, frames)
    values = face_values(source, driving, generated, analyser.evaluated_aus) | of_pixels
    return Measurement(
        pair=pair,
        method=method,
        values=values,
        driving=driving,
        generated=generated,
        has_source_face=source is not None,
    )


def pixel_values(driving: Frame, generated: Frame, perceptual: FrameDistance) -> dict[str, float]:
    """The pixel and feature metrics of a generated frame against the driving frame that should come out."""
    return {
        PSNR.key: min(psnr_db(driving, generated), largest_psnr_db(driving)),
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
    values = dict.fromkeys((CSIM.key, PRMSE.key, AUCON.key, LANDMARK_ERROR.key), math.nan)
    if source and generated:
        values[CSIM.key] = csim(source, generated)
    if driving and generated:
        values[PRMSE.key] = prmse_deg(driving, generated)
        values[AUCON.key] = aucon(driving, generated, evaluated_aus)
        values[LANDMARK_ERROR.key] = landmark_error_percent(driving, generated)
    return values


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
