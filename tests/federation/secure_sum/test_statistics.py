from __future__ import annotations

import numpy as np
import pytest

from federation.secure_sum.primitives import SecureSumError
from federation.secure_sum.statistics import (
    LENGTH,
    NUM_COORDINATES,
    NUM_PARTS,
    NUM_VALUES,
    mean_statistics,
    pack_statistics,
)


def values(part: float, landmark: float, variance: float) -> np.ndarray:
    return np.repeat([part, landmark, variance], [NUM_PARTS, NUM_COORDINATES, NUM_COORDINATES])


def test_the_mean_of_three_sites_by_hand() -> None:
    sites = [values(0.125, -0.25, 0.5), values(0.25, 0.5, 0.25), values(0.375, 0.5, 0.0)]
    total = np.sum([pack_statistics(site) for site in sites], axis=0, dtype=np.uint64)
    assert total.shape == (LENGTH,) == (1 + NUM_VALUES,) == (281,)
    mean = mean_statistics(total, 3)
    assert (mean.part_mean_P2 == 0.25).all() and mean.part_mean_P2.shape == (4, 2)
    assert (mean.landmark_mean_KC == 0.25).all() and mean.landmark_mean_KC.shape == (68, 2)
    assert (mean.landmark_variance_KC == 0.25).all()


def test_sixty_four_sites_at_the_limit_do_not_overflow() -> None:
    total = np.sum([pack_statistics(values(1e9, -1e9, 1e9))] * 64, axis=0, dtype=np.uint64)
    mean = mean_statistics(total, 64)
    assert (mean.part_mean_P2 == 4).all() and (mean.landmark_mean_KC == -4).all()


@pytest.mark.parametrize("index", [0, 1, 20, LENGTH - 1])
def test_a_sum_that_is_none_of_statistics_is_noticed(index: int) -> None:
    total = 3 * pack_statistics(values(0.25, 0.25, 0.25))
    total[index] += np.uint64(2**62)
    with pytest.raises(SecureSumError, match="the sum over 3 sites is none of landmark statistics"):
        mean_statistics(total, 3)


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(SecureSumError, match="not finite"):
        pack_statistics(values(np.nan, 0.0, 0.0))
