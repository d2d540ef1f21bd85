"""Measurements of many pairs as figures: one row per protocol, source identity and method."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.figures.bootstrap import Estimate, estimate
from evaluation.measurement import Measurement
from evaluation.metrics.catalogue import metrics_of
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


def summarise(measurements: Sequence[Measurement], *, seed: int) -> list[SummaryRow]:
    """Figures over everybody first, then of each source identity; protocols and methods as they come.

    Args:
        measurements: what `measure` returned.
        seed: of the bootstrap.
    """
    groups: dict[tuple[Protocol, str, str], list[Measurement]] = defaultdict(list)
    for found in measurements:
        for identity in (EVERYBODY, found.pair.source.shard.identity):
            groups[found.pair.protocol, identity, found.method].append(found)
    rows = [_row(*key, group, seed) for key, group in groups.items()]
    order = list(Protocol)
    return sorted(rows, key=lambda row: (order.index(row.protocol), row.identity != EVERYBODY, row.identity))


def _row(protocol: Protocol, identity: str, method: str, group: Sequence[Measurement], seed: int) -> SummaryRow:
    figures = {
        metric.key: estimate(
            [found.values[metric.key] for found in group],
            is_root_mean_square=metric.is_root_mean_square,
            seed=seed,
        )
        for metric in metrics_of(protocol)
    }
    faces = Faces(
        num_pairs=len(group),
        num_without_source=sum(not found.has_source_face for found in group),
        num_without_driving=sum(found.driving is None for found in group),
        num_without_generated=sum(found.generated is None for found in group),
    )
    return SummaryRow(protocol=protocol, identity=identity, method=method, faces=faces, figures=figures)
