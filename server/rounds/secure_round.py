"""Rounds in which the server sees the sum of the updates and none of them.

The exchange is in server/rounds/secure_exchange.py, what is summed in federation/secure_sum/vector.py.
"""

from __future__ import annotations

import functools
import logging
import secrets
from collections.abc import Iterable, Mapping

from federation.reported import reported_scalars
from federation.secure_sum.masking import Phase
from federation.secure_sum.primitives import SecureSumError, Vector
from federation.secure_sum.session import Kind, SumName, content_digest
from federation.secure_sum.vector import Mean, SumLayout
from federation.settings import Settings
from model.landmarks.geometry import PartSizes
from model.networks.bundle import NamedArrays
from model.setting import Scalar
from server.rounds.downlink import Downlink
from server.rounds.exchange import Link, Reasons, reasons_and_kinds
from server.rounds.fedgan import to_record
from server.rounds.loop import RoundOutcome, Tensors
from server.rounds.secure_exchange import DisturbedSumError, Exchanged, Given, LostSumError, SecureExchange
from server.run_folder.history import RoundRow
from server.sites.conduct import Conduct
from server.updates.server_step import stepped

_log = logging.getLogger(__name__)


class SecureSums:
    """Secure sums over the sites of a run: of their updates, and once of their statistics."""

    def __init__(self, link: Link, settings: Settings) -> None:
        """Nobody is asked yet.

        Args:
            link: to the sites.
            settings: of the run.
        """
        self.link = link
        self._settings = settings

    def summed(
        self,
        kind: Kind,
        round_number: int,
        digest: str,
        scalars: Mapping[str, Scalar],
        zero: Vector,
        left_out: Reasons,
        given: Given,
    ) -> tuple[Exchanged, list[int], Vector]:
        """What is known of the sites, the survivors, and the sum of their vectors.

        Args:
            kind: what is summed.
            round_number: 0 for statistics.
            digest: of what the sites are given.
            scalars: that all messages have; run-id is one.
            zero: a vector of zeros, of the form that all vectors have.
            left_out: sites that are not asked; sites by whose fault the sum has to begin anew are added.
            given: what the sites are given.

        Raises:
            LostSumError: if the sum stays masked.
            FederationError: if too few sites take part.
        """
        phase = Phase.TRAIN if kind is Kind.TRAIN else Phase.STATISTICS
        while True:
            nodes = {s.partition_id: node for node, s in self.link.roster.sites if s.partition_id not in left_out}
            name = SumName(
                session=secrets.token_hex(16),
                run_id=str(scalars["run-id"]),
                kind=kind,
                round_number=round_number,
                digest=digest,
            )
            attempt = SecureExchange(
                self.link,
                nodes,
                name,
                scalars,
                zero=zero,
                min_sites=self._settings.rounds.min_fit_clients,
                told=reported_scalars(self._settings),
            )
            try:
                total = attempt.total(phase, given)
                return attempt.seen, attempt.survivors, total
            except DisturbedSumError as error:
                left_out |= error.reasons
                _log.warning("round %d begins anew: %s", round_number, error)
            finally:
                attempt.log_rejected()


class SecureRounds:
    """Trains rounds of a run under secure aggregation."""

    def __init__(
        self,
        tensors: NamedArrays,
        sums: SecureSums,
        settings: Settings,
        *,
        scalars: Mapping[str, Scalar],
        history: Iterable[RoundRow] = (),
    ) -> None:
        """Nobody is asked yet.

        Args:
            tensors: the global ones, of the right names and shapes.
            sums: over the sites.
            settings: of the run.
            scalars: that every message has: part sizes and run-id.
            history: rows of the rounds before, if the run goes on.
        """
        self._sums = sums
        self._settings = settings
        self._scalars = scalars
        self._conduct = Conduct(history, settings.defence)
        self._downlink = Downlink(settings, tensors)

    def train(self, round_number: int, tensors: NamedArrays) -> RoundOutcome:
        """One round: every site trains and masks its update; the sum is unmasked, checked and becomes a mean.

        Of single sites the outcome has what they measured of their own machines, and bytes; losses are means over all.
        A round whose sum stays masked, or is no sum of updates, is discarded: the tensors stay as they are.

        Args:
            round_number: from 1.
            tensors: the global ones.

        Raises:
            FederationError: if fewer than min-fit-clients masked updates arrive; the round may be repeated.
        """
        settings = self._settings
        layout = SumLayout.of_run(tensors, settings)
        digest = content_digest(
            Kind.TRAIN,
            settings,
            round_number=round_number,
            part_sizes=PartSizes.from_flat(self._scalars),
            tensors=tensors,
        )
        left_out = self._sums.link.left_out(self._conduct.quarantined(round_number))
        try:
            exchanged, survivors, total = self._sums.summed(
                Kind.TRAIN,
                round_number,
                digest,
                {**self._scalars, **self._downlink.scalars(tensors)},
                layout.zero(),
                left_out,
                functools.partial(self._downlink.records, round_number, to_record(tensors)),
            )
            mean = self._mean(layout, total, len(survivors))
            stepped_on = stepped(tensors, mean.tensors, settings)
            new = self._downlink.settled(round_number, tensors, stepped_on, sites=survivors)
            outcome = _outcome(exchanged, survivors, new, mean.metrics, left_out)
        except LostSumError as error:
            _log.error("round %d is discarded, the model stays as it is: %s", round_number, error)
            outcome = _discarded(tensors, str(error), left_out | error.reasons)
        self._conduct.note(round_number, outcome.clients, outcome.rejected_kinds, outcome.fingerprints)
        return outcome

    def _mean(self, layout: SumLayout, total: Vector, num_sites: int) -> Mean:
        try:
            mean = layout.mean(total, num_sites)
        except SecureSumError as error:
            raise LostSumError(str(error)) from error
        if "loss_generator" not in mean.metrics and self._settings.privacy.tells_losses:
            raise LostSumError("no site sent loss_generator")
        return mean


def _outcome(
    exchanged: Exchanged, survivors: list[int], tensors: Tensors, metrics: dict[str, float], left_out: Reasons
) -> RoundOutcome:
    """Rejected are the sites that are not in the sum; one that did not help to unmask is in it."""
    rejected = {site: why for site, why in (left_out | exchanged.rejected).items() if site not in survivors}
    reasons, kinds = reasons_and_kinds(rejected)
    return RoundOutcome(
        tensors=tensors,
        metrics=metrics,
        clients={site: exchanged.clients[site] for site in survivors},
        measured={site: exchanged.measured[site] for site in survivors},
        rejected=reasons,
        rejected_kinds=kinds,
    )


def _discarded(tensors: NamedArrays, reason: str, left_out: Reasons) -> RoundOutcome:
    reasons, kinds = reasons_and_kinds(left_out)
    return RoundOutcome(tensors=dict(tensors), metrics={}, discarded=reason, rejected=reasons, rejected_kinds=kinds)
