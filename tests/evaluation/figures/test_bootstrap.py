import numpy as np
import pytest

from evaluation.figures.bootstrap import block_numbers, estimate
from evaluation.figures.pooling import Pooling


def test_mean_and_root_mean_square_leave_undefined_values_out():
    values = [3.0, np.nan, 4.0]
    mean = estimate(values, pooling=Pooling.MEAN, seed=0)
    assert (mean.value, mean.num_pairs) == (3.5, 2)
    assert estimate(values, pooling=Pooling.ROOT_MEAN_SQUARE, seed=0).value == pytest.approx(np.sqrt((9 + 16) / 2))


def test_interval_is_near_that_of_normal_theory():
    values = np.random.default_rng(0).normal(10, 2, 400)
    found = estimate(values, pooling=Pooling.MEAN, seed=0)
    half = 1.96 * values.std() / np.sqrt(400)
    assert found.low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values.mean() + half, abs=0.03)


def test_order_of_the_pairs_changes_nothing_and_the_seed_fixes_the_interval():
    values = np.random.default_rng(0).exponential(size=50)
    found = estimate(values, pooling=Pooling.ROOT_MEAN_SQUARE, seed=3)
    assert estimate(values[::-1], pooling=Pooling.ROOT_MEAN_SQUARE, seed=3) == found
    assert estimate(values, pooling=Pooling.ROOT_MEAN_SQUARE, seed=4) != found


def test_values_of_one_block_are_resampled_together():
    seconds = np.random.default_rng(0).normal(10, 2, 40)
    values, keys = np.repeat(seconds, 25), [("ana", "clip", str(second)) for second in np.repeat(range(40), 25)]
    blocks = block_numbers(keys)
    found = estimate(values, pooling=Pooling.MEAN, seed=0, blocks_N=blocks)
    half = 1.96 * seconds.std() / np.sqrt(40)
    assert (found.value, found.num_pairs) == (pytest.approx(seconds.mean()), 1000)
    assert (found.low, found.high) == pytest.approx((seconds.mean() - half, seconds.mean() + half), abs=0.12)
    by_itself = estimate(values, pooling=Pooling.MEAN, seed=0)
    assert (found.high - found.low) / (by_itself.high - by_itself.low) == pytest.approx(5, rel=0.1)  # of sqrt(25)
    backwards = estimate(values[::-1], pooling=Pooling.MEAN, seed=0, blocks_N=blocks[::-1])
    assert backwards == found


def test_blocks_of_different_sizes_count_by_their_values():
    values, blocks = [1.0, 2.0, np.nan, 9.0], np.array([4, 4, 4, 7])
    found = estimate(values, pooling=Pooling.MEAN, seed=0, blocks_N=blocks)
    assert (found.value, found.low, found.high) == pytest.approx((4, 1.5, 9))  # each block alone once in four


def test_one_block_has_a_value_and_no_interval():
    found = estimate([1.0, 3.0], pooling=Pooling.MEAN, seed=0, blocks_N=np.array([5, 5]))
    assert found.value == 2 and np.isnan([found.low, found.high]).all()


def test_many_values_are_resampled_in_bounded_memory():
    found = estimate(np.ones(30_000), pooling=Pooling.MEAN, seed=0)
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_no_pair_gives_nan():
    found = estimate([np.nan], pooling=Pooling.MEAN, seed=0)
    assert np.isnan([found.value, found.low, found.high]).all() and found.num_pairs == 0


def test_generated_over_real_is_a_ratio_of_means_and_leaves_half_pairs_out():
    values = [[2.0, 1.0], [4.0, 5.0], [np.nan, 9.0]]
    found = estimate(values, pooling=Pooling.RATIO, seed=0)
    assert (found.value, found.num_pairs) == (pytest.approx(6 / 6), 2)
    assert found.low == pytest.approx(1 / 2) and found.high == pytest.approx(5 / 4)


def test_slope_is_that_of_the_least_squares_line():
    real, generated = np.array([0.0, 1.0, 2.0, 5.0]), np.array([1.0, 1.2, 2.4, 3.0])
    found = estimate(np.stack([real, generated], axis=1), pooling=Pooling.SLOPE, seed=0)
    assert found.value == pytest.approx(np.polyfit(real, generated, 1)[0])
    assert found.low < found.value < found.high


def test_slope_over_equal_real_values_is_no_figure():
    assert np.isnan(estimate([[0.1, 0.2], [0.1, 0.4]], pooling=Pooling.SLOPE, seed=0).value)
