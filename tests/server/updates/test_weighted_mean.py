from __future__ import annotations

import numpy as np
import pytest

from server.updates.weighted_mean import StreamingMean

ROWS = "generator.identity"


def owners(*counts: int) -> np.ndarray:
    return np.array(counts, np.int64)


def test_mean_is_weighted_by_examples() -> None:
    mean = StreamingMean({"w": np.zeros((2,), np.float32)})
    mean.add({"w": np.array([1, 10], np.float32)}, weight=1, identity_weights_I=owners(1))
    mean.add({"w": np.array([5, 30], np.float32)}, weight=3, identity_weights_I=owners(3))
    assert mean.result()["w"].tolist() == [(1 * 1 + 5 * 3) / 4, (10 * 1 + 30 * 3) / 4]


def test_mean_of_many_equals_numpy_in_float64_and_is_the_same_in_any_order() -> None:
    rng = np.random.default_rng(0)
    updates = [rng.standard_normal((64, 9)).astype(np.float32) for _ in range(5)]
    weights = [360, 18, 900, 41, 7]
    results = []
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1]):
        mean = StreamingMean({"w": np.zeros((64, 9), np.float32)})
        for index in order:
            mean.add({"w": updates[index]}, weight=weights[index], identity_weights_I=owners(1))
        results.append(mean.result()["w"])
    expected = np.average(np.stack(updates).astype(np.float64), axis=0, weights=weights)
    np.testing.assert_allclose(results[0], expected, rtol=0, atol=6e-8)
    np.testing.assert_allclose(results[0], results[1], rtol=2e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mean_keeps_dtype_and_order_of_names(dtype: type) -> None:
    current = {"b": np.zeros(1, dtype), "a": np.zeros((), dtype)}
    mean = StreamingMean(current)
    mean.add(current, weight=2, identity_weights_I=owners(2))
    result = mean.result()
    assert list(result) == ["b", "a"]
    assert {array.dtype for array in result.values()} == {np.dtype(dtype)}


def test_one_client_is_the_identity_bit_for_bit() -> None:
    rng = np.random.default_rng(1)
    update = (rng.standard_normal(10_000) * 10.0 ** rng.integers(-30, 30, 10_000)).astype(np.float32)
    mean = StreamingMean(
        {"w": np.zeros(10_000, np.float32), ROWS: np.zeros((1, 10_000), np.float32)}, identity_rows=[ROWS]
    )
    mean.add({"w": update, ROWS: update[None]}, weight=40_013, identity_weights_I=owners(39_999))
    result = mean.result()
    assert result["w"].tobytes() == update.tobytes()
    assert result[ROWS].tobytes() == update.tobytes()


def test_identity_rows_are_averaged_over_their_owners_only() -> None:
    current = {ROWS: np.full((4, 2), 7.0, np.float32)}
    mean = StreamingMean(current, identity_rows=[ROWS])
    mean.add({ROWS: np.full((4, 2), 1.0, np.float32)}, weight=10, identity_weights_I=owners(10, 0, 0, 0))
    mean.add({ROWS: np.full((4, 2), 2.0, np.float32)}, weight=40, identity_weights_I=owners(0, 30, 10, 0))
    mean.add({ROWS: np.full((4, 2), 4.0, np.float32)}, weight=10, identity_weights_I=owners(0, 10, 0, 0))
    assert mean.result()[ROWS][:, 0].tolist() == [1.0, (2 * 30 + 4 * 10) / 40, 2.0, 7.0]


def test_large_sums_do_not_lose_small_updates() -> None:
    mean = StreamingMean({"w": np.zeros(1, np.float32)})
    for value in (1e8, 1.0, -1e8):
        mean.add({"w": np.array([value], np.float32)}, weight=1, identity_weights_I=owners(1))
    assert mean.result()["w"][0] == np.float32(1 / 3)


@pytest.mark.parametrize("weight", [0, -1])
def test_weight_must_be_positive(weight: int) -> None:
    mean = StreamingMean({"w": np.zeros(1, np.float32)})
    with pytest.raises(ValueError, match="wanted > 0"):
        mean.add({"w": np.zeros(1, np.float32)}, weight=weight, identity_weights_I=owners(1))


def test_a_shape_that_would_broadcast_is_refused_and_nothing_is_added() -> None:
    mean = StreamingMean({"v": np.zeros(1, np.float32), "w": np.zeros((2, 2), np.float32)})
    with pytest.raises(ValueError, match=r"w has shape \(1, 2\), wanted \(2, 2\)"):
        mean.add(
            {"v": np.ones(1, np.float32), "w": np.ones((1, 2), np.float32)}, weight=1, identity_weights_I=owners(1)
        )
    with pytest.raises(ValueError, match="no update was added"):
        mean.result()
