"""One round in which the server sees the sum of the updates and none of them (Bonawitz et al. 2017).

Four exchanges in place of one: keys, shares, training with masked updates, unmasking. A site that fails or is late in
one of them is left out of the rest; the sum is over the sites whose masked updates arrived. The protocol itself is in
model/secure_sum.py and model/secure_unmask.py, what is summed in model/secure_vector.py.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, Message
from flwr.serverapp import Grid

from model.config import Scalar, Settings
from model.errors import FederationError
from model.networks import NamedArrays
from model.reported import reported_scalars
from model.secure_primitives import KEY_BYTES, SEALED_BYTES, SHARE_BYTES, SecureSumError
from model.secure_sum import Phase
from model.secure_unmask import ServerSum
from model.secure_vector import Mean, SumLayout, losses_of
from server.fedgan import to_record
from server.messaging import exchange, fit_message
from server.recording import RoundOutcome
from server.roster import Roster
from server.updates import ArrayForm, RejectedUpdateError, Rejection, read_fit_reply, size_in_bytes

_log = logging.getLogger(__name__)

Arrays = list[npt.NDArray[Any]]


class SecureRounds:
    """Trains rounds of a run under secure aggregation."""

    def __init__(
        self,
        grid: Grid,
        roster: Roster,
        settings: Settings,
        *,
        on_wait: Callable[[], None],
    ) -> None:
        """Nothing is sent yet.

        Args:
            grid: Flower's.
            roster: the sites; kept up to date by the caller.
            settings: of the run.
            on_wait: called about twice a second.
        """
        self._grid = grid
        self._roster = roster
        self._settings = settings
        self._on_wait = on_wait

    def train(self, round_number: int, tensors: NamedArrays, scalars: Mapping[str, Scalar]) -> RoundOutcome:
        """One round.

        Of single sites the outcome has what they measured of their own machines, and bytes; losses are means over all.

        Args:
            round_number: from 1.
            tensors: the global ones.
            scalars: of the run: part sizes and run-id.

        Raises:
            FederationError: if fewer than min-fit-clients masked updates arrive.
            SecureSumError: if too few sites help to unmask their sum, or what comes out is no sum of updates.
        """
        return _SecureRound(self, round_number, tensors, scalars).train()

    def ask(self, messages: list[Message]) -> Iterator[Message]:
        """The replies to one exchange, in the order of the messages."""
        timeout_s = self._settings.federation.round_timeout_s
        return exchange(self._grid, messages, timeout_s=timeout_s, on_wait=self._on_wait)

    @property
    def settings(self) -> Settings:
        """Of the run."""
        return self._settings

    def nodes(self) -> dict[int, int]:
        """Partition id to node id of the known sites."""
        return {site.partition_id: node for node, site in self._roster.sites}


class _SecureRound:
    """The round under way."""

    def __init__(
        self, rounds: SecureRounds, round_number: int, tensors: NamedArrays, scalars: Mapping[str, Scalar]
    ) -> None:
        settings = rounds.settings
        self._rounds = rounds
        self._round = round_number
        self._config = settings.federation
        self._tensors = tensors
        self._nodes = rounds.nodes()
        session = f"{scalars['run-id']} round {round_number} {secrets.token_hex(16)}"
        self._scalars = {**scalars, "server-round": round_number, "session": session}
        self._layout = SumLayout(tensors, settings.model.num_identities, losses_of(settings.loss))
        self._sum = ServerSum(session, self._layout.length)
        self._rejected: dict[int, tuple[str, Rejection]] = {}
        self._clients: dict[int, dict[str, float]] = {}
        self._measured: dict[int, dict[str, float]] = {site: {"bytes_up": 0, "bytes_down": 0} for site in self._nodes}

    def train(self) -> RoundOutcome:
        self._exchange_keys()
        self._exchange_shares()
        self._collect_masked()
        self._unmask()
        mean = self._layout.mean(self._sum.unmask(), len(self._sum.survivors))
        if "loss_generator" not in mean.metrics and self._config.tells_losses:
            raise SecureSumError(f"round {self._round}: no site sent loss_generator")
        self._log_rejected()
        return self._outcome(mean)

    def _exchange_keys(self) -> None:
        form = _bytes_form("public keys", 2, KEY_BYTES)
        for site, arrays, _ in self._asked(Phase.KEYS, dict.fromkeys(self._nodes, _record([])), [form]):
            self._take(site, arrays, 1, self._sum.take_keys)
        self._require_quorum(self._sum.advertisers, "sent keys")

    def _exchange_shares(self) -> None:
        sites = self._sum.advertisers
        record = _record([np.array(sites, np.int64), self._sum.keys_S2B()])
        forms = [_bytes_form("sealed shares", len(sites), SEALED_BYTES), _bytes_form("commitment", KEY_BYTES)]
        for site, arrays, _ in self._asked(Phase.SHARES, dict.fromkeys(sites, record), forms):
            self._take(site, arrays, 2, self._sum.take_shares)
        self._require_quorum(self._sum.sharers, "sent shares")

    def _collect_masked(self) -> None:
        sites = np.array(self._sum.sharers, np.int64)
        tensors = dict(to_record(self._tensors))
        records = {}
        for site in self._sum.sharers:
            shares = {"secure-sites": Array(sites), "secure-shares": Array(self._sum.sealed_for(site))}
            records[site] = ArrayRecord({**tensors, **shares})
        form = ArrayForm("masked update", (self._layout.length,), np.dtype(np.uint64))
        for site, arrays, metrics in self._asked(Phase.TRAIN, records, [form]):
            if self._take(site, arrays, 1, self._sum.take_masked):
                self._clients[site] = metrics
        self._require_quorum(self._sum.survivors, "sent a masked update")

    def _unmask(self) -> None:
        sites = self._sum.survivors
        record = _record([np.array(sites, np.int64)])
        form = _bytes_form("revealed shares", len(self._sum.sharers), SHARE_BYTES)
        for site, arrays, _ in self._asked(Phase.UNMASK, dict.fromkeys(sites, record), [form]):
            self._take(site, arrays, 1, self._sum.take_revealed)

    def _asked(
        self, phase: Phase, records: Mapping[int, ArrayRecord], forms: list[ArrayForm]
    ) -> Iterator[tuple[int, Arrays, dict[str, float]]]:
        """Site, arrays and metrics of every readable reply; the other sites are rejected."""
        scalars: dict[str, Scalar] = {**self._scalars, "phase": phase.value}
        timeout_s = self._config.round_timeout_s
        messages = [fit_message(self._nodes[s], records[s], scalars, timeout_s=timeout_s) for s in sorted(records)]
        replies = self._rounds.ask(messages)
        sites = {message.metadata.message_id: site for message, site in zip(messages, sorted(records), strict=True)}
        for reply in replies:
            site = sites.pop(reply.metadata.reply_to_message_id)
            self._measured[site]["bytes_down"] += size_in_bytes(records[site])
            try:
                arrays, _, metrics = read_fit_reply(reply, forms, reported_scalars(self._config))
            except RejectedUpdateError as error:
                self._rejected[site] = str(error), error.kind
                continue
            self._measured[site]["bytes_up"] += size_in_bytes(reply.content.array_records["fitres.parameters"])
            yield site, arrays, metrics
        for late in sites.values():
            self._rejected[late] = f"no reply within {timeout_s:g} s to {phase.value}", Rejection.LATE

    def _take(self, site: int, arrays: Arrays, num_arrays: int, take: Callable[..., None]) -> bool:
        """Hand a reply's arrays on; a site whose arrays have another form is rejected."""
        try:
            if len(arrays) != num_arrays:
                raise SecureSumError(f"sent {len(arrays)} arrays, expected {num_arrays}")
            take(site, *arrays)
        except SecureSumError as error:
            self._rejected[site] = str(error), Rejection.MISMATCH
            return False
        return True

    def _require_quorum(self, sites: list[int], what: str) -> None:
        if len(sites) >= max(self._config.min_fit_clients, self._sum.threshold):
            return
        self._log_rejected()
        reasons = "; ".join(f"client {site}: {reason}" for site, (reason, _) in sorted(self._rejected.items()))
        raise FederationError(
            f"round {self._round}: {len(sites)} sites {what}, min-fit-clients is {self._config.min_fit_clients} and "
            f"the secure sum needs {self._sum.threshold}" + (f" ({reasons})" if reasons else "") + "; mend the clients"
        )

    def _log_rejected(self) -> None:
        for site, (reason, _) in sorted(self._rejected.items()):
            where = {"round": self._round, "site": site}
            _log.warning("round %d: client %d is left out: %s", self._round, site, reason, extra=where)

    def _outcome(self, mean: Mean) -> RoundOutcome:
        """Rejected are the sites that are not in the sum; one that did not help to unmask is in it."""
        survivors = self._sum.survivors
        rejected = {site: why for site, why in sorted(self._rejected.items()) if site not in survivors}
        return RoundOutcome(
            tensors=mean.tensors,
            metrics=mean.metrics,
            rejected={site: reason for site, (reason, _) in rejected.items()},
            rejected_kinds={site: kind.value for site, (_, kind) in rejected.items()},
            clients={site: self._clients[site] for site in survivors},
            measured={site: self._measured[site] for site in survivors},
        )


def _bytes_form(name: str, *shape: int) -> ArrayForm:
    return ArrayForm(name, shape, np.dtype(np.uint8))


def _record(arrays: Arrays) -> ArrayRecord:
    return ArrayRecord({str(index): Array(array) for index, array in enumerate(arrays)})
