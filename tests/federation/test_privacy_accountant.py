from __future__ import annotations

import math

import numpy as np
import pytest

from federation.privacy_accountant import composed_mu, delta_of, epsilon_of
from federation.settings import Settings
from model.errors import ConfigError
from model.setting import Scalar


def test_the_published_calibration_of_balle_and_wang() -> None:
    """Their reference code gives sigma 3.730631634816464 for epsilon 1, delta 1e-5 and sensitivity 1."""
    assert delta_of(1.0, 1 / 3.730631634816464) == pytest.approx(1e-5, rel=1e-6)
    assert epsilon_of(composed_mu([(2 * 3.730631634816464, 1)]), delta=1e-5) == pytest.approx(1.0, rel=1e-6)


def test_delta_at_epsilon_zero_is_the_total_variation_distance() -> None:
    """2 Phi(mu / 2) - 1 for two normals mu apart; mu = 1: 0.3829249."""
    assert delta_of(0.0, 1.0) == pytest.approx(math.erf(0.5 / math.sqrt(2)))
    assert delta_of(0.0, 1.0) == pytest.approx(0.3829249, abs=1e-7)


def test_releases_compose_by_hand() -> None:
    """Sixteen with z = 8 are one with z = 2; releases with z = 2 and with z = 1 have mu^2 = 1 + 4."""
    assert composed_mu([(8.0, 16)]) == composed_mu([(2.0, 1)]) == 1.0
    assert composed_mu([(2.0, 1), (1.0, 1)]) == pytest.approx(math.sqrt(5), rel=1e-15)
    assert composed_mu([]) == composed_mu([(3.0, 0)]) == 0.0


def loss_distribution(noise: float, losses: np.ndarray) -> np.ndarray:
    """Chances of the privacy loss of one release on a grid of losses, with the sensitivity 2 C and noise z C.

    At x ~ N(2, z^2) the loss is log of the densities of N(2, z^2) and N(0, z^2), (4 x - 4) / (2 z^2): here by
    inverting that for the edges of the grid's cells.
    """
    step = losses[1] - losses[0]
    edges = np.append(losses - step / 2, losses[-1] + step / 2)
    x = (2 * noise**2 * edges + 4) / 4
    return np.diff([0.5 * math.erfc(-(value - 2) / (noise * math.sqrt(2))) for value in x])


def test_noise_that_changes_composes_as_the_loss_distributions_convolve() -> None:
    """Three releases with z = 4, one with z = 2 and two with z = 10, by numerical convolution and integration."""
    step, half = 2e-3, 6000
    grid = np.arange(-half, half + 1) * step
    total = np.zeros(grid.size)
    total[half] = 1.0
    for noise, count in ((4.0, 3), (2.0, 1), (10.0, 2)):
        for _ in range(count):
            total = np.convolve(total, loss_distribution(noise, grid), mode="same")
    assert total.sum() == pytest.approx(1.0, abs=1e-9)
    mu = composed_mu([(4.0, 3), (2.0, 1), (10.0, 2)])
    for epsilon in (0.0, 1.0, 3.0):
        delta = float((total * np.clip(1 - np.exp(epsilon - grid), 0, None)).sum())
        assert delta_of(epsilon, mu) == pytest.approx(delta, rel=1e-3)
    epsilon = epsilon_of(mu)
    delta = float((total * np.clip(1 - np.exp(epsilon - grid), 0, None)).sum())
    assert delta == pytest.approx(1e-5, rel=1e-3)


@pytest.mark.parametrize(("noise", "num_releases"), [(0.5, 10), (1.0, 1), (4.0, 100), (20.0, 100)])
def test_renyi_accounting_never_gives_less(noise: float, num_releases: int) -> None:
    """Mironov 2017: order a costs a T (2 C)^2 / (2 sigma^2); Canonne et al. 2020 turn that into epsilon.

    The exact number must be below the bound, and not by much.
    """
    rho = num_releases * (2 / noise) ** 2 / 2
    orders = [1 + step / 1000 for step in range(1, 200_000)]
    bound = min(a * rho + math.log((a - 1) / a) - (math.log(1e-5) + math.log(a)) / (a - 1) for a in orders)
    assert 0.8 * bound < epsilon_of(composed_mu([(noise, num_releases)])) <= bound


def test_epsilon_grows_with_mu_and_is_never_too_small_for_any() -> None:
    assert epsilon_of(0.0) == 0.0
    assert 0 < epsilon_of(1.0) < epsilon_of(2.0) < epsilon_of(1e6) < epsilon_of(1e99) < math.inf
    assert epsilon_of(1e100) == epsilon_of(composed_mu([(1e-320, 1)])) == math.inf


BASE: dict[str, Scalar] = {"tau": 0.0}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dp-noise-multiplier": 1.0}, "dp-clip-norm: got 0.0, wanted > 0 with dp-noise-multiplier"),
        ({"dp-clip-norm": 1.0}, "dp-noise-multiplier: got 0.0, wanted > 0 with dp-clip-norm"),
        ({"dp-clip-norm": -1.0}, "dp-clip-norm: got -1.0, wanted 0 to 1000000"),
        ({"dp-clip-norm": 1.0, "dp-noise-multiplier": 1.0, "tau": 3.0}, "tau: got 3.0, wanted 0 with"),
        ({"secure-aggregation": True, "min-fit-clients": 2}, "min-fit-clients: got 2, wanted at least 3 with"),
        ({"secure-aggregation": True, "num-clients": 65}, "num-clients: got 65, wanted at most 64"),
    ],
)
def test_promises_that_would_not_hold_are_refused(changes: dict[str, Scalar], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Settings.from_flat(BASE | changes)
