from __future__ import annotations

import numpy as np
import pytest

from federation.secure_sum.num_sites import MAX_SITES
from federation.secure_sum.primitives import SecureSumError
from federation.secure_sum.vector import FRACTION_BITS, LIMIT, MAX_WEIGHT, SumLayout
from model.designs.registry import IDENTITY_ROWS
from model.errors import NonFiniteLossError, TensorMismatchError

START = {
    "generator.w": np.array([1.0, -2.0], np.float32),
    IDENTITY_ROWS[0]: np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], np.float32),
}
LAYOUT = SumLayout(START, 3, ["loss_generator", "l1_image"])


def packed(step: float, weight: int, identity: int, **losses: float) -> np.ndarray:
    tensors = {name: array + np.float32(step) for name, array in START.items()}
    weights = np.zeros(3, np.int64)
    weights[identity] = weight
    return LAYOUT.pack(tensors, weight=weight, identity_weights_I=weights, losses=losses)


def test_the_mean_by_hand() -> None:
    """10 frames step 1, 30 frames step 5: (10 + 150) / 40 = 4; rows keep to their owner, row 2 has none."""
    total = packed(1.0, 10, 0, loss_generator=100.0) + packed(5.0, 30, 1, loss_generator=20.0, l1_image=0.5)
    mean = LAYOUT.mean(total, 2)
    assert mean.tensors["generator.w"].tolist() == [5.0, 2.0]
    assert mean.tensors[IDENTITY_ROWS[0]].tolist() == [[2.0, 2.0], [7.0, 7.0], [3.0, 3.0]]
    assert mean.metrics == {"loss_generator": (10 * 100 + 30 * 20) / 40, "l1_image": 0.5}
    assert mean.weight == 40
    assert all(array.dtype == np.float32 for array in mean.tensors.values())


def test_five_clients_are_exact_to_the_stated_quantisation() -> None:
    rng = np.random.default_rng(0)
    start = {"w": np.zeros(10_000, np.float32)}
    layout = SumLayout(start, 1, ["loss_generator"])
    weights = [3, 1, 2, 5, 7]
    steps = [rng.normal(0, 1e-3, 10_000).astype(np.float32) for _ in weights]
    total = np.zeros(layout.length, np.uint64)
    for weight, step in zip(weights, steps, strict=True):
        ones = np.array([weight])
        total += layout.pack({"w": step}, weight=weight, identity_weights_I=ones, losses={"loss_generator": 1.0})
    exact = sum(w * step.astype(np.float64) for w, step in zip(weights, steps, strict=True))
    got = total[-10_000:].view(np.int64) / 2.0**FRACTION_BITS
    assert np.abs(got - exact).max() <= 5 * 2.0 ** -(FRACTION_BITS + 1)
    bound = 5 * 2.0 ** -(FRACTION_BITS + 1) / sum(weights) + np.spacing(np.float32(np.abs(exact).max() / 18))
    assert np.abs(layout.mean(total, 5).tensors["w"] - exact / sum(weights)).max() <= bound


def test_the_largest_values_of_the_most_sites_do_not_overflow() -> None:
    start = {"w": np.zeros(2, np.float32)}
    layout = SumLayout(start, 1, ["loss_generator"])
    largest = layout.pack(
        {"w": np.array([1e9, -1e9], np.float32)},
        weight=MAX_WEIGHT,
        identity_weights_I=np.array([MAX_WEIGHT]),
        losses={"loss_generator": 1e9},
    )
    mean = layout.mean(largest * np.uint64(MAX_SITES), MAX_SITES)
    assert mean.tensors["w"].tolist() == [LIMIT, -LIMIT]
    assert mean.metrics["loss_generator"] == LIMIT
    assert layout.num_clipped({"w": np.array([1e9, 1.0], np.float32)}, {}) == 1
    losses = {"loss_generator": -1e9, "loss_discriminator": LIMIT, "seconds": 1e9}  # the last is not in the sum
    assert layout.num_clipped({"w": np.array([1e9, 1.0], np.float32)}, losses) == 2


def test_a_site_finds_its_own_nan_before_it_is_masked() -> None:
    weights = np.array([1, 0, 0])
    broken = {**START, "generator.w": np.array([np.nan, 0.0], np.float32)}
    with pytest.raises(TensorMismatchError, match="own update: generator.w has 1 of 2 values that are not finite"):
        LAYOUT.pack(broken, weight=1, identity_weights_I=weights, losses={})
    with pytest.raises(NonFiniteLossError, match="l1_image is nan"):
        packed(1.0, 1, 0, l1_image=float("nan"))


@pytest.mark.parametrize("weight", [0, MAX_WEIGHT + 1])
def test_weights_out_of_range_are_refused(weight: int) -> None:
    with pytest.raises(SecureSumError, match="training frames, wanted 1 to"):
        packed(1.0, weight, 0)


def test_noise_in_place_of_a_sum_is_refused() -> None:
    rng = np.random.default_rng(1)
    with pytest.raises(SecureSumError, match="no numbers of frames"):
        LAYOUT.mean(rng.integers(0, 2**64, LAYOUT.length, np.uint64), 5)
    total = packed(1.0, 10, 0)
    total[-1] = 2**62
    with pytest.raises(SecureSumError, match="beyond"):
        LAYOUT.mean(total, 1)
