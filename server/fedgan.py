"""FedGAN (Rasouli et al. 2020; thesis Algorithm 1) as a Flower strategy for NumPyClients."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from model.config import FederationConfig, Scalar
from model.errors import FederationError
from model.metrics import WeightedMean, merge
from model.networks import IDENTITY_ROWS, NamedArrays
from server.aggregation import StreamingMean
from server.messaging import fit_message
from server.recording import RoundOutcome
from server.roster import KnownSite, Roster
from server.update_geometry import UpdateGeometry
from server.updates import RejectedUpdateError, Rejection, read_update, size_in_bytes

_log = logging.getLogger(__name__)


class FedGAN(Strategy):  # type: ignore[misc]
    """All known sites train in each round; all travelling networks are averaged by number of training frames.

    Rows of the identity embeddings are averaged over the sites that own the identity. Every update is checked before
    it is averaged; an unusable one is left out by name. `outcome` has the details of the last round.
    """

    def __init__(self, tensors: NamedArrays, roster: Roster, config: FederationConfig, update_folder: Path) -> None:
        """Start from given networks.

        Args:
            tensors: the global travelling tensors; not changed.
            roster: the sites; kept up to date by the caller.
            config: quorum and waiting time.
            update_folder: where the updates of a round lie until they are measured; removed after each round.
        """
        self.outcome = RoundOutcome(tensors=dict(tensors), metrics={})
        self._roster = roster
        self._config = config
        self._update_folder = update_folder
        self._num_bytes_down = 0
        self._sent: list[tuple[KnownSite, Message]] = []

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """One message for each known site, ascending by partition id."""
        scalars: dict[str, Scalar] = {**config, "phase": "train", "server-round": server_round}
        self._num_bytes_down = size_in_bytes(arrays)
        self._sent = [
            (site, fit_message(node_id, arrays, scalars, timeout_s=self._config.round_timeout_s))
            for node_id, site in self._roster.sites
        ]
        return [message for _, message in self._sent]

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord, MetricRecord]:
        """The mean of the valid updates, taken one at a time in the order of `replies`.

        Raises:
            FederationError: if fewer than min-fit-clients updates are valid; `outcome` is left as it was.
        """
        sites = {message.metadata.message_id: site for site, message in self._sent}
        self._sent = []
        tally = _Tally(self.outcome.tensors, self._update_folder, self._num_bytes_down)
        for reply in replies:
            tally.take(sites.pop(reply.metadata.reply_to_message_id), reply)
        for late in sites.values():
            tally.reject(late, f"no reply within {self._config.round_timeout_s:g} s", Rejection.LATE)
        self._require_quorum(server_round, len(tally.clients), tally.rejected)
        self.outcome = tally.outcome()
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
            "FedGAN over %d tensors, at least %d clients",
            len(self.outcome.tensors),
            self._config.min_fit_clients,
        )

    def _require_quorum(self, server_round: int, num_valid: int, rejected: Mapping[int, str]) -> None:
        for partition_id, reason in sorted(rejected.items()):
            where = {"round": server_round, "site": partition_id}
            _log.warning("round %d: client %d is left out: %s", server_round, partition_id, reason, extra=where)
        if num_valid >= self._config.min_fit_clients:
            return
        reasons = "; ".join(f"client {p}: {reason}" for p, reason in sorted(rejected.items()))
        raise FederationError(
            f"round {server_round}: {num_valid} valid updates, min-fit-clients is {self._config.min_fit_clients}"
            + (f" ({reasons})" if reasons else "")
            + "; mend the clients or lower min-fit-clients"
            + (f"; with resume the run goes on after round {server_round - 1}" if server_round > 1 else "")
        )


class _Tally:
    """The round so far: sums of what was accepted, reasons for what was not."""

    def __init__(self, current: NamedArrays, update_folder: Path, num_bytes_down: int) -> None:
        self._current = current
        self._geometry = UpdateGeometry(current, update_folder)
        self._num_bytes_down = num_bytes_down
        self._num_bytes_up: dict[int, int] = {}
        self._mean = StreamingMean(current, identity_rows=IDENTITY_ROWS)
        self._metrics: dict[str, WeightedMean] = {}
        self.clients: dict[int, dict[str, float]] = {}
        self.rejected: dict[int, str] = {}
        self._kinds: dict[int, str] = {}

    def take(self, site: KnownSite, reply: Message) -> None:
        """Add the site's update to the sums, or its reason to the rejected."""
        try:
            update = read_update(reply, self._current)
        except RejectedUpdateError as error:
            self.reject(site, str(error), error.kind)
            return
        self._geometry.add(site.partition_id, update.tensors)
        self._num_bytes_up[site.partition_id] = update.num_bytes
        weight = update.num_examples
        self._mean.add(update.tensors, weight=weight, identity_weights_I=site.identity_weights_I)
        self.clients[site.partition_id] = update.metrics | {"num_examples": weight}
        self._metrics = merge(
            self._metrics, {name: WeightedMean.of(value, weight) for name, value in update.metrics.items()}
        )

    def reject(self, site: KnownSite, reason: str, kind: Rejection) -> None:
        """Leave the site out of the round."""
        self.rejected[site.partition_id] = reason
        self._kinds[site.partition_id] = kind.value

    def outcome(self) -> RoundOutcome:
        """The averages, and how each update lies to them."""
        tensors = self._mean.result()
        measured = {
            client: {
                "update_norm": step.norm,
                "cosine_to_mean": step.cosine_to_mean,
                "bytes_up": self._num_bytes_up[client],
                "bytes_down": self._num_bytes_down,
            }
            for client, step in self._geometry.measure(tensors).items()
        }
        return RoundOutcome(
            tensors=tensors,
            metrics={name: value.value for name, value in self._metrics.items()},
            clients=self.clients,
            rejected=dict(sorted(self.rejected.items())),
            rejected_kinds=dict(sorted(self._kinds.items())),
            measured=measured,
        )


def to_record(tensors: NamedArrays) -> ArrayRecord:
    """The tensors as Flower sends them: by name, in their order."""
    return ArrayRecord({name: Array(array) for name, array in tensors.items()})
