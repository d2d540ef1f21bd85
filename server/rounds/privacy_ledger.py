"""What a run's noised updates have told so far: epsilon and delta after every round."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from federation.privacy_accountant import DELTA, MU, RELEASES, composed_mu, epsilon_of
from federation.settings import PrivacyConfig
from model.checkpoint import Checkpoint
from server.run_folder.history import RoundRow
from server.updates.reply import Rejection

_log = logging.getLogger(__name__)


class _Spent(NamedTuple):
    """What noised updates have told of a person."""

    releases: float = 0.0
    mu: float = 0.0

    def or_more(self, other: _Spent) -> _Spent:
        """The larger of both, number by number."""
        return _Spent(max(self.releases, other.releases), max(self.mu, other.mu))

    def and_one(self, noise_multiplier: float) -> _Spent:
        """After one more update with this noise."""
        return _Spent(self.releases + 1, math.hypot(self.mu, composed_mu([(noise_multiplier, 1)])))


class PrivacyLedger:
    """Adds `dp_epsilon`, `dp_delta`, `dp_releases` and `dp_mu` to a round's metrics; without noise it adds nothing.

    What is spent is a person's, over all runs: every site keeps its own book (client/consent/privacy_ledger.py) and
    says with each update how many noised ones it has made, and the mu of all of them. So a resumed run goes on where it
    was, and a second run on the same people does not begin at zero.

    What is reported never falls. A site whose update is left out may have made it all the same, and in a discarded
    round all sites may have: one release more is counted until the site says what its book has.
    """

    def __init__(self, config: PrivacyConfig) -> None:
        """Say in the log what the run promises."""
        self._config = config
        self._sites: dict[int, _Spent] = {}
        self._most = _Spent()
        if config.dp_noise_multiplier:
            _log.info(
                "differential privacy of updates: length at most %g, noise multiplier %g, delta %g; the statistics "
                "that sites send once are not noised",
                config.dp_clip_norm,
                config.dp_noise_multiplier,
                DELTA,
            )
        if config.secure_aggregation:
            _log.info(
                "secure aggregation: the server sees sums of updates and of the statistics before round 1; rows of the "
                "identity embeddings with one owner are that owner's"
            )

    def go_on_after(self, history: Iterable[RoundRow]) -> None:
        """Count what the rows of a run say that is resumed."""
        if self._config.dp_noise_multiplier:
            for row in history:
                self._note(row)

    def after_round(self, row: RoundRow, state: Checkpoint) -> RoundRow:
        """The row with what has been spent until the round's end.

        Of the site that has spent most, never less than after the round before, and at least one release a round is
        counted.
        """
        if not self._config.dp_noise_multiplier:
            return row
        self._note(row)
        num_releases, mu = int(self._most.releases), self._most.mu
        epsilon = epsilon_of(mu)
        _log.info(
            "round %d: epsilon %.4g, delta %g at client level (one site, one person) after %d updates of a site over "
            "all runs: with any other frames in a person's place, what was sent would be at most e^%.4g times as "
            "likely or unlikely, but for a chance of delta",
            row.round,
            epsilon,
            DELTA,
            num_releases,
            epsilon,
            extra={"round": row.round},
        )
        spent = {"dp_epsilon": epsilon, "dp_delta": DELTA, RELEASES: float(num_releases), MU: mu}
        return dataclasses.replace(row, metrics={**row.metrics, **spent})

    def _note(self, row: RoundRow) -> None:
        multiplier = self._config.dp_noise_multiplier
        for site in self._may_have_released(row):
            self._sites[site] = self._sites.get(site, _Spent()).and_one(multiplier)
        for site, told in row.clients.items():
            self._sites[site] = self._sites.get(site, _Spent()).or_more(_told(told))
        one_a_round = _Spent(row.round, composed_mu([(multiplier, row.round)]))
        for spent in (one_a_round, _told(row.metrics), *self._sites.values()):
            self._most = self._most.or_more(spent)

    def _may_have_released(self, row: RoundRow) -> set[int]:
        """Sites of which the row says no number, and which the server may have had an update of."""
        asked = {site for site, kind in row.rejected_kinds.items() if kind != Rejection.QUARANTINED}
        everybody = self._sites.keys() - row.rejected_kinds.keys() if row.discarded else set()
        return (asked | everybody) - row.clients.keys()


def _told(numbers: Mapping[str, float]) -> _Spent:
    """What a site or a row says is spent: finite numbers of at most 1e9; 0 for what it does not say."""
    values = (numbers.get(name, 0.0) for name in (RELEASES, MU))
    return _Spent(*(min(max(value, 0.0), 1e9) if math.isfinite(value) else 0.0 for value in values))
