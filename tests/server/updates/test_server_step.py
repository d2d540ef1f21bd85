from __future__ import annotations

import numpy as np
import pytest

from model.designs.registry import IDENTITY_ROWS
from server.updates.server_step import stepped

ROWS = IDENTITY_ROWS[0]
BEFORE = {
    "generator.w": np.array([1.0, -2.0], np.float32),
    "generator.bias": np.array(0.5, np.float32),
    ROWS: np.array([[1.0], [2.0]], np.float32),
}
AGGREGATED = {
    "generator.w": np.array([1.5, -2.0], np.float32),
    "generator.bias": np.array(0.25, np.float32),
    ROWS: np.array([[3.0], [2.0]], np.float32),
}


@pytest.mark.parametrize(("rate", "w", "bias"), [(2.0, [2.0, -2.0], 0.0), (0.5, [1.25, -2.0], 0.375)])
def test_weights_go_a_multiple_of_the_way(rate: float, w: list[float], bias: float) -> None:
    new = stepped(BEFORE, AGGREGATED, rate)
    assert new["generator.w"].tolist() == w and new["generator.bias"] == bias
    assert {array.dtype for array in new.values()} == {np.dtype(np.float32)}
    assert list(new) == list(AGGREGATED)


def test_rows_of_one_site_are_as_it_sent_them() -> None:
    assert stepped(BEFORE, AGGREGATED, 3.0)[ROWS] is AGGREGATED[ROWS]


def test_plain_averaging_changes_no_bit() -> None:
    new = stepped(BEFORE, AGGREGATED, 1.0)
    assert all(new[name] is array for name, array in AGGREGATED.items())


def test_what_did_not_move_stays_bit_for_bit() -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    assert np.array_equal(stepped({"a": values}, {"a": values.copy()}, 1.7)["a"], values)
