"""Bootstrap: how many resamples, of what, which interval, and a metric pooled over pairs with its own.

What is drawn with replacement are blocks: values that belong together, as those of frames of one second do.

Legend: N values, B blocks, R resamples, V values of a pair, Q means that a rule needs, X amounts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    """A pooled value and the 95 % percentile interval of its bootstrap; NaN without any pair, or interval."""

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


def estimate(
    values_NV: ArrayLike, *, pooling: Pooling, seed: int, blocks_N: NDArray[np.int64] | None = None
) -> Estimate:
    """Pool the values of pairs, those with NaN left out, and resample their blocks.

    The pairs are sorted by value first, so their order changes nothing. The interval says how the figure would vary
    with other seconds of the same people; with one block alone there is none.

    Args:
        values_NV: [N], or [N, V] for a rule that takes V = 2 values of a pair.
        pooling: the rule.
        seed: of the resampling.
        blocks_N: [N] number of the block of each pair, as `block_numbers` gives it; every pair by itself if left out.
    """
    values_VN = np.asarray(values_NV, np.float64).reshape(-1, pooling.num_values).T
    defined_N = np.flatnonzero(~np.isnan(values_VN).any(axis=0))
    order_N = defined_N[np.lexsort(values_VN[::-1, defined_N])]
    values_VN = values_VN[:, order_N]
    if not values_VN.size:
        return NO_ESTIMATE
    sums_XB = block_sums(counted(pooling.moments(values_VN)), None if blocks_N is None else blocks_N[order_N])
    sums_XR = np.concatenate([sums_XB.sum(axis=1, keepdims=True), resampled_sums(sums_XB, seed)], axis=1)
    figures_R = pooling.figure(sums_XR[:-1] / sums_XR[-1])
    if not np.isfinite(figures_R[0]):
        return NO_ESTIMATE
    low, high = interval(figures_R[1:]) if sums_XB.shape[1] > 1 else (np.nan, np.nan)
    return Estimate(value=float(figures_R[0]), low=low, high=high, num_pairs=values_VN.shape[1])


def block_numbers(keys: Sequence[tuple[str, ...]]) -> NDArray[np.int64]:
    """[N] number of the block that each key names, counted in the order of the keys."""
    numbers = {key: number for number, key in enumerate(sorted(set(keys)))}
    return np.array([numbers[key] for key in keys], np.int64)


def counted(amounts_XN: NDArray[np.float64]) -> NDArray[np.float64]:
    """[X + 1, N]: a one below each value's amounts, whose sum counts the values."""
    return np.concatenate([amounts_XN, np.ones((1, amounts_XN.shape[1]))])


def block_sums(amounts_XN: NDArray[np.float64], blocks_N: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """[X, B] sums of each block's amounts, blocks by number; without numbers every value is a block."""
    if blocks_N is None:
        return amounts_XN
    _, index_N = np.unique(blocks_N, return_inverse=True)
    return np.stack([np.bincount(index_N, weights=amounts_N) for amounts_N in amounts_XN])


def resampled_sums(sums_XB: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """[X, R] sums over the blocks of every resample: products with how often each block is drawn.

    The same seed and B draw the same blocks.
    """
    num_blocks = sums_XB.shape[1]
    drawn = _few_counts(num_blocks, seed) if num_blocks <= _MAX_DRAWN // NUM_RESAMPLES else _counts(num_blocks, seed)
    return np.asarray(np.concatenate([sums_XB @ counts_RB.T for counts_RB in drawn], axis=1))


def resamples(num_blocks: int, seed: int | Sequence[int]) -> Iterator[NDArray[np.int64]]:
    """Which of B blocks each of the NUM_RESAMPLES resamples takes, with replacement: [R, B] indices, some at once."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _MAX_DRAWN // num_blocks)
    for start in range(0, NUM_RESAMPLES, at_once):
        yield rng.integers(num_blocks, size=(min(at_once, NUM_RESAMPLES - start), num_blocks))


def _counts(num_blocks: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """[R, B] how often each resample takes each block, some resamples at once."""
    for picks_RB in resamples(num_blocks, seed):
        yield np.stack([np.bincount(picks_B, minlength=num_blocks) for picks_B in picks_RB]).astype(np.float64)


@lru_cache(4)
def _few_counts(num_blocks: int, seed: int) -> tuple[NDArray[np.float64], ...]:
    """The same, kept, since most figures are of as many blocks: at most 32 MB each."""
    return tuple(_counts(num_blocks, seed))


def interval(figures_R: ArrayLike) -> tuple[float, float]:
    """The 95 % percentile interval (low, high) of a figure's resamples; those that are NaN have no figure."""
    low, high = np.nanquantile(np.asarray(figures_R, np.float64), _LEVELS)
    return float(low), float(high)
