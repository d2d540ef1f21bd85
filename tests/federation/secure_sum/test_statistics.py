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
    zero_statistics,
)
from model.landmarks.closed_form import FORMS, Moments, Reduced, to_vector


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


def based(seed: int) -> np.ndarray:
    """Statistics of a person with 40 frames at random."""
    rng, moments = np.random.default_rng(seed), {}
    for form in FORMS:
        moments[form] = Moments.zeros(form, 1)
        shape = (40, form.num_equations)
        features = rng.uniform(-1, 1, (*shape, form.num_own + form.num_shared))
        moments[form].add(features, rng.uniform(-0.1, 0.1, (*shape, form.num_targets)), 0)
    base_V = to_vector({form: Reduced.of(form, sums) for form, sums in moments.items()})
    return np.concatenate([values(0.25, 0.25, 0.25), base_V])


def test_what_a_base_is_fitted_to_is_the_mean_over_sites() -> None:
    sites = [based(seed) for seed in range(3)]
    total = np.sum([pack_statistics(site) for site in sites], axis=0, dtype=np.uint64)
    assert total.shape == zero_statistics(has_base=True)[0].shape
    base_V = mean_statistics(total, 3).base_V
    assert base_V is not None
    np.testing.assert_allclose(base_V, np.mean(sites, axis=0)[NUM_VALUES:], atol=2.0**-40)
    assert mean_statistics(3 * pack_statistics(values(0.25, 0.25, 0.25)), 3).base_V is None


def test_a_sum_that_is_none_of_squares_is_noticed() -> None:
    site = based(0)
    site[NUM_VALUES:] *= -1
    with pytest.raises(SecureSumError, match="is none of landmark statistics"):
        mean_statistics(3 * pack_statistics(site), 3)
