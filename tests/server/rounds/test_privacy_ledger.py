from __future__ import annotations

import logging
import math
from collections.abc import Mapping

import numpy as np
import pytest

from federation.privacy_accountant import epsilon_of
from federation.settings import Settings
from model.checkpoint import Checkpoint
from model.landmarks.geometry import PartSizes
from server.rounds.privacy_ledger import PrivacyLedger
from tests.support.rows import round_row

NOISY = Settings.from_flat({"tau": 0.0, "dp-clip-norm": 1.0, "dp-noise-multiplier": 4.0}).privacy
STATE = Checkpoint(
    round=3,
    settings={},
    identities=[],
    part_sizes=PartSizes((8, 8, 8, 8), (8, 8, 8, 12)),
    landmark_mean_IKC=np.zeros((0, 68, 2), np.float32),
    landmark_std_IKC=np.zeros((0, 68, 2), np.float32),
    tensors={},
)


def spent(round_number: int, clients: dict[int, dict[str, float]]) -> Mapping[str, float]:
    """What the ledger adds to a round's metrics."""
    return PrivacyLedger(NOISY).after_round(round_row(round_number, clients=clients), STATE).metrics


def test_without_noise_nothing_is_added() -> None:
    row = round_row(3, metrics={"loss_generator": 1.0})
    assert PrivacyLedger(Settings().privacy).after_round(row, STATE) is row


def test_every_round_says_what_is_spent(caplog: pytest.LogCaptureFixture) -> None:
    """Three releases with z = 4: mu = 2 sqrt(3) / 4."""
    caplog.set_level(logging.INFO)
    mu = math.sqrt(3) / 2
    metrics = spent(3, {0: {"dp_releases": 3.0, "dp_mu": mu}})
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
    metrics = spent(3, clients)
    assert (metrics["dp_releases"], metrics["dp_epsilon"]) == (5.0, epsilon_of(20.0))


def test_a_site_that_lost_its_count_does_not_lower_it() -> None:
    metrics = spent(7, {0: {"dp_releases": 1.0, "dp_mu": 0.5}})
    assert (metrics["dp_releases"], metrics["dp_mu"]) == (7.0, pytest.approx(math.sqrt(7) / 2))


SPENT = {"dp_releases": 200.0, "dp_mu": math.sqrt(200) / 2}


def after(count: int) -> tuple[float, object]:
    """Releases and mu of so many with z = 4."""
    return count, pytest.approx(math.sqrt(count) / 2)


def two_numbers(metrics: Mapping[str, float]) -> tuple[float, float]:
    return metrics["dp_releases"], metrics["dp_mu"]


def test_a_discarded_round_counts_and_what_is_spent_never_falls() -> None:
    """The sites made their updates before the sum was lost; the row of such a round has no numbers of sites."""
    ledger = PrivacyLedger(NOISY)
    rows = [
        round_row(3, clients={0: SPENT}),
        round_row(4, discarded="the sum stays masked"),
        round_row(5, clients={0: {"dp_releases": 1.0, "dp_mu": 0.5}}),
    ]
    assert [two_numbers(ledger.after_round(row, STATE).metrics) for row in rows] == [after(200), after(201), after(201)]


@pytest.mark.parametrize(("kind", "count"), [("too-long", 201), ("late", 201), ("quarantined", 200)])
def test_a_site_whose_update_was_left_out_made_it_all_the_same(kind: str, count: int) -> None:
    """Unless it was not asked."""
    ledger = PrivacyLedger(NOISY)
    ledger.after_round(round_row(1, clients={0: SPENT}), STATE)
    little = {"dp_releases": 2.0, "dp_mu": math.sqrt(2) / 2}
    row = round_row(2, clients={1: little}, rejected={0: "why"}, rejected_kinds={0: kind})
    assert two_numbers(ledger.after_round(row, STATE).metrics) == after(count)


def test_a_resumed_run_goes_on_from_its_history() -> None:
    """Also where the site that has spent most stays away."""
    ledger, resumed = PrivacyLedger(NOISY), PrivacyLedger(NOISY)
    history = [ledger.after_round(round_row(3, clients={0: SPENT}), STATE)]
    history.append(ledger.after_round(round_row(4, discarded="lost"), STATE))
    resumed.go_on_after(history)
    next_row = round_row(5, clients={1: {"dp_releases": 5.0, "dp_mu": 1.0}})
    assert two_numbers(resumed.after_round(next_row, STATE).metrics) == after(201)
    resumed.go_on_after([])
    discarded = resumed.after_round(round_row(6, discarded="lost"), STATE).metrics
    assert two_numbers(discarded) == after(202)  # the site's own count is known, not the row's alone


@pytest.mark.parametrize("told", [math.nan, math.inf, -math.inf, 1e300])
def test_what_a_site_tells_does_not_end_the_run(told: float) -> None:
    assert all(map(math.isfinite, spent(1, {0: {"dp_releases": told, "dp_mu": told}}).values()))
