"""How much a second model loses against a first on the same pairs: the price of federation, per metric.

Legend: N pairs that both evaluations have and whose value both define, R resamples.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.figures.bootstrap import interval, resamples
from evaluation.figures.tables import TextTable
from evaluation.measurement import MODEL
from evaluation.metrics.catalogue import METRICS, Metric
from model.errors import DataError

_PAIR_COLUMNS = ("protocol", "source_identity", "source_file", "driving_identity", "driving_file")

PairValues = Mapping[tuple[str, ...], Mapping[str, float]]
"""A pair's cells (protocol first) to column name to value; undefined values are absent."""


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
    first_N: NDArray[np.float64], second_N: NDArray[np.float64], *, is_root_mean_square: bool, seed: int
) -> tuple[float, float, float, float, float]:
    """(first, second, (first - second) / first, low, high) of values of the same N pairs.

    Args:
        first_N: [N] values of the first model, N >= 1.
        second_N: [N] values of the second model on the same pairs.
        is_root_mean_square: pool as the root of the mean of squares, else as the mean.
        seed: of the paired bootstrap.
    """
    values = np.stack([first_N, second_N]) ** (2 if is_root_mean_square else 1)
    means = [values[:, picks_RN].mean(axis=2) for picks_RN in resamples(values.shape[1], seed)]
    pooled_2R = np.concatenate([values.mean(axis=1, keepdims=True), *means], axis=1)
    if is_root_mean_square:
        pooled_2R = np.sqrt(pooled_2R)
    with np.errstate(divide="ignore", invalid="ignore"):
        gaps_R = (pooled_2R[0] - pooled_2R[1]) / pooled_2R[0]
    low, high = interval(gaps_R[1:])
    first, second = pooled_2R[:, 0].tolist()
    return first, second, float(gaps_R[0]), low, high


def read_pair_values(folder: Path) -> PairValues:
    """The model's value of every metric and pair in an evaluation's per-pair.csv.

    Raises:
        DataError: if the folder holds no such file.
    """
    path = folder / "per-pair.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["method"] == MODEL]
            return {
                tuple(row[column] for column in _PAIR_COLUMNS): {
                    name: float(text) for name, text in row.items() if text and _metric_named(name)
                }
                for row in rows
            }
    except (OSError, KeyError, ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error!r}); wanted the folder `evaluate --out` wrote") from error


def gaps(first: Sequence[PairValues], second: Sequence[PairValues], *, seed: int) -> list[Gap]:
    """The gap of every metric under every protocol.

    Args:
        first: evaluations of the first model, one a training seed.
        second: evaluations of the second model, as many, on the same pairs.
        seed: of the bootstrap.

    Raises:
        DataError: if the two have no pair in common.
    """
    values: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for one, other in zip(first, second, strict=True):
        for pair in one.keys() & other.keys():
            for name in one[pair].keys() & other[pair].keys():
                values.setdefault((pair[0], name), []).append((one[pair][name], other[pair][name]))
    if not values:
        raise DataError("the two evaluations have no pair in common; evaluate the second with --pairs of the first")
    rows = [_gap(protocol, name, np.array(sorted(both)), seed) for (protocol, name), both in values.items()]
    return sorted(rows, key=lambda row: (row.protocol, METRICS.index(_known(row.name))))


def gap_table(rows: Sequence[Gap]) -> TextTable:
    """The gaps for people; a positive gap of a metric marked with an arrow upwards is a loss of the second model."""
    body = []
    for row in rows:
        metric = _known(row.name)
        first, second = (f"{value:.{metric.num_decimals}f}" for value in (row.first, row.second))
        relative = f"{100 * row.relative:+.1f} % [{100 * row.low:+.1f}, {100 * row.high:+.1f}]"
        name = f"{row.name} {'↑' if metric.is_higher_better else '↓'}"
        body.append((row.protocol, name, first, second, relative, str(row.num_pairs)))
    header = ("protocol", "metric", "first", "second", "(first - second) / first", "pairs")
    return TextTable(title="Gap between two models on the same pairs", header=header, rows=tuple(body))


def _gap(protocol: str, name: str, both_N2: NDArray[np.float64], seed: int) -> Gap:
    first, second, relative, low, high = relative_gap(
        both_N2[:, 0], both_N2[:, 1], is_root_mean_square=_known(name).is_root_mean_square, seed=seed
    )
    return Gap(
        protocol=protocol,
        name=name,
        first=first,
        second=second,
        relative=relative,
        low=low,
        high=high,
        num_pairs=len(both_N2),
    )


def _metric_named(name: str) -> Metric | None:
    """The metric of a column, whose name may have a backend in brackets."""
    return next((metric for metric in METRICS if name.split(" (")[0] == metric.title), None)


def _known(name: str) -> Metric:
    metric = _metric_named(name)
    assert metric is not None, "only columns of known metrics are read"
    return metric
