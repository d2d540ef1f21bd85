"""How much a second model loses against a first on the same pairs: the price of federation, per metric.

Legend: N pairs that both evaluations have and whose value both define, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.figures.bootstrap import interval, resamples
from evaluation.figures.pooling import Pooling
from evaluation.figures.tables import TextTable
from evaluation.measurement import MODEL
from evaluation.metrics.catalogue import METRICS, Metric
from model.errors import DataError
from model.files import read_csv

_PAIR_COLUMNS = ("protocol", "source_identity", "source_file", "driving_identity", "driving_file")
_COLUMNS = {title: (metric, index) for metric in METRICS for index, title in enumerate(metric.column_titles)}
"""Title of a column, its backend left out, to the metric and which of its values it is."""

PairValues = Mapping[tuple[str, ...], Mapping[str, tuple[float, ...]]]
"""A pair's cells (protocol first) to name of a metric to its values; undefined ones are absent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """One metric under one protocol."""

    protocol: str
    name: str
    """The metric with its backend."""
    first: float
    second: float
    relative: float
    """(first - second) / first."""
    low: float
    high: float
    """95 % percentile interval of `relative`, pairs resampled together for both models."""
    num_pairs: int


def relative_gap(
    first_VN: NDArray[np.float64], second_VN: NDArray[np.float64], *, pooling: Pooling, seed: int
) -> tuple[float, float, float, float, float]:
    """(first, second, (first - second) / first, low, high) of values of the same N pairs.

    Args:
        first_VN: [V, N] values of the first model, N >= 1, V as the rule takes.
        second_VN: [V, N] values of the second model on the same pairs.
        pooling: the rule.
        seed: of the paired bootstrap.
    """
    moments = [pooling.moments(values_VN) for values_VN in (first_VN, second_VN)]
    means = [[moments_QN.mean(axis=1, keepdims=True)] for moments_QN in moments]
    for picks_RN in resamples(first_VN.shape[1], seed):
        for found, moments_QN in zip(means, moments, strict=True):
            found.append(moments_QN[:, picks_RN].mean(axis=2))
    first_R, second_R = (pooling.figure(np.concatenate(found, axis=1)) for found in means)
    with np.errstate(divide="ignore", invalid="ignore"):
        gaps_R = (first_R - second_R) / first_R
    low, high = interval(gaps_R[1:])
    return float(first_R[0]), float(second_R[0]), float(gaps_R[0]), low, high


def read_pair_values(folder: Path) -> PairValues:
    """The model's value of every metric and pair in an evaluation's per-pair.csv.

    Raises:
        DataError: if the folder holds no such file.
    """
    path = folder / "per-pair.csv"
    try:
        rows = [row for row in read_csv(path) if row["method"] == MODEL]
        return {tuple(row[column] for column in _PAIR_COLUMNS): _values(row) for row in rows}
    except (OSError, KeyError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: cannot be read ({reason}); wanted the folder `evaluate --out` wrote") from error


def gaps(first: Sequence[PairValues], second: Sequence[PairValues], *, seed: int) -> list[Gap]:
    """The gap of every metric under every protocol.

    Args:
        first: evaluations of the first model, one a training seed.
        second: evaluations of the second model, as many, on the same pairs.
        seed: of the bootstrap.

    Raises:
        DataError: if the two have no pair in common.
    """
    values: dict[tuple[str, str], list[tuple[tuple[float, ...], tuple[float, ...]]]] = {}
    for one, other in zip(first, second, strict=True):
        for pair in one.keys() & other.keys():
            for name in one[pair].keys() & other[pair].keys():
                values.setdefault((pair[0], name), []).append((one[pair][name], other[pair][name]))
    if not values:
        raise DataError("the two evaluations have no pair in common; evaluate the second with --pairs of the first")
    rows = [_gap(protocol, name, np.array(sorted(both)), seed) for (protocol, name), both in values.items()]
    rows = [row for row in rows if np.isfinite([row.first, row.second]).all()]
    return sorted(rows, key=lambda row: (row.protocol, METRICS.index(_known(row.name))))


def gap_table(rows: Sequence[Gap]) -> TextTable:
    """The gaps for people; a positive gap of a metric marked with an arrow upwards is a loss of the second model."""
    body = []
    for row in rows:
        metric = _known(row.name)
        first, second = map(metric.text, (row.first, row.second))
        relative = f"{100 * row.relative:+.1f} % [{100 * row.low:+.1f}, {100 * row.high:+.1f}]"
        name = f"{row.name} {metric.better}"
        body.append((row.protocol, name, first, second, relative, str(row.num_pairs)))
    header = ("protocol", "metric", "first", "second", "(first - second) / first", "pairs")
    return TextTable(title="Gap between two models on the same pairs", header=header, rows=tuple(body))


def _values(row: Mapping[str, str]) -> dict[str, tuple[float, ...]]:
    """Metric with its backend to its values in a row of the file; metrics without all of theirs are left out."""
    values: dict[str, dict[int, float]] = {}
    for column, text in row.items():
        title, bracket, backend = column.partition(" (")
        if text and title in _COLUMNS:
            metric, index = _COLUMNS[title]
            values.setdefault(metric.title + bracket + backend, {})[index] = float(text)
    return {
        name: tuple(found[index] for index in sorted(found))
        for name, found in values.items()
        if len(found) == len(_known(name).columns)
    }


def _gap(protocol: str, name: str, both_N2V: NDArray[np.float64], seed: int) -> Gap:
    first, second, relative, low, high = relative_gap(
        both_N2V[:, 0].T, both_N2V[:, 1].T, pooling=_known(name).pooling, seed=seed
    )
    return Gap(
        protocol=protocol,
        name=name,
        first=first,
        second=second,
        relative=relative,
        low=low,
        high=high,
        num_pairs=len(both_N2V),
    )


def _known(name: str) -> Metric:
    """The metric of that name, which may have a backend in brackets."""
    return next(metric for metric in METRICS if name.split(" (")[0] == metric.title)
