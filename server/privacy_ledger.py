"""What a run's noised updates have told so far: epsilon and delta after every round."""

from __future__ import annotations

import dataclasses
import logging

from model.config import FederationConfig
from model.privacy import DELTA, RELEASES, epsilon_of
from server.recording import RoundOutcome

_log = logging.getLogger(__name__)


class PrivacyLedger:
    """Adds `dp_epsilon`, `dp_delta` and `dp_releases` to a round's metrics; without noise it adds nothing.

    The numbers follow from the settings and the count of releases, which every site keeps for itself and sends along,
    so a resumed run goes on where it was. The settings `dp-clip-norm`, `dp-noise-multiplier` and `secure-aggregation`
    must stay as they are for that.
    """

    def __init__(self, config: FederationConfig) -> None:
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

    def record(self, round_number: int, outcome: RoundOutcome) -> RoundOutcome:
        """The outcome of a round with what has been spent until its end.

        Epsilon is of the site with the most releases, and at least one release a round is counted.

        Args:
            round_number: from 1.
            outcome: of the round; its accepted clients say how often they have sent.
        """
        if not self._config.dp_noise_multiplier:
            return outcome
        told = [values.get(RELEASES, 0.0) for values in outcome.clients.values()]
        num_releases = int(max(round_number, *told))
        epsilon = epsilon_of(self._config.dp_noise_multiplier, num_releases)
        _log.info(
            "round %d: epsilon %.4g, delta %g at client level (one site, one person) after %d updates of a site: with "
            "any other frames in a person's place, what was sent would be at most e^%.4g times as likely or unlikely, "
            "but for a chance of delta",
            round_number,
            epsilon,
            DELTA,
            num_releases,
            epsilon,
            extra={"round": round_number},
        )
        spent = {"dp_epsilon": epsilon, "dp_delta": DELTA, RELEASES: float(num_releases)}
        return dataclasses.replace(outcome, metrics=outcome.metrics | spent)
