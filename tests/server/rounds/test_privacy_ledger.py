from __future__ import annotations

import logging
import math

import pytest

from federation.privacy_accountant import epsilon_of
from federation.settings import Settings
from server.rounds.privacy_ledger import PrivacyLedger
from server.rounds.recording import RoundOutcome

NOISY = Settings.from_flat({"tau": 0.0, "dp-clip-norm": 1.0, "dp-noise-multiplier": 4.0}).privacy


def test_without_noise_nothing_is_added() -> None:
    outcome = RoundOutcome(tensors={}, metrics={"loss_generator": 1.0})
    assert PrivacyLedger(Settings().privacy).record(3, outcome) is outcome


def test_every_round_says_what_is_spent(caplog: pytest.LogCaptureFixture) -> None:
    """Three releases with z = 4: mu = 2 sqrt(3) / 4."""
    caplog.set_level(logging.INFO)
    mu = math.sqrt(3) / 2
    outcome = RoundOutcome(tensors={}, metrics={}, clients={0: {"dp_releases": 3.0, "dp_mu": mu}})
    metrics = PrivacyLedger(NOISY).record(3, outcome).metrics
    assert metrics == {
        "dp_epsilon": pytest.approx(epsilon_of(mu), rel=1e-9),
        "dp_delta": 1e-5,
        "dp_releases": 3.0,
        "dp_mu": pytest.approx(mu, rel=1e-12),
    }
    assert f"epsilon {epsilon_of(mu):.4g}" in caplog.text and "one site, one person" in caplog.text
    assert "statistics that sites send once" in " ".join(caplog.text.split())


def test_the_site_that_has_spent_most_counts_with_all_its_runs() -> None:
    """Site 1 has sent less often, and once in another run with little noise."""
    clients = {0: {"dp_releases": 5.0, "dp_mu": math.sqrt(5) / 2}, 1: {"dp_releases": 4.0, "dp_mu": 20.0}}
    metrics = PrivacyLedger(NOISY).record(3, RoundOutcome(tensors={}, metrics={}, clients=clients)).metrics
    assert (metrics["dp_releases"], metrics["dp_epsilon"]) == (5.0, epsilon_of(20.0))


def test_a_site_that_lost_its_count_does_not_lower_it() -> None:
    outcome = RoundOutcome(tensors={}, metrics={}, clients={0: {"dp_releases": 1.0, "dp_mu": 0.5}})
    metrics = PrivacyLedger(NOISY).record(7, outcome).metrics
    assert (metrics["dp_releases"], metrics["dp_mu"]) == (7.0, pytest.approx(math.sqrt(7) / 2))


@pytest.mark.parametrize("told", [math.nan, math.inf, -math.inf, 1e300])
def test_what_a_site_tells_does_not_end_the_run(told: float) -> None:
    outcome = RoundOutcome(tensors={}, metrics={}, clients={0: {"dp_releases": told, "dp_mu": told}})
    assert all(map(math.isfinite, PrivacyLedger(NOISY).record(1, outcome).metrics.values()))
