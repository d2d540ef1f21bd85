"""Bootstrap: how many resamples, which interval, and a metric pooled over pairs with its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
    """Pairs that have the value."""


def estimate(values_N: ArrayLike, *, is_root_mean_square: bool, seed: int) -> Estimate:
    """Pool one value per pair, NaN left out, and resample the pairs.

    The values are sorted first, so their order changes nothing. The interval says how the figure would vary
    with other pairs of the same people; pairs that share frames make it somewhat too narrow.

    Args:
        values_N: [N] one value per pair.
        is_root_mean_square: pool as the root of the mean of squares, else as the mean.
        seed: of the resampling.
    """
    values = np.sort(np.asarray(values_N, np.float64).ravel())
    values = values[~np.isnan(values)]
    if not values.size:
        return Estimate(value=np.nan, low=np.nan, high=np.nan, num_pairs=0)
    pooled = values**2 if is_root_mean_square else values
    means = [pooled[picks_RN].mean(axis=1) for picks_RN in resamples(values.size, seed)]
    figures = np.concatenate([[pooled.mean()], *means])
    if is_root_mean_square:
        figures = np.sqrt(figures)
    low, high = interval(figures[1:])
    return Estimate(value=float(figures[0]), low=low, high=high, num_pairs=values.size)


def resamples(num_values: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Which of N values each of the NUM_RESAMPLES resamples takes, with replacement: [R, N] indices, some at once."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _MAX_DRAWN // num_values)
    for start in range(0, NUM_RESAMPLES, at_once):
        yield rng.integers(num_values, size=(min(at_once, NUM_RESAMPLES - start), num_values))


def interval(figures_R: ArrayLike) -> tuple[float, float]:
    """The 95 % percentile interval (low, high) of a figure's resamples; those that are NaN have no figure."""
    low, high = np.nanquantile(np.asarray(figures_R, np.float64), _LEVELS)
    return float(low), float(high)
