from __future__ import annotations

import math

import numpy as np
import pytest

from federation.secure_sum.num_sites import MAX_SITES
from federation.secure_sum.primitives import SecureSumError, Vector
from federation.secure_sum.vector import FRACTION_BITS, LIMIT, MAX_WEIGHT, Coarse, SumLayout
from federation.settings import Settings
from model.designs.registry import IDENTITY_ROWS, build_networks
from model.errors import NonFiniteLossError, TensorMismatchError
from model.landmarks.geometry import PartSizes

START = {
    "generator.w": np.array([1.0, -2.0], np.float32),
    IDENTITY_ROWS[0]: np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], np.float32),
}
LAYOUT = SumLayout(START, 3, ["loss_generator", "l1_image"])


def added(*vectors: Vector) -> Vector:
    return [np.sum(parts, axis=0, dtype=parts[0].dtype) for parts in zip(*vectors, strict=True)]


def packed(step: float, weight: int, identity: int, **losses: float) -> Vector:
    tensors = {name: array + np.float32(step) for name, array in START.items()}
    weights = np.zeros(3, np.int64)
    weights[identity] = weight
    return LAYOUT.pack(tensors, weight=weight, identity_weights_I=weights, losses=losses)


def test_the_mean_by_hand() -> None:
    """10 frames step 1, 30 frames step 5: (10 + 150) / 40 = 4; rows keep to their owner, row 2 has none."""
    total = added(packed(1.0, 10, 0, loss_generator=100.0), packed(5.0, 30, 1, loss_generator=20.0, l1_image=0.5))
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
    total = layout.zero()
    for weight, step in zip(weights, steps, strict=True):
        ones, losses = np.array([weight]), {"loss_generator": 1.0}
        total = added(total, layout.pack({"w": step}, weight=weight, identity_weights_I=ones, losses=losses))
    exact = sum(w * step.astype(np.float64) for w, step in zip(weights, steps, strict=True))
    got = total[0][-10_000:].view(np.int64) / 2.0**FRACTION_BITS
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
    mean = layout.mean(added(*[largest] * MAX_SITES), MAX_SITES)
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
        LAYOUT.mean([rng.integers(0, 2**64, part.size, np.uint64) for part in LAYOUT.zero()], 5)
    total = packed(1.0, 10, 0)
    total[0][-1] = 2**62
    with pytest.raises(SecureSumError, match="beyond"):
        LAYOUT.mean(total, 1)


# --- steps in 32 bits -------------------------------------------------------------------------------------------------

LIMITS = {"generator.w": 0.25}
COARSE = SumLayout(START, 3, ["loss_generator"], coarse=Coarse(limits=LIMITS, most_frames=5 * MAX_WEIGHT))


def coarsely_packed(step: float, weight: int, identity: int) -> Vector:
    tensors = {name: array + np.float32(step) for name, array in START.items()}
    weights = np.zeros(3, np.int64)
    weights[identity] = weight
    return COARSE.pack(tensors, weight=weight, identity_weights_I=weights, losses={"loss_generator": 2.0})


def test_the_mean_of_steps_in_32_bits_by_hand() -> None:
    """10 frames step 1/16, 30 frames step 1/8: 3.75 and .625 over 40; rows keep to their owner, and to 64 bits."""
    vectors = coarsely_packed(0.0625, 10, 0), coarsely_packed(0.125, 30, 1)
    assert [(part.size, part.dtype) for part in vectors[0]] == [(1 + 3 + 2 + 6, np.uint64), (2, np.uint32)]
    mean = COARSE.mean(added(*vectors), 2)
    unit = 0.25 * 5 * MAX_WEIGHT / (2**31 - MAX_SITES)
    assert mean.tensors["generator.w"] == pytest.approx(np.array([1.109375, -1.890625]), abs=unit / 40 + 1e-7)
    assert mean.tensors[IDENTITY_ROWS[0]].tolist() == [[1.0625, 1.0625], [2.125, 2.125], [3.0, 3.0]]
    assert (mean.weight, mean.metrics) == (40, {"loss_generator": 2.0})


def test_the_largest_steps_of_all_sites_do_not_overflow_32_bits() -> None:
    largest = [coarsely_packed(sign * 1e3, MAX_WEIGHT, 0) for sign in (1, -1)]
    for sign, vector in zip((1, -1), largest, strict=True):
        assert COARSE.mean(added(*[vector] * 5), 5).tensors["generator.w"] == pytest.approx(
            START["generator.w"] + sign * 0.25
        )
    tensors = {name: array + np.float32(0.5) for name, array in START.items()}
    assert COARSE.num_clipped(tensors, {}) == 2  # the rows are held as far as LIMIT


def test_a_sum_of_steps_beyond_what_its_frames_can_make_is_refused() -> None:
    total = added(coarsely_packed(0.25, 10, 0), coarsely_packed(0.25, 30, 1))
    assert COARSE.mean(total, 2).tensors["generator.w"] == pytest.approx(START["generator.w"] + 0.25)
    total[1] += np.uint32(3)
    with pytest.raises(SecureSumError, match="beyond"):
        COARSE.mean(total, 2)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_units_follow_from_the_settings(noise: float) -> None:
    """As far as Adam walks in a round at most, and eight deviations of the noise, under which a site weighs 1."""
    private = {"dp-clip-norm": 2.0, "dp-noise-multiplier": noise} if noise else {}
    secure = {"secure-aggregation": True, "min-fit-clients": 3, "max-loss-deviation": 0.0, "tau": 0.0}
    settings = Settings.from_flat(secure | private | {"update-codec": "int8", "local-steps": 2, "num-clients": 4})
    rate = settings.optimizer.learning_rate_generator
    steepest = rate * (1 / math.sqrt(1 - 0.999) + 1 / math.sqrt(1 - 0.999**2))
    coarse = Coarse.of_run({"generator.w": START["generator.w"]}, settings)
    assert coarse.limits["generator.w"] == pytest.approx(1.02 * (steepest + 16 * noise) + 1e-4)
    assert coarse.most_frames == 4 * (1 if noise else MAX_WEIGHT)
    tensors = build_networks(settings.model, PartSizes((8, 8, 8, 8), (8, 8, 8, 8)), seed=0).travelling_tensors()
    fine, steps = SumLayout.of_run(tensors, settings).zero()
    assert steps.size == sum(array.size for name, array in tensors.items() if name not in IDENTITY_ROWS)
    (whole,) = SumLayout.of_run(tensors, settings.replaced({"update-codec": "float32"})).zero()
    assert fine.size + steps.size == whole.size
