from __future__ import annotations

import numpy as np
import pytest
import torch

from federation.reach import check_reach, reach
from federation.settings import Settings
from model.errors import UnknownWeightsError
from model.setting import Scalar

NAME = "generator.w"


def settings(**changes: Scalar) -> Settings:
    usual: dict[str, Scalar] = {"local-steps": 10, "tau": 0.0, "learning-rate-generator": 1e-3}
    return Settings.from_flat(usual | {key.replace("_", "-"): value for key, value in changes.items()})


def walked(gradients_TD: torch.Tensor, num_last: int, beta2: float) -> np.ndarray:
    """[D] how far Adam moves values in the last steps of a row of gradients."""
    values = torch.nn.Parameter(torch.zeros(gradients_TD.shape[1], dtype=torch.float64))
    adam = torch.optim.Adam([values], 1e-3, betas=(0.5, beta2))
    start = values.detach().clone()
    for step, gradient_D in enumerate(gradients_TD):
        if step == len(gradients_TD) - num_last:
            start = values.detach().clone()
        values.grad = gradient_D
        adam.step()
    return (values.detach() - start).numpy()


@pytest.mark.integration
@pytest.mark.parametrize("beta2", [0.999, 0.99])
def test_no_walk_of_adam_is_longer(beta2: float) -> None:
    """Steady gradients, and steady ones after ten thousand steps of none: the latter come close to the limit."""
    silent = torch.cat([torch.full((10_000, 1), 1e-9), torch.ones(20, 1)]).double()
    limit = reach(NAME, 1, settings(adam_beta2=beta2), 2)
    far = float(np.abs(walked(silent, 20, beta2)).max())
    assert 0.8 * limit.largest < far < limit.largest
    steady = walked(torch.ones(20, 100).double(), 20, beta2)
    assert np.sqrt(np.square(steady).mean()) == pytest.approx(0.02)
    assert limit.rms == pytest.approx(3 * 0.02, abs=2e-4)


def test_each_network_has_its_own_rate() -> None:
    one = settings(learning_rate_discriminator=1e-4)
    generator, discriminator = (reach(name, 9, one, 3).rms for name in (NAME, "landmark_discriminator.w"))
    assert generator == pytest.approx(10 * discriminator, rel=0.1)
    assert reach("else.w", 9, one, 3).rms == reach(NAME, 9, one, 0).rms == pytest.approx(1e-4)


def test_long_ways_are_summed_quickly() -> None:
    million = reach(NAME, 1, settings(), 100_000).largest
    assert million == pytest.approx(1e-3 * (1_000_000 + 1230), rel=0.01)


def test_noise_of_a_site_is_within_reach_for_small_tensors_and_large() -> None:
    noised = settings(dp_clip_norm=2.0, dp_noise_multiplier=1.5)
    rng = np.random.default_rng(0)
    for size in (1, 2, 68, 10_000):
        for _ in range(50):
            old = np.zeros(size, np.float32)
            new = sum(rng.normal(0, 3.0, size) for _ in range(4)).astype(np.float32)
            check_reach({NAME: new}, {NAME: old}, noised, 5, num_rounds=4, known="before")
    with pytest.raises(UnknownWeightsError):
        check_reach({NAME: new}, {NAME: old}, settings(), 5, num_rounds=4, known="before")


def test_a_value_that_is_none_is_out_of_reach() -> None:
    old, new = np.zeros(3, np.float32), np.array([0, np.nan, 0], np.float32)
    with pytest.raises(UnknownWeightsError, match=r"round 2: generator.w is nan .* away from before, and 1 rounds"):
        check_reach({NAME: new}, {NAME: old}, settings(), 2, num_rounds=1, known="before")


def test_rounded_steps_reach_a_little_further_and_whole_ones_as_far_as_ever() -> None:
    """Of what Adam and noise do; half of 1/127 at the site, as much of the round before, and as much at the server."""
    whole, rounded = (reach(NAME, 100, settings(update_codec=codec), 1) for codec in ("float32", "int8"))
    for far, further in zip(whole, rounded, strict=True):
        assert 1.5 / 127 < further / far - 1 < 0.021


@pytest.mark.parametrize(("rate", "further"), [(2.5, 2.5), (1.0, 1.0), (0.1, 1.0)])
def test_a_server_that_goes_further_carries_weights_further(rate: float, further: float) -> None:
    plain, moved = (reach(NAME, 100, settings(server_learning_rate=one), 3) for one in (1.0, rate))
    for far, most in zip(plain, moved, strict=True):
        assert (most - 1e-4) / (far - 1e-4) == pytest.approx(further)
    judges = "discriminator.w"
    assert reach(judges, 9, settings(server_learning_rate=rate), 3) == reach(judges, 9, settings(), 3)
