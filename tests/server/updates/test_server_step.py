from __future__ import annotations

import numpy as np
import pytest

from federation.settings import Settings
from model.designs.registry import IDENTITY_ROWS
from server.updates.server_step import stepped

ROWS = IDENTITY_ROWS[0]
BEFORE = {
    "generator.w": np.array([1.0, -2.0], np.float32),
    "generator.bias": np.array(0.5, np.float32),
    "discriminator.w": np.array([1.0], np.float32),
    ROWS: np.array([[1.0], [2.0]], np.float32),
}
AGGREGATED = {
    "generator.w": np.array([1.5, -2.0], np.float32),
    "generator.bias": np.array(0.25, np.float32),
    "discriminator.w": np.array([2.0], np.float32),
    ROWS: np.array([[3.0], [2.0]], np.float32),
}


def settings(rate: float) -> Settings:
    return Settings().replaced({"server-learning-rate": rate})


@pytest.mark.parametrize(("rate", "w", "bias"), [(2.0, [2.0, -2.0], 0.0), (0.5, [1.25, -2.0], 0.375)])
def test_weights_go_a_multiple_of_the_way(rate: float, w: list[float], bias: float) -> None:
    new = stepped(BEFORE, AGGREGATED, settings(rate))
    assert new["generator.w"].tolist() == w and new["generator.bias"] == bias
    assert {array.dtype for array in new.values()} == {np.dtype(np.float32)}
    assert list(new) == list(AGGREGATED)


@pytest.mark.parametrize("name", [ROWS, "discriminator.w"])
def test_rows_of_one_site_and_discriminators_are_as_aggregated(name: str) -> None:
    assert stepped(BEFORE, AGGREGATED, settings(3.0))[name] is AGGREGATED[name]


def test_plain_averaging_changes_no_bit() -> None:
    new = stepped(BEFORE, AGGREGATED, settings(1.0))
    assert all(new[name] is array for name, array in AGGREGATED.items())


def test_what_did_not_move_stays_bit_for_bit() -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    new = stepped({"generator.a": values}, {"generator.a": values.copy()}, settings(1.7))
    assert np.array_equal(new["generator.a"], values)
