"""FedGAN (Rasouli et al. 2020; thesis Algorithm 1) as a Flower strategy for NumPyClients."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from federation.packing import pack
from federation.reported import reported_scalars
from federation.settings import Settings
from model.designs.registry import IDENTITY_ROWS
from model.errors import FederationError
from model.metrics import WeightedMean, merge
from model.networks.bundle import NamedArrays
from model.setting import Scalar
from server.rounds.messaging import fit_message
from server.rounds.recording import RoundOutcome
from server.sites.conduct import Conduct
from server.sites.roster import KnownSite, Roster
from server.updates.reply import RejectedUpdateError, Rejection, read_update, size_in_bytes
from server.updates.robust import krum, median, trimmed_mean
from server.updates.screening import MIN_COMPARED, compare, weights
from server.updates.store import UpdateStore, fingerprint_of
from server.updates.weighted_mean import StreamingMean

_log = logging.getLogger(__name__)


class FedGAN(Strategy):  # type: ignore[misc]
    """All known sites train in each round; all travelling networks are averaged by number of training frames.

    One site's frames count up to `max-weight-ratio`. Rows of the identity embeddings are averaged over the sites that
    own the identity. Every update is checked, and compared with the others, before it is averaged; one that cannot be
    used is left out by name, and a site that goes on sending such is not asked for a while. `aggregation` may put a
    robust rule in the place of the mean. `outcome` has the details of the last round.
    """

    def __init__(
        self,
        tensors: NamedArrays,
        roster: Roster,
        settings: Settings,
        update_folder: Path,
        history: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """Start from given networks.

        Args:
            tensors: the global travelling tensors; not changed.
            roster: the sites; kept up to date by the caller.
            settings: of the run: quorum, waiting time, rule of aggregation, what is screened and what is reported.
            update_folder: where the updates of a round lie until they are measured; removed after each round.
            history: rows of the rounds before, if the run goes on.
        """
        self.outcome = RoundOutcome(tensors=dict(tensors), metrics={})
        self._roster = roster
        self._settings = settings
        self._update_folder = update_folder
        self._conduct = Conduct(history, settings.defence)
        self._quarantined: dict[int, str] = {}
        self._num_bytes_down = 0
        self._sent: list[tuple[KnownSite, Message]] = []

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """One message for each known site that is not in quarantine, ascending by partition id."""
        scalars: dict[str, Scalar] = {**config, "phase": "train", "server-round": server_round}
        self._num_bytes_down = size_in_bytes(arrays)
        self._quarantined = self._conduct.quarantined(server_round)
        self._sent = [
            (site, fit_message(node_id, arrays, scalars, timeout_s=self._settings.waiting.round_timeout_s))
            for node_id, site in self._roster.sites
            if site.partition_id not in self._quarantined
        ]
        return [message for _, message in self._sent]

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord, MetricRecord]:
        """The new networks from the valid updates, which are taken one at a time in the order of `replies`.

        Raises:
            FederationError: if fewer than min-fit-clients updates are valid; `outcome` is left as it was.
        """
        sites = {message.metadata.message_id: site for site, message in self._sent}
        self._sent = []
        tally = _Tally(self.outcome.tensors, self._update_folder, self._num_bytes_down, self._settings, self._conduct)
        for client, reason in self._quarantined.items():
            tally.reject(client, reason, Rejection.QUARANTINED)
        for reply in replies:
            tally.take(sites.pop(reply.metadata.reply_to_message_id), reply)
        timeout_s = self._settings.waiting.round_timeout_s
        for late in sites.values():
            tally.reject(late.partition_id, f"no reply within {timeout_s:g} s", Rejection.LATE)
        tally.screen()
        self._require_quorum(server_round, len(tally.clients), tally.rejected)
        self.outcome = tally.outcome()
        self._conduct.note(
            {
                "round": server_round,
                "clients": self.outcome.clients,
                "rejected_kinds": self.outcome.rejected_kinds,
                "fingerprints": self.outcome.fingerprints,
            }
        )
        return to_record(self.outcome.tensors), MetricRecord(self.outcome.metrics)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """Nothing: clients do not evaluate, their training metrics come with their updates."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> None:
        """Nothing to aggregate."""

    def summary(self) -> None:
        """Log what the strategy does."""
        _log.info(
            "FedGAN (%s) over %d tensors, at least %d clients",
            self._settings.defence.aggregation,
            len(self.outcome.tensors),
            self._settings.rounds.min_fit_clients,
        )

    def _require_quorum(self, server_round: int, num_valid: int, rejected: Mapping[int, str]) -> None:
        for partition_id, reason in sorted(rejected.items()):
            where = {"round": server_round, "site": partition_id}
            _log.warning("round %d: client %d is left out: %s", server_round, partition_id, reason, extra=where)
        wanted = self._settings.rounds.min_fit_clients
        if num_valid >= wanted:
            return
        reasons = "; ".join(f"client {p}: {reason}" for p, reason in sorted(rejected.items()))
        raise FederationError(
            f"round {server_round}: {num_valid} valid updates, min-fit-clients is {wanted}"
            + (f" ({reasons})" if reasons else "")
            + "; mend the clients or lower min-fit-clients"
            + (f"; with resume the run goes on after round {server_round - 1}" if server_round > 1 else "")
        )


class _Tally:
    """The round so far: updates that can be used, reasons for those that cannot.

    Updates are compared by the tensors that all sites share: every site changes the rows of its own identity.
    """

    def __init__(
        self,
        current: NamedArrays,
        update_folder: Path,
        num_bytes_down: int,
        settings: Settings,
        conduct: Conduct,
    ) -> None:
        self._current = current
        self._shared = [name for name in current if name not in IDENTITY_ROWS]
        self._defence, self._privacy = settings.defence, settings.privacy
        self._reported = reported_scalars(settings)
        self._conduct = conduct
        self._updates = UpdateStore(current, update_folder)
        self._num_bytes_down = num_bytes_down
        self._num_bytes_up: dict[int, int] = {}
        self._sites: dict[int, KnownSite] = {}
        self._fingerprints: dict[int, str] = {}
        self.clients: dict[int, dict[str, float]] = {}
        self.rejected: dict[int, str] = {}
        self.kinds: dict[int, str] = {}

    def take(self, site: KnownSite, reply: Message) -> None:
        """Keep the site's update, or its reason among the rejected."""
        client = site.partition_id
        try:
            update = read_update(reply, self._current, self._reported, has_losses=self._privacy.tells_losses)
        except RejectedUpdateError as error:
            self.reject(client, str(error), error.kind)
            return
        fingerprint = fingerprint_of(update.tensors)
        if self._conduct.has_sent(client, fingerprint):
            self.reject(client, "sent the very update of an earlier round", Rejection.REPLAYED)
            return
        if update.num_dropped:
            text = "client %d sent %d values that no site of this run sends; they are dropped"
            _log.warning(text, client, update.num_dropped, extra={"site": client})
        self._updates.add(client, update.tensors)
        self._sites[client] = site
        self._fingerprints[client] = fingerprint
        self._num_bytes_up[client] = update.num_bytes
        self.clients[client] = update.metrics | {"num_examples": update.num_examples}

    def reject(self, client: int, reason: str, kind: Rejection) -> None:
        """Leave the site out of the round."""
        self.rejected[client] = reason
        self.kinds[client] = kind.value
        self.clients.pop(client, None)

    def screen(self) -> None:
        """Leave out updates that do not fit the others'."""
        config = self._defence
        if not (config.max_norm_ratio or config.max_loss_deviation or config.min_cosine > -1):
            return
        clients = list(self.clients)
        if len(clients) >= MIN_COMPARED:
            products_nn = self._updates.products(clients, self._shared)
            for finding in compare(clients, products_nn, self.clients, config):
                self.reject(finding.client, finding.reason, finding.kind)

    def outcome(self) -> RoundOutcome:
        """The new networks, and how each update lies to the step to them."""
        weight_of = self._weights()
        tensors = self._aggregated(weight_of)
        measured = {
            client: {
                "update_norm": step.norm,
                "cosine_to_mean": step.cosine_to_mean,
                "weight": weight_of[client],
                "bytes_up": self._num_bytes_up[client],
                "bytes_down": self._num_bytes_down,
            }
            for client, step in self._updates.measure(tensors, list(self.clients)).items()
        }
        return RoundOutcome(
            tensors=tensors,
            metrics=self._mean_metrics(weight_of),
            clients=self.clients,
            rejected=dict(sorted(self.rejected.items())),
            rejected_kinds=dict(sorted(self.kinds.items())),
            measured=measured,
            fingerprints={client: self._fingerprints[client] for client in self.clients},
        )

    def _weights(self) -> dict[int, int]:
        """Partition id of an accepted site to its weight in the means."""
        num_frames = {client: int(values["num_examples"]) for client, values in self.clients.items()}
        weight_of = weights(num_frames, self._defence.max_weight_ratio)
        for client, weight in weight_of.items():
            if weight < num_frames[client]:
                text = "client %d says it has %d training frames; they count as %d, max-weight-ratio is %g"
                _log.info(
                    text,
                    client,
                    num_frames[client],
                    weight,
                    self._defence.max_weight_ratio,
                    extra={"site": client},
                )
        return weight_of

    def _aggregated(self, weight_of: Mapping[int, int]) -> dict[str, npt.NDArray[np.float32]]:
        """The new tensors by the run's rule; identity rows are the mean over their owners under every rule."""
        rule, clients = self._defence.aggregation, list(self.clients)
        is_mean = rule == "mean"
        averaged = {name: old for name, old in self._current.items() if is_mean or name in IDENTITY_ROWS}
        mean = StreamingMean(averaged, identity_rows=IDENTITY_ROWS)
        for client in clients:
            tensors = {name: self._updates.tensor(client, name) for name in averaged}
            identity_weights_I = np.minimum(self._sites[client].identity_weights_I, weight_of[client])
            mean.add(tensors, weight=weight_of[client], identity_weights_I=identity_weights_I)
        result = mean.result()
        if not is_mean:
            result |= self._robust(rule, clients)
        return {name: result[name] for name in self._current}

    def _robust(self, rule: str, clients: list[int]) -> dict[str, npt.NDArray[np.float32]]:
        if rule == "krum":
            chosen = clients[krum(self._updates.products(clients, self._shared))]
            return {name: self._updates.tensor(chosen, name) for name in self._shared}
        of_stack = median if rule == "median" else trimmed_mean
        return {name: of_stack(np.stack([self._updates.tensor(c, name) for c in clients])) for name in self._shared}

    def _mean_metrics(self, weight_of: Mapping[int, int]) -> dict[str, float]:
        """Means over the accepted sites, weighted as their updates."""
        means: dict[str, WeightedMean] = {}
        for client, values in self.clients.items():
            told = {n: WeightedMean.of(value, weight_of[client]) for n, value in values.items() if n != "num_examples"}
            means = merge(means, told)
        return {name: value.value for name, value in means.items()}


def to_record(tensors: NamedArrays) -> ArrayRecord:
    """The tensors as they travel: one vector (`federation.packing`)."""
    return ArrayRecord({"weights": Array(pack(tensors))})
