"""Figures of altered pictures, and what must hold between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from evaluation.faces.analysis import Backends
from evaluation.figures.bootstrap import NO_ESTIMATE, Estimate
from evaluation.figures.summary import pooled
from evaluation.figures.tables import TextTable
from evaluation.metrics.catalogue import Metric

Row = Mapping[str, Estimate]
"""Metric key to figure, of one alteration."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that must hold."""

    text: str
    holds: bool


def pooled_row(values: Sequence[Mapping[str, float]], metrics: Sequence[Metric]) -> dict[str, Estimate]:
    """Metrics over pairs or clips; one whose columns were not measured has no figure."""
    return {
        metric.key: pooled(metric, [found for found in values if metric.columns[0] in found], seed=0)
        for metric in metrics
    }


def worsens(metric: Metric, found: Mapping[str, Row], names: Sequence[str]) -> Check:
    """Each of the named rows must be strictly worse than the one before it."""
    values = [found[name][metric.key].value for name in names]
    text = " to ".join(f"{metric.text(value)} ({name})" for value, name in zip(values, names, strict=True))
    holds = all(metric.better.is_worse(before, after) for before, after in pairwise(values))
    return Check(text=f"{metric.title} gets worse: {text}", holds=holds)


def equals(metric: Metric, found: Mapping[str, Row], name: str, value: float) -> Check:
    """The named row, of copies, must have the best value there is."""
    holds = abs(found[name][metric.key].value - value) < 1e-5
    return Check(text=f"{metric.title} of {name} frames is {value:g}", holds=holds)


def figures_table(title: str, found: Mapping[str, Row], metrics: Sequence[Metric], backends: Backends) -> TextTable:
    """An alteration a row, a metric a column."""
    return TextTable(
        title=title,
        header=("against", *(metric.name(backends) for metric in metrics)),
        rows=tuple(
            (name, *(metric.text(row.get(metric.key, NO_ESTIMATE).value) for metric in metrics))
            for name, row in found.items()
        ),
    )
