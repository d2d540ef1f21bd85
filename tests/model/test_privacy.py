from __future__ import annotations

import math

import pytest

from model.config import Scalar, Settings
from model.errors import ConfigError
from model.privacy import delta_of, epsilon_of


def test_the_published_calibration_of_balle_and_wang() -> None:
    """Their reference code gives sigma 3.730631634816464 for epsilon 1, delta 1e-5 and sensitivity 1."""
    assert delta_of(1.0, 1 / 3.730631634816464) == pytest.approx(1e-5, rel=1e-6)
    assert epsilon_of(2 * 3.730631634816464, 1, 1e-5) == pytest.approx(1.0, rel=1e-6)


def test_delta_at_epsilon_zero_is_the_total_variation_distance() -> None:
    """2 Phi(mu / 2) - 1 for two normals mu apart; mu = 1: 0.3829249."""
    assert delta_of(0.0, 1.0) == pytest.approx(math.erf(0.5 / math.sqrt(2)))
    assert delta_of(0.0, 1.0) == pytest.approx(0.3829249, abs=1e-7)


def test_many_releases_are_one_with_less_noise() -> None:
    """Sixteen releases with noise z are one with z / 4: Gaussians compose exactly."""
    assert epsilon_of(8.0, 16) == pytest.approx(epsilon_of(2.0, 1), rel=1e-9)


@pytest.mark.parametrize(("noise", "num_releases"), [(0.5, 10), (1.0, 1), (4.0, 100), (20.0, 100)])
def test_renyi_accounting_never_gives_less(noise: float, num_releases: int) -> None:
    """Mironov 2017: order a costs a T (2 C)^2 / (2 sigma^2); Canonne et al. 2020 turn that into epsilon.

    The exact number must be below the bound, and not by much.
    """
    rho = num_releases * (2 / noise) ** 2 / 2
    orders = [1 + step / 1000 for step in range(1, 200_000)]
    bound = min(a * rho + math.log((a - 1) / a) - (math.log(1e-5) + math.log(a)) / (a - 1) for a in orders)
    assert 0.8 * bound < epsilon_of(noise, num_releases) <= bound


def test_epsilon_grows_with_releases_and_falls_with_noise() -> None:
    assert epsilon_of(1.0, 0) == 0.0
    assert epsilon_of(1.0, 1) < epsilon_of(1.0, 2) < epsilon_of(0.5, 2) < math.inf
    assert math.isfinite(epsilon_of(1e-3, 10_000))


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
