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
    means_QR = _resampled_means(moments_QN, seed)
    figures = pooling.figure(np.concatenate([moments_QN.mean(axis=1, keepdims=True), means_QR], axis=1))
    if not np.isfinite(figures[0]):
        return NO_ESTIMATE
    low, high = interval(figures[1:])
    return Estimate(value=float(figures[0]), low=low, high=high, num_pairs=values_VN.shape[1])


def resamples(num_values: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Which of N values each of the NUM_RESAMPLES resamples takes, with replacement: [R, N] indices, some at once."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _MAX_DRAWN // num_values)
    for start in range(0, NUM_RESAMPLES, at_once):
        yield rng.integers(num_values, size=(min(at_once, NUM_RESAMPLES - start), num_values))


def _resampled_means(moments_QN: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """[Q, R] means of every resample, as products with how often each takes every value."""
    num_values = moments_QN.shape[1]
    counted = _few_counts(num_values, seed) if num_values <= _MAX_DRAWN // NUM_RESAMPLES else _counts(num_values, seed)
    return np.asarray(np.concatenate([moments_QN @ counts_RN.T for counts_RN in counted], axis=1) / num_values)


def _counts(num_values: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """[R, N] how often each resample takes each value, some resamples at once."""
    for picks_RN in resamples(num_values, seed):
        yield np.stack([np.bincount(picks_N, minlength=num_values) for picks_N in picks_RN]).astype(np.float64)


@lru_cache(4)
def _few_counts(num_values: int, seed: int) -> tuple[NDArray[np.float64], ...]:
    """The same, kept, since most figures are of as many pairs: at most 32 MB each."""
    return tuple(_counts(num_values, seed))


def interval(figures_R: ArrayLike) -> tuple[float, float]:
    """The 95 % percentile interval (low, high) of a figure's resamples; those that are NaN have no figure."""
    low, high = np.nanquantile(np.asarray(figures_R, np.float64), _LEVELS)
    return float(low), float(high)
