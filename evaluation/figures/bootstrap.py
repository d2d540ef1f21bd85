"""Bootstrap: how many resamples, which interval, and a metric pooled over pairs with its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.figures.pooling import Pooling

NUM_RESAMPLES = 1000
_LEVELS = (0.025, 0.975)
_MAX_DRAWN = 4_000_000
"""Values drawn at once, which bounds memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A pooled value and the 95 % percentile interval of its bootstrap over pairs; NaN without any pair."""

    value: float
    low: float
    high: float
    num_pairs: int
    """Pairs, or clips, that have the value."""
    sd: float | None = None
    """Standard deviation over subsets, for a figure of sets of pictures, which has no interval."""


NO_ESTIMATE = Estimate(value=np.nan, low=np.nan, high=np.nan, num_pairs=0)


def estimate_of_sets(value: float, sd: float, *, num_pairs: int) -> Estimate:
    """A figure of sets of pictures from its mean and standard deviation over subsets; NaN is no figure."""
    if np.isnan(value):
        return NO_ESTIMATE
    return Estimate(value=value, low=np.nan, high=np.nan, num_pairs=num_pairs, sd=sd)


def estimate(values_NV: ArrayLike, *, pooling: Pooling, seed: int) -> Estimate:
    """Pool the values of pairs, those with NaN left out, and resample the pairs.

    The pairs are sorted by value first, so their order changes nothing. The interval says how the figure would vary
    with other pairs of the same people; pairs that share frames make it somewhat too narrow.

    Args:
        values_NV: [N], or [N, V] for a rule that takes V = 2 values of a pair.
        pooling: the rule.
        seed: of the resampling.
    """
    values_VN = np.asarray(values_NV, np.float64).reshape(-1, pooling.num_values).T
    values_VN = values_VN[:, ~np.isnan(values_VN).any(axis=0)]
    values_VN = values_VN[:, np.lexsort(values_VN[::-1])]
    if not values_VN.size:
        return NO_ESTIMATE
    moments_QN = pooling.moments(values_VN)
    means_QR = resampled_sums(moments_QN, seed) / values_VN.shape[1]
    figures = pooling.figure(np.concatenate([moments_QN.mean(axis=1, keepdims=True), means_QR], axis=1))
    if not np.isfinite(figures[0]):
        return NO_ESTIMATE
    low, high = interval(figures[1:])
    return Estimate(value=float(figures[0]), low=low, high=high, num_pairs=values_VN.shape[1])


def resampled_sums(amounts_XN: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """[X, R] sums of every resample of N units, drawn with replacement: products with how often each is drawn.

    The same seed and N draw the same units.
    """
    num_units = amounts_XN.shape[1]
    counted = _few_counts(num_units, seed) if num_units <= _MAX_DRAWN // NUM_RESAMPLES else _counts(num_units, seed)
    return np.asarray(np.concatenate([amounts_XN @ counts_RN.T for counts_RN in counted], axis=1))


def _counts(num_units: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """[R, N] how often each of the NUM_RESAMPLES resamples takes each of N units, some resamples at once."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _MAX_DRAWN // num_units)
    for start in range(0, NUM_RESAMPLES, at_once):
        picks_RN = rng.integers(num_units, size=(min(at_once, NUM_RESAMPLES - start), num_units))
        yield np.stack([np.bincount(picks_N, minlength=num_units) for picks_N in picks_RN]).astype(np.float64)


@lru_cache(4)
def _few_counts(num_units: int, seed: int) -> tuple[NDArray[np.float64], ...]:
    """The same, kept, since most figures are of as many units: at most 32 MB each."""
    return tuple(_counts(num_units, seed))


def interval(figures_R: ArrayLike) -> tuple[float, float]:
    """The 95 % percentile interval (low, high) of a figure's resamples; those that are NaN have no figure."""
    low, high = np.nanquantile(np.asarray(figures_R, np.float64), _LEVELS)
    return float(low), float(high)
