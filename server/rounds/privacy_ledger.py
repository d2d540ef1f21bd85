"""What a run's noised updates have told so far: epsilon and delta after every round."""

from __future__ import annotations

import dataclasses
import logging
import math

from federation.privacy_accountant import DELTA, MU, RELEASES, composed_mu, epsilon_of
from federation.settings import PrivacyConfig
from model.checkpoint import Checkpoint
from server.run_folder.history import RoundRow

_log = logging.getLogger(__name__)


class PrivacyLedger:
    """Adds `dp_epsilon`, `dp_delta`, `dp_releases` and `dp_mu` to a round's metrics; without noise it adds nothing.

    What is spent is a person's, over all runs: every site keeps its own book (client/consent/privacy_ledger.py) and
    says with each update how many noised ones it has made, and the mu of all of them. So a resumed run goes on where it
    was, and a second run on the same people does not begin at zero.
    """

    def __init__(self, config: PrivacyConfig) -> None:
        """Say in the log what the run promises."""
        self._config = config
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

    def after_round(self, row: RoundRow, state: Checkpoint) -> RoundRow:
        """The row with what has been spent until the round's end.

        Of the site that has spent most, and at least one release a round is counted.
        """
        if not self._config.dp_noise_multiplier:
            return row
        num_releases = int(max(row.round, *_told(row, RELEASES)))
        mu = max(composed_mu([(self._config.dp_noise_multiplier, row.round)]), *_told(row, MU))
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


def _told(row: RoundRow, name: str) -> list[float]:
    """Finite values of a number that sites told, at most 1e9, and 0."""
    values = (client.get(name, 0.0) for client in row.clients.values())
    return [0.0, *(min(value, 1e9) for value in values if math.isfinite(value))]
