from __future__ import annotations

import logging

import pytest

from model.config import Settings
from model.privacy import epsilon_of
from server.privacy_ledger import PrivacyLedger
from server.recording import RoundOutcome

NOISY = Settings.from_flat({"tau": 0.0, "dp-clip-norm": 1.0, "dp-noise-multiplier": 4.0}).federation


def test_without_noise_nothing_is_added() -> None:
    outcome = RoundOutcome(tensors={}, metrics={"loss_generator": 1.0})
    assert PrivacyLedger(Settings().federation).record(3, outcome) is outcome


def test_every_round_says_what_is_spent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    outcome = RoundOutcome(tensors={}, metrics={}, clients={0: {"dp_releases": 3.0}})
    metrics = PrivacyLedger(NOISY).record(3, outcome).metrics
    assert metrics == {
        "dp_epsilon": epsilon_of(4.0, 3),
        "dp_delta": 1e-5,
        "dp_releases": 3.0,
    }
    assert f"epsilon {epsilon_of(4.0, 3):.4g}" in caplog.text and "one site, one person" in caplog.text
    assert "statistics that sites send once" in " ".join(caplog.text.split())


def test_a_round_that_was_repeated_counts_again_and_the_worst_site_counts() -> None:
    outcome = RoundOutcome(tensors={}, metrics={}, clients={0: {"dp_releases": 3.0}, 1: {"dp_releases": 5.0}})
    assert PrivacyLedger(NOISY).record(3, outcome).metrics["dp_epsilon"] == epsilon_of(4.0, 5)


def test_a_site_that_lost_its_count_does_not_lower_it() -> None:
    outcome = RoundOutcome(tensors={}, metrics={}, clients={0: {"dp_releases": 1.0}})
    assert PrivacyLedger(NOISY).record(7, outcome).metrics["dp_releases"] == 7.0
