"""How well one number tells members from others: area under the ROC curve, and what a careful attacker finds.

An attack gives every frame or person a figure, higher for "was trained on". Its errors are those of a threshold on it.
Carlini et al. 2022 (Membership Inference Attacks From First Principles): an attack that is right about a few and
almost never wrong is worse than one that is a little better than chance about all, so the rate of members found while
1 % or 5 % of the others are accused falsely stands beside the area.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from evaluation.figures.bootstrap import Estimate, estimate, interval, resamples
from evaluation.figures.pooling import Pooling

FloatArray = NDArray[np.float64]

_MOST_ASSIGNMENTS = 200_000
"""Ways to call some people members that are all tried for a p-value."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Figures of one side, and which of them belong together."""

    values_N: FloatArray
    """[N] higher for members."""
    blocks_N: NDArray[np.int64]
    """[N] number of the second, of one clip, that a frame is from: frames of one second are much alike."""


def area_under_curve(members_M: FloatArray, others_N: FloatArray) -> float:
    """Chance that a member's figure is above another's, a tie counting one half; 0.5 tells nothing apart."""
    others = np.sort(others_N)
    below, not_above = (np.searchsorted(others, members_M, side=side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * others.size))


def true_positive_rate(members_M: FloatArray, others_N: FloatArray, false_positive_rate: float) -> float:
    """Share of members above the threshold that at most the given share of the others are above.

    Chance is the false positive rate itself.

    Returns:
        0 to 1, NaN where the others are so few that the share is less than one of them.
    """
    num_accused = int(false_positive_rate * others_N.size)
    if num_accused < 1:
        return float("nan")
    threshold = np.sort(others_N)[::-1][num_accused]
    return float((members_M > threshold).mean())


def resampled(
    statistic: Callable[[FloatArray, FloatArray], float], members: Sample, others: Sample, *, seed: int
) -> Estimate:
    """A statistic of both sides with the 95 % percentile interval of its bootstrap over seconds.

    Whole seconds are drawn with replacement, on each side by itself. The people stay the same: the interval says how
    the figure would vary with other seconds of them, not with other people.

    Args:
        statistic: of [M] and [N] figures.
        members: at least one.
        others: at least one.
        seed: of the resampling.
    """
    sides = [_redrawn(_values_by_block(side), (seed, index)) for index, side in enumerate((members, others))]
    drawn = [statistic(*values) for values in zip(*sides, strict=True)]
    low, high = interval(drawn)  # a drawing with too few others has no rate of theirs: NaN
    value = statistic(members.values_N, others.values_N)
    return Estimate(value=value, low=low, high=high, num_pairs=members.values_N.size)


def resampled_mean(sample: Sample, *, seed: int) -> Estimate:
    """The mean of one side with the interval of its bootstrap over seconds."""
    return estimate(sample.values_N, pooling=Pooling.MEAN, seed=seed, blocks_N=sample.blocks_N)


def permutation_p_value(members_M: FloatArray, others_N: FloatArray) -> float:
    """Chance of an area at least as large if who is a member were drawn by lot: every assignment is tried.

    Raises:
        ValueError: with more assignments than can be tried.
    """
    everybody, num_members = np.concatenate([members_M, others_N]), members_M.size
    if comb(everybody.size, num_members) > _MOST_ASSIGNMENTS:
        raise ValueError(f"{everybody.size} people have too many assignments to try each")
    found = area_under_curve(members_M, others_N)
    areas = []
    for chosen in combinations(range(everybody.size), num_members):
        is_member = np.isin(np.arange(everybody.size), chosen)
        areas.append(area_under_curve(everybody[is_member], everybody[~is_member]))
    return float(np.mean(np.asarray(areas) >= found - 1e-12))


def _values_by_block(sample: Sample) -> list[FloatArray]:
    return [sample.values_N[sample.blocks_N == block] for block in np.unique(sample.blocks_N)]


def _redrawn(blocks: Sequence[FloatArray], seed: Sequence[int]) -> Iterator[FloatArray]:
    """The values of every resample."""
    for picks_RB in resamples(len(blocks), seed):
        yield from (np.concatenate([blocks[index] for index in picks_B]) for picks_B in picks_RB)
