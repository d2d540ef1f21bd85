"""A metric pooled over pairs, with its bootstrap interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_NUM_RESAMPLES = 1000
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
    figures = np.concatenate([[pooled.mean()], _resampled_means(pooled, np.random.default_rng(seed))])
    if is_root_mean_square:
        figures = np.sqrt(figures)
    low, high = np.quantile(figures[1:], _LEVELS)
    return Estimate(value=float(figures[0]), low=float(low), high=float(high), num_pairs=values.size)


def _resampled_means(values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """[_NUM_RESAMPLES] means of as many values, drawn with replacement."""
    at_once = max(1, _MAX_DRAWN // values.size)
    sizes = [min(at_once, _NUM_RESAMPLES - start) for start in range(0, _NUM_RESAMPLES, at_once)]
    return np.concatenate([values[rng.integers(values.size, size=(size, values.size))].mean(axis=1) for size in sizes])
