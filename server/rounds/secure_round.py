"""Rounds in which the server sees the sum of the updates and none of them.

The exchange is in server/rounds/secure_exchange.py, what is summed in federation/secure_sum/vector.py.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flwr.serverapp import Grid

from federation.reported import reported_scalars
from federation.secure_sum.masking import Phase, Vector
from federation.secure_sum.primitives import SecureSumError
from federation.secure_sum.session import Kind, SumName, content_digest
from federation.secure_sum.vector import Mean, SumLayout
from federation.settings import Settings
from model.errors import FederationError
from model.landmarks.geometry import PartSizes
from model.networks.bundle import NamedArrays
from model.setting import Scalar
from server.rounds.fedgan import to_record
from server.rounds.recording import RoundOutcome
from server.rounds.secure_exchange import (
    DisturbedSumError,
    Exchanged,
    Link,
    LostSumError,
    Reasons,
    SecureExchange,
    log_rejected,
)
from server.sites.conduct import Conduct
from server.sites.roster import Roster
from server.updates.reply import Rejection

_log = logging.getLogger(__name__)

MAX_DISCARDED = 5
"""Rounds in a row without a usable sum after which the run ends: a site that poisons sums cannot be told."""


class SecureRounds:
    """Trains rounds of a run under secure aggregation."""

    def __init__(
        self,
        grid: Grid,
        roster: Roster,
        settings: Settings,
        *,
        on_wait: Callable[[], None],
        history: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """Nothing is sent yet.

        Args:
            grid: Flower's.
            roster: the sites; kept up to date by the caller.
            settings: of the run.
            on_wait: called about twice a second.
            history: rows of the rounds before, if the run goes on.
        """
        rows = list(history)
        self._grid = grid
        self._roster = roster
        self._settings = settings
        self._on_wait = on_wait
        self._conduct = Conduct(rows, settings.defence)
        self._num_discarded = 0
        for row in rows:
            self._count(row.get("discarded", ""))

    def train(self, round_number: int, tensors: NamedArrays, scalars: Mapping[str, Scalar]) -> RoundOutcome:
        """One round.

        Of single sites the outcome has what they measured of their own machines, and bytes; losses are means over all.
        A round whose sum stays masked, or is no sum of updates, is discarded: the tensors stay as they are.

        Args:
            round_number: from 1.
            tensors: the global ones.
            scalars: of the run: part sizes and run-id.

        Raises:
            FederationError: if fewer than min-fit-clients masked updates arrive; the round may be repeated.
        """
        settings = self._settings
        layout = SumLayout.of_run(tensors, settings.model)
        digest = content_digest(
            Kind.TRAIN,
            settings,
            round_number=round_number,
            part_sizes=PartSizes.from_flat(scalars),
            tensors=tensors,
        )
        quarantined = self._conduct.quarantined(round_number)
        left_out: Reasons = {site: (reason, Rejection.QUARANTINED) for site, reason in quarantined.items()}
        try:
            exchanged, survivors, total = self.summed(
                Kind.TRAIN, round_number, digest, scalars, layout.length, left_out, dict(to_record(tensors))
            )
            outcome = _outcome(exchanged, survivors, self._mean(layout, total, len(survivors)), left_out)
        except LostSumError as error:
            _log.error("round %d is discarded, the model stays as it is: %s", round_number, error)
            outcome = _discarded(tensors, str(error), left_out | error.reasons)
        self._count(outcome.discarded)
        self._conduct.note(
            {"round": round_number, "clients": outcome.clients, "rejected_kinds": outcome.rejected_kinds}
        )
        return outcome

    def require_progress(self) -> None:
        """Nothing, unless too many rounds in a row were discarded.

        Raises:
            FederationError: then; a further round would be discarded as well.
        """
        if self._num_discarded >= MAX_DISCARDED:
            raise FederationError(
                f"the last {self._num_discarded} rounds had no usable secure sum; the log and history.jsonl say why. A "
                "site that poisons the sum cannot be told by the server: have each site's operator check it"
            )

    def summed(
        self,
        kind: Kind,
        round_number: int,
        digest: str,
        scalars: Mapping[str, Scalar],
        length: int,
        left_out: Reasons,
        tensors: Mapping[str, Any],
    ) -> tuple[Exchanged, list[int], Vector]:
        """What is known of the sites, the survivors, and the [L] sum of their vectors.

        Args:
            kind: what is summed.
            round_number: 0 for statistics.
            digest: of what the sites are given.
            scalars: that all messages have; run-id is one.
            length: L.
            left_out: sites that are not asked; sites by whose fault the sum has to begin anew are added.
            tensors: that the sites are given.

        Raises:
            LostSumError: if the sum stays masked.
            FederationError: if too few sites take part.
        """
        phase = Phase.TRAIN if kind is Kind.TRAIN else Phase.STATISTICS
        timeout_s = self._settings.waiting.round_timeout_s
        while True:
            nodes = {s.partition_id: node for node, s in self._roster.sites if s.partition_id not in left_out}
            link = Link(grid=self._grid, timeout_s=timeout_s, on_wait=self._on_wait, nodes=nodes)
            name = SumName(
                session=secrets.token_hex(16),
                run_id=str(scalars["run-id"]),
                kind=kind,
                round_number=round_number,
                digest=digest,
            )
            attempt = SecureExchange(
                link,
                name,
                scalars,
                length=length,
                min_sites=self._settings.rounds.min_fit_clients,
                told=reported_scalars(self._settings),
            )
            try:
                total = attempt.total(phase, tensors)
                return attempt.seen, attempt.survivors, total
            except DisturbedSumError as error:
                left_out |= error.reasons
                _log.warning("round %d begins anew: %s", round_number, error)
            finally:
                log_rejected(round_number, attempt.seen.rejected)

    def _mean(self, layout: SumLayout, total: Vector, num_sites: int) -> Mean:
        try:
            mean = layout.mean(total, num_sites)
        except SecureSumError as error:
            raise LostSumError(str(error)) from error
        if "loss_generator" not in mean.metrics and self._settings.privacy.tells_losses:
            raise LostSumError("no site sent loss_generator")
        return mean

    def _count(self, discarded: str) -> None:
        self._num_discarded = self._num_discarded + 1 if discarded else 0


def _outcome(exchanged: Exchanged, survivors: list[int], mean: Mean, left_out: Reasons) -> RoundOutcome:
    """Rejected are the sites that are not in the sum; one that did not help to unmask is in it."""
    rejected = {site: why for site, why in (left_out | exchanged.rejected).items() if site not in survivors}
    reasons, kinds = _split(rejected)
    return RoundOutcome(
        tensors=mean.tensors,
        metrics=mean.metrics,
        clients={site: exchanged.clients[site] for site in survivors},
        measured={site: exchanged.measured[site] for site in survivors},
        rejected=reasons,
        rejected_kinds=kinds,
    )


def _discarded(tensors: NamedArrays, reason: str, left_out: Reasons) -> RoundOutcome:
    reasons, kinds = _split(left_out)
    return RoundOutcome(tensors=dict(tensors), metrics={}, discarded=reason, rejected=reasons, rejected_kinds=kinds)


def _split(rejected: Reasons) -> tuple[dict[int, str], dict[int, str]]:
    """Reasons and kinds apart."""
    ordered = sorted(rejected.items())
    return {site: reason for site, (reason, _) in ordered}, {site: kind.value for site, (_, kind) in ordered}
