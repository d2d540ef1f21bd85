"""Against Flower's own median, trimmed mean and Krum, which hold all updates in memory."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.server.strategy.aggregate import aggregate_krum, aggregate_median, aggregate_trimmed_avg

from server.updates.robust import krum, median, trimmed_mean


def stack(num_clients: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(num_clients).standard_normal((num_clients, *shape), np.float32)


def as_results(stack_nX: np.ndarray) -> list[tuple[list[np.ndarray], int]]:
    return [([array], 1) for array in stack_nX]


@pytest.mark.parametrize("num_clients", [3, 4, 5, 8])
def test_median_is_that_of_flower(num_clients: int) -> None:
    stack_nX = stack(num_clients, 4, 3)
    assert np.array_equal(median(stack_nX), aggregate_median(as_results(stack_nX))[0])


@pytest.mark.parametrize(("num_clients", "share"), [(3, 0.34), (4, 0.25), (5, 0.2), (8, 0.2), (11, 0.2)])
def test_trimmed_mean_is_that_of_flower(num_clients: int, share: float) -> None:
    """Flower cuts int(share * n) at each end, nobody of three and four with a share of 0.2; here it is at least one."""
    stack_nX = stack(num_clients, 4, 3)
    expected = aggregate_trimmed_avg(as_results(stack_nX), share)[0]
    assert trimmed_mean(stack_nX) == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_trimmed_mean_by_hand() -> None:
    values = np.array([[1], [2], [3], [6], [1e9]], np.float32)
    assert trimmed_mean(values).tolist() == [pytest.approx(11 / 3)]


def test_trimmed_mean_of_two_is_refused() -> None:
    with pytest.raises(ValueError, match="got 2 clients, wanted at least 3"):
        trimmed_mean(stack(2, 1))


@pytest.mark.parametrize("num_clients", [3, 4, 5, 7, 10])
def test_krum_chooses_as_flower_does(num_clients: int) -> None:
    stack_nX = stack(num_clients, 20)
    expected = aggregate_krum(as_results(stack_nX), num_malicious=(num_clients - 3) // 2, to_keep=0)[0]
    chosen = krum(stack_nX.astype(np.float64) @ stack_nX.T.astype(np.float64))
    assert np.array_equal(stack_nX[chosen], expected)


def test_krum_never_chooses_a_far_one() -> None:
    stack_nX = stack(5, 50)
    stack_nX[2] *= 100
    assert krum(stack_nX.astype(np.float64) @ stack_nX.T) != 2


def test_scalars_keep_their_shape() -> None:
    assert median(stack(3)).shape == trimmed_mean(stack(3)).shape == ()
