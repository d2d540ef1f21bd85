import numpy as np
import pytest

from evaluation.figures.bootstrap import estimate


def test_mean_and_root_mean_square_leave_undefined_values_out():
    values = [3.0, np.nan, 4.0]
    mean = estimate(values, is_root_mean_square=False, seed=0)
    assert (mean.value, mean.num_pairs) == (3.5, 2)
    assert estimate(values, is_root_mean_square=True, seed=0).value == pytest.approx(np.sqrt((9 + 16) / 2))


def test_interval_is_near_that_of_normal_theory():
    values = np.random.default_rng(0).normal(10, 2, 400)
    found = estimate(values, is_root_mean_square=False, seed=0)
    half = 1.96 * values.std() / np.sqrt(400)
    assert found.low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values.mean() + half, abs=0.03)


def test_order_of_the_pairs_changes_nothing_and_the_seed_fixes_the_interval():
    values = np.random.default_rng(0).exponential(size=50)
    found = estimate(values, is_root_mean_square=True, seed=3)
    assert estimate(values[::-1], is_root_mean_square=True, seed=3) == found
    assert estimate(values, is_root_mean_square=True, seed=4) != found


def test_many_values_are_resampled_in_bounded_memory():
    found = estimate(np.ones(30_000), is_root_mean_square=False, seed=0)
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_no_pair_gives_nan():
    found = estimate([np.nan], is_root_mean_square=False, seed=0)
    assert np.isnan([found.value, found.low, found.high]).all() and found.num_pairs == 0
