"""How much a second model loses against a first on the same pairs: the price of federation, per metric.

Legend: S training seeds, N pairs, B blocks of them, V values of a pair, Q means that a rule needs, X sums, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.figures.bootstrap import NUM_RESAMPLES, block_numbers, block_sums, counted, interval, resampled_sums
from evaluation.figures.pooling import Pooling
from evaluation.figures.tables import SECOND_COLUMNS, TextTable
from evaluation.measurement import MODEL
from evaluation.metrics.catalogue import METRICS, Metric
from evaluation.pairs import PAIR_COLUMNS
from model.errors import DataError
from model.files import read_csv

_COLUMNS = {title: (metric, index) for metric in METRICS for index, title in enumerate(metric.column_titles)}
"""Title of a column, its backend left out, to the metric and which of its values it is."""

_Both = tuple[tuple[float, ...], tuple[float, ...]]
"""A pair's values of one metric: the first model's and the second's."""


class PairValues(NamedTuple):
    """What an evaluation measured of one pair."""

    values: Mapping[str, tuple[float, ...]]
    """Name of a metric to its values; undefined ones are absent."""
    second: tuple[str, ...] | None = None
    """Identity, clip and second of the driving frame; None of an older evaluation, which did not write them."""


Evaluated = Mapping[tuple[str, ...], PairValues]
"""A pair's cells (protocol first) to its values."""


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
    """95 % percentile interval of `relative`, seconds resampled together for both models, seeds for each by itself; NaN
    where all pairs are of one second."""
    num_pairs: int
    """Different pairs whose value both models define, under one seed at least."""


def relative_gap(
    first_SVN: NDArray[np.float64],
    second_SVN: NDArray[np.float64],
    *,
    pooling: Pooling,
    seed: int,
    blocks_N: NDArray[np.int64] | None = None,
) -> tuple[float, float, float, float, float]:
    """(first, second, (first - second) / first, low, high) of values of the same N pairs.

    A block of pairs is drawn with all their values, under every seed, for both models at once. Seeds are drawn too
    where there are several, for each model by itself, since one model's trainings say nothing about the other's. With
    few seeds the interval is somewhat too narrow: S of them show (S - 1) / S of the variance between trainings.

    Args:
        first_SVN: [S, V, N] values of the first model, S >= 1, N >= 1, V as the rule takes; NaN where it has none.
        second_SVN: [S, V, N] values of the second model on the same pairs; a pair that one model lacks under a seed
            counts for neither under that seed.
        pooling: the rule.
        seed: of the bootstrap.
        blocks_N: [N] number of the block of each pair; every pair by itself if left out.
    """
    is_defined_SN = ~np.isnan(np.concatenate([first_SVN, second_SVN], axis=1)).any(axis=1)
    rng = np.random.default_rng([seed, 1])  # another stream than that of the pairs
    figures = []
    for values_SVN in (first_SVN, second_SVN):
        sums_SXB = np.stack(
            [
                block_sums(np.where(is_defined_N, counted(pooling.moments(values_VN)), 0.0), blocks_N)
                for values_VN, is_defined_N in zip(values_SVN, is_defined_SN, strict=True)
            ]
        )
        figures.append(pooling.figure(_means(sums_SXB, _drawn_seeds(len(values_SVN), rng), seed)))
    first_R, second_R = figures
    with np.errstate(divide="ignore", invalid="ignore"):
        gaps_R = (first_R - second_R) / first_R
    low, high = interval(gaps_R[1:]) if sums_SXB.shape[2] > 1 else (np.nan, np.nan)
    return float(first_R[0]), float(second_R[0]), float(gaps_R[0]), low, high


def read_pair_values(folder: Path) -> Evaluated:
    """The model's value of every metric and pair in an evaluation's per-pair.csv.

    Raises:
        DataError: if the folder holds no such file.
    """
    path = folder / "per-pair.csv"
    try:
        rows = [row for row in read_csv(path) if row["method"] == MODEL]
        return {tuple(row[column] for column in PAIR_COLUMNS): PairValues(_values(row), _second(row)) for row in rows}
    except (OSError, KeyError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: cannot be read ({reason}); wanted the folder `evaluate --out` wrote") from error


def gaps(first: Sequence[Evaluated], second: Sequence[Evaluated], *, seed: int) -> list[Gap]:
    """The gap of every metric under every protocol.

    Pairs whose driving frames are of one second are resampled together, where an evaluation says which they are.

    Args:
        first: evaluations of the first model, one a training seed.
        second: evaluations of the second model, as many, on the same pairs.
        seed: of the bootstrap.

    Raises:
        DataError: if the two have no pair in common.
    """
    runs = list(zip(first, second, strict=True))
    values: dict[tuple[str, str], dict[tuple[str, ...], list[_Both | None]]] = {}
    blocks: dict[tuple[str, ...], tuple[str, ...]] = {}
    for index, (one, other) in enumerate(runs):
        for pair in one.keys() & other.keys():
            ours, theirs = one[pair], other[pair]
            blocks.setdefault(pair, ours.second or theirs.second or pair)
            for name in ours.values.keys() & theirs.values.keys():
                by_pair = values.setdefault((pair[0], name), {})
                by_pair.setdefault(pair, [None] * len(runs))[index] = (ours.values[name], theirs.values[name])
    if not values:
        raise DataError("the two evaluations have no pair in common; evaluate the second with --pairs of the first")
    rows = [_gap(protocol, name, by_pair, blocks, seed) for (protocol, name), by_pair in values.items()]
    rows = [row for row in rows if np.isfinite([row.first, row.second]).all()]
    return sorted(rows, key=lambda row: (row.protocol, METRICS.index(_known(row.name))))


def gap_table(rows: Sequence[Gap]) -> TextTable:
    """The gaps for people; a positive gap of a metric marked with an arrow upwards is a loss of the second model."""
    body = []
    for row in rows:
        metric = _known(row.name)
        first, second = map(metric.text, (row.first, row.second))
        relative = f"{100 * row.relative:+.1f} %"
        if not np.isnan(row.low):
            relative += f" [{100 * row.low:+.1f}, {100 * row.high:+.1f}]"
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


def _second(row: Mapping[str, str]) -> tuple[str, ...] | None:
    found = tuple(row.get(column) for column in ("driving_identity", *SECOND_COLUMNS))
    return tuple(filter(None, found)) if all(found) else None


def _drawn_seeds(num_seeds: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """[1 + R, S] how often each seed counts: once as they are, then in every resample."""
    picks_RS = rng.integers(num_seeds, size=(NUM_RESAMPLES, num_seeds))
    counts_RS = (picks_RS[:, :, None] == np.arange(num_seeds)).sum(axis=1)
    return np.concatenate([np.ones((1, num_seeds)), counts_RS])


def _means(sums_SXB: NDArray[np.float64], counts_RS: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """[Q, 1 + R] means of the moments: of all pairs and seeds, then of every resample; NaN for one without values."""
    drawn = [
        np.concatenate([sums_XB.sum(axis=1, keepdims=True), resampled_sums(sums_XB, seed)], axis=1)
        for sums_XB in sums_SXB
    ]
    sums_XR = np.einsum("sxr,rs->xr", np.stack(drawn), counts_RS)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums_XR[:-1] / sums_XR[-1])


def _gap(
    protocol: str,
    name: str,
    by_pair: Mapping[tuple[str, ...], Sequence[_Both | None]],
    blocks: Mapping[tuple[str, ...], tuple[str, ...]],
    seed: int,
) -> Gap:
    missing = ((np.nan,) * len(_known(name).columns),) * 2
    pairs = sorted(by_pair)
    values_NSMV = np.array([[missing if both is None else both for both in by_pair[pair]] for pair in pairs])
    first_SVN, second_SVN = values_NSMV.transpose(2, 1, 3, 0)
    blocks_N = block_numbers([blocks[pair] for pair in pairs])
    first, second, relative, low, high = relative_gap(
        first_SVN, second_SVN, pooling=_known(name).pooling, seed=seed, blocks_N=blocks_N
    )
    return Gap(
        protocol=protocol,
        name=name,
        first=first,
        second=second,
        relative=relative,
        low=low,
        high=high,
        num_pairs=len(pairs),
    )


def _known(name: str) -> Metric:
    """The metric of that name, which may have a backend in brackets."""
    return next(metric for metric in METRICS if name.split(" (")[0] == metric.title)
