"""Measurements of many pairs and clips as figures: one row per protocol, source identity and method."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evaluation.clips import ClipMeasurement
from evaluation.figures.bootstrap import NO_ESTIMATE, Estimate, block_numbers, estimate, estimate_of_sets
from evaluation.measurement import Measurement, real_frame
from evaluation.metrics.catalogue import KID, KID_REAL, Metric, Scope, metrics_of
from evaluation.metrics.kid import kid, kid_of_halves
from evaluation.pairs import Protocol

EVERYBODY = ""
"""Stands for all source identities together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Faces:
    """In how many pairs no face was found."""

    num_pairs: int
    num_without_source: int
    num_without_driving: int
    num_without_generated: int

    @property
    def generated_rate(self) -> float:
        """Share of generated frames without a face, 0 to 1."""
        return self.num_without_generated / self.num_pairs


@dataclass(frozen=True, kw_only=True, slots=True)
class SummaryRow:
    """One method on the pairs of one source identity, or of everybody."""

    protocol: Protocol
    identity: str
    """`EVERYBODY` for all pairs together."""
    method: str
    faces: Faces
    figures: dict[str, Estimate]
    """Metric key to figure, in the order of `METRICS`."""


@dataclass(kw_only=True, slots=True)
class _Group:
    """What one row is made of."""

    pairs: list[Measurement] = field(default_factory=list)
    clips: list[ClipMeasurement] = field(default_factory=list)


def summarise(
    measurements: Sequence[Measurement], clips: Sequence[ClipMeasurement] = (), *, seed: int
) -> list[SummaryRow]:
    """Figures over everybody first, then of each source identity; protocols and methods as they come.

    Args:
        measurements: what `measure` returned.
        clips: what `measure_clips` returned for clips of the same pairs.
        seed: of the bootstrap and of KID's subsets.
    """
    groups: dict[tuple[Protocol, str, str], _Group] = defaultdict(_Group)
    for found in measurements:
        for identity in (EVERYBODY, found.pair.source.shard.identity):
            groups[found.pair.protocol, identity, found.method].pairs.append(found)
    for moved in clips:
        for identity in (EVERYBODY, moved.clip[0].source.shard.identity):
            groups[moved.clip[0].protocol, identity, moved.method].clips.append(moved)
    rows = [_row(*key, group, seed) for key, group in groups.items()]
    order = list(Protocol)
    return sorted(rows, key=lambda row: (order.index(row.protocol), row.identity != EVERYBODY, row.identity))


def pooled(
    metric: Metric, values: Sequence[Mapping[str, float]], *, seed: int, blocks_N: NDArray[np.int64] | None = None
) -> Estimate:
    """The figure of a metric of pairs or clips; one without any of its columns has no value.

    Args:
        metric: the metric.
        values: of every pair or clip, column to value.
        seed: of the bootstrap.
        blocks_N: [N] number of the block of each, which is resampled as one; each by itself if left out.
    """
    values_NV = [[found[column] for column in metric.columns] for found in values]
    return estimate(values_NV, pooling=metric.pooling, seed=seed, blocks_N=blocks_N) if values_NV else NO_ESTIMATE


def _row(protocol: Protocol, identity: str, method: str, group: _Group, seed: int) -> SummaryRow:
    values = {Scope.PAIR: [found.values for found in group.pairs], Scope.CLIP: [found.values for found in group.clips]}
    blocks = {Scope.PAIR: block_numbers([found.pair.driving_second() for found in group.pairs]), Scope.CLIP: None}
    figures = _kid_figures(group.pairs, seed)
    figures |= {
        metric.key: pooled(metric, values[metric.scope], seed=seed, blocks_N=blocks[metric.scope])
        for metric in metrics_of(protocol, Scope.PAIR, Scope.CLIP)
    }
    faces = Faces(
        num_pairs=len(group.pairs),
        num_without_source=sum(not found.has_source_face for found in group.pairs),
        num_without_driving=sum(found.driving is None for found in group.pairs),
        num_without_generated=sum(found.generated is None for found in group.pairs),
    )
    return SummaryRow(protocol=protocol, identity=identity, method=method, faces=faces, figures=figures)


def _kid_figures(measurements: Sequence[Measurement], seed: int) -> dict[str, Estimate]:
    """KID of generated frames against the real ones, each real frame once, and of the real ones among themselves."""
    real = {_frame_name(found): found.real_features_D for found in measurements}
    real_ND = np.stack([real[name] for name in sorted(real)])
    generated = sorted((found.features_D for found in measurements), key=lambda features_D: features_D.tobytes())
    values = {KID: kid(real_ND, np.stack(generated), seed=seed), KID_REAL: kid_of_halves(real_ND, seed=seed)}
    return {
        metric.key: estimate_of_sets(mean, sd, num_pairs=len(measurements)) for metric, (mean, sd) in values.items()
    }


def _frame_name(found: Measurement) -> tuple[str, int]:
    shard, row = real_frame(found.pair)
    return shard.identity, row
