import numpy as np
import pytest

from evaluation.attacks.separation import (
    Sample,
    area_under_curve,
    permutation_p_value,
    resampled,
    resampled_mean,
    true_positive_rate,
)


def test_area_counts_pairs_in_the_right_order_and_ties_by_half():
    # 3 beats 1, 2 and ties 3; 2 beats 1, ties 2, loses to 3: (2 + 0.5 + 1 + 0.5) of 6
    assert area_under_curve(np.array([3.0, 2.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(4 / 6)
    assert area_under_curve(np.array([2.0]), np.array([1.0])) == 1
    assert area_under_curve(np.array([1.0, 1.0]), np.array([1.0])) == 0.5


def test_true_positive_rate_accuses_at_most_the_allowed_share():
    others = np.arange(20.0)  # 5 % of 20 is one: the threshold is 18, and only 19 is above it
    members = np.array([18.0, 18.5, 19.0, 25.0])
    assert true_positive_rate(members, others, 0.05) == 3 / 4
    assert true_positive_rate(members, others, 0.10) == 1
    assert np.isnan(true_positive_rate(members, others, 0.01))


def test_interval_is_that_of_whole_seconds_and_not_of_their_frames():
    rng = np.random.default_rng(0)
    seconds = rng.normal(size=40)
    frames = Sample(np.repeat(seconds, 25), np.repeat(np.arange(40), 25))
    found = resampled_mean(frames, seed=0)
    half = 1.96 * seconds.std() / np.sqrt(40)
    assert found.value == pytest.approx(seconds.mean())
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.06)


def test_interval_of_equal_sides_holds_chance():
    rng = np.random.default_rng(1)
    sides = [Sample(rng.normal(size=200), np.arange(200)) for _ in range(2)]
    found = resampled(area_under_curve, *sides, seed=0)
    assert found.low < 0.5 < found.high


def test_p_value_counts_the_assignments_that_are_as_good():
    # 2 of 5 people: 10 assignments, one of them perfect
    assert permutation_p_value(np.array([5.0, 4.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(0.1)
    assert permutation_p_value(np.array([1.0]), np.array([2.0, 3.0])) == 1
    with pytest.raises(ValueError, match="too many"):
        permutation_p_value(np.zeros(15), np.zeros(15))
