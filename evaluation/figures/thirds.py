"""Pairs by size of motion: what easy pairs would hide."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.faces.analysis import Backends
from evaluation.figures.tables import TextTable
from evaluation.measurement import COPY_SOURCE, MODEL, Measurement
from evaluation.metrics.catalogue import CSIM, FOLDS, PSNR, Metric
from evaluation.pairs import EvaluationPair, Protocol
from model.landmarks.geometry import eye_distance

_NAMES = ("smallest", "middle", "largest")

Third = Mapping[str, Any]
"""Plain values, ready for JSON: protocol, third, the limits of its motions in percent, number of pairs, the figures.

A figure that no pair has is None; one that an older evaluation had not yet is absent."""


def motion_percent(pair: EvaluationPair) -> float:
    """Mean distance of the annotated landmarks of source and driving frame, in percent of the driving eye distance.

    Between two people the shapes of their faces count too.
    """
    source_KC, driving_KC = (
        (shard.landmarks_FKC[row] + 0.5) / shard.size_px for shard, row in (pair.source, pair.driving)
    )
    return float(100 * np.linalg.norm(source_KC - driving_KC, axis=1).mean() / eye_distance(driving_KC))


def thirds(measurements: Sequence[Measurement]) -> list[Third]:
    """PSNR and CSIM of model and copy-source, and the model's folds: means in each third of a protocol's pairs."""
    by_protocol: dict[Protocol, list[Measurement]] = defaultdict(list)
    for found in measurements:
        by_protocol[found.pair.protocol].append(found)
    return [third for protocol, group in by_protocol.items() for third in _thirds_of(protocol, group)]


def thirds_table(rows: Sequence[Third], backends: Backends) -> TextTable:
    """All thirds of an evaluation in one table."""
    body = tuple(
        (
            row["protocol"],
            row["third"],
            f"{row['low_percent']:.1f} to {row['high_percent']:.1f}",
            str(row["num_pairs"]),
            *(_text(metric, row.get(key)) for key, metric, _ in _FIGURES),
        )
        for row in rows
    )
    names = [f"{metric.name(backends)} of {method} {metric.better}" for _, metric, method in _FIGURES]
    header = ("protocol", "third", "motion, % of eye distance", "pairs", *names)
    return TextTable(title="Thirds of the pairs by size of motion", header=header, rows=body)


def _text(metric: Metric, value: float | None) -> str:
    return metric.text(math.nan if value is None else value)


_FIGURES = (
    (PSNR.key, PSNR, MODEL),
    (f"{PSNR.key}_of_copy", PSNR, COPY_SOURCE),
    (CSIM.key, CSIM, MODEL),
    (f"{CSIM.key}_of_copy", CSIM, COPY_SOURCE),
    (FOLDS.key, FOLDS, MODEL),
)
"""Key, metric and method of each figure of a third."""


def _thirds_of(protocol: Protocol, measurements: Sequence[Measurement]) -> list[Third]:
    motions = {found.pair.cells(): motion_percent(found.pair) for found in measurements}
    ordered = sorted(motions, key=lambda cells: (motions[cells], cells))
    size = len(ordered) / len(_NAMES)
    parts = [ordered[round(size * rank) : round(size * (rank + 1))] for rank in range(len(_NAMES))]
    return [
        {
            "protocol": protocol.value,
            "third": name,
            "low_percent": motions[part[0]],
            "high_percent": motions[part[-1]],
            "num_pairs": len(part),
            **{key: _mean(measurements, set(part), metric, method) for key, metric, method in _FIGURES},
        }
        for name, part in zip(_NAMES, parts, strict=True)
        if part
    ]


def _mean(
    measurements: Sequence[Measurement], pairs: Collection[tuple[str, ...]], metric: Metric, method: str
) -> float | None:
    values = [
        found.values.get(metric.key, math.nan)
        for found in measurements
        if found.method == method and found.pair.cells() in pairs
    ]
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else None
