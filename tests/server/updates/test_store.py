from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from server.updates.store import Step, UpdateStore, fingerprint_of


def tensors(a: list[float], b: float) -> dict[str, np.ndarray]:
    return {"a": np.asarray(a, np.float32), "b": np.asarray([[b]], np.float32)}


def test_norm_and_cosine_by_hand(tmp_path: Path) -> None:
    store = UpdateStore(tensors([1, 1], 1), tmp_path)
    store.add(0, tensors([4, 1], 5))  # step (3, 0, 4)
    store.add(3, tensors([1, 2], 1))  # step (0, 1, 0)
    steps = store.measure(tensors([2.5, 1.5], 3), [0, 3])  # step (1.5, .5, 2)
    assert steps[0].norm == pytest.approx(5)
    assert steps[3].norm == pytest.approx(1)
    assert steps[0].cosine_to_mean == pytest.approx((3 * 1.5 + 4 * 2) / (5 * np.sqrt(6.5)))
    assert steps[3].cosine_to_mean == pytest.approx(0.5 / np.sqrt(6.5))


def test_a_flipped_step_points_the_other_way(tmp_path: Path) -> None:
    store = UpdateStore(tensors([0, 0], 0), tmp_path)
    store.add(0, tensors([-1, -2], -3))
    assert store.measure(tensors([1, 2], 3), [0])[0].cosine_to_mean == pytest.approx(-1)


def test_no_step_has_no_direction(tmp_path: Path) -> None:
    store = UpdateStore(tensors([1, 1], 1), tmp_path)
    store.add(0, tensors([1, 1], 1))
    assert store.measure(tensors([2, 2], 2), [0]) == {0: Step(norm=0.0, cosine_to_mean=0.0)}


def test_products_of_steps_by_hand(tmp_path: Path) -> None:
    store = UpdateStore(tensors([1, 1], 1), tmp_path)
    store.add(0, tensors([4, 1], 5))  # step (3, 0, 4)
    store.add(3, tensors([1, 2], 0))  # step (0, 1, -1)
    assert store.products([0, 3], ["a", "b"]).tolist() == [[25, -4], [-4, 2]]
    assert store.products([3], ["a"]).tolist() == [[1]]


def test_products_of_a_tensor_of_many_chunks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    zero = {"w": np.zeros((3, 200_001), np.float32)}
    store = UpdateStore(zero, tmp_path)
    steps = [rng.standard_normal((3, 200_001), np.float32) for _ in range(2)]
    for client, step in enumerate(steps):
        store.add(client, {"w": step})
    flat = np.stack([step.reshape(-1) for step in steps]).astype(np.float64)
    assert store.products([0, 1], ["w"]) == pytest.approx(flat @ flat.T)


def test_with_many_clients_smaller_pieces_are_read_and_nothing_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.updates.store._PIECE_VALUES", 21)  # of seven clients, three of a tensor of ten
    rng = np.random.default_rng(0)
    store = UpdateStore({"v": np.ones(4, np.float32), "w": np.ones((2, 5), np.float32)}, tmp_path)
    values = rng.standard_normal((7, 2, 5), np.float32)
    for client in range(7):
        store.add(client, {"v": np.full(4, client, np.float32), "w": values[client]})
    flat = values.reshape(7, 10).astype(np.float64) - 1
    assert store.products(range(7), ["w"]) == pytest.approx(flat @ flat.T)
    widths = []

    def middle(values_nd: np.ndarray) -> np.ndarray:
        widths.append(values_nd.shape)
        return np.median(values_nd, axis=0)

    assert store.combined(range(7), "w", middle).tolist() == np.median(values, axis=0).tolist()
    assert widths == [(7, 3), (7, 3), (7, 3), (7, 1)]
    assert store.combined([6, 1, 2], "v", middle).tolist() == [2, 2, 2, 2]


def test_a_fingerprint_is_the_hash_of_the_values() -> None:
    expected = hashlib.sha256(np.array([1.0, 2.0, 3.0], np.float32).tobytes()).hexdigest()[:16]
    assert fingerprint_of(tensors([1, 2], 3)) == expected
    assert fingerprint_of(tensors([1, 2], 3.0000002)) != expected


def test_nobody_finds_an_update_by_a_name(tmp_path: Path) -> None:
    with UpdateStore(tensors([1, 1], 1), tmp_path) as store:
        store.add(0, tensors([2, 1], 1))
        assert list(tmp_path.iterdir()) == []
        assert store.tensor(0, "a").tolist() == [2, 1]


def test_updates_are_on_disk_and_gone_when_the_round_ends_however_it_does(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), UpdateStore(tensors([1, 1], 1), tmp_path) as store:
        store.add(0, tensors([2, 1], 1))
        assert os.fstat(store._file.fileno()).st_dev == tmp_path.stat().st_dev
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="closed file"):
        store.tensor(0, "a")


def test_the_update_of_a_client_is_the_last_that_was_added(tmp_path: Path) -> None:
    store = UpdateStore(tensors([1, 1], 1), tmp_path)
    for client, value in ((5, 1.0), (2, 2.0), (5, 3.0)):
        store.add(client, tensors([value, value], value))
    assert [store.tensor(client, "b").item() for client in (2, 5)] == [2, 3]
