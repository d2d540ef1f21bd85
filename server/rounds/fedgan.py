"""FedGAN (Rasouli et al. 2020; thesis Algorithm 1): rounds at sites in clear, as a Flower strategy for NumPyClients."""

from __future__ import annotations

import functools
import logging
import statistics
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from federation.codec import codec_of
from federation.packing import pack
from federation.reported import reported_scalars
from federation.settings import Settings
from model.designs.registry import IDENTITY_ROWS
from model.metrics import WeightedMean, merge
from model.networks.bundle import NamedArrays
from model.setting import Scalar
from server.rounds.downlink import Downlink
from server.rounds.exchange import Exchange, Link, TooFewUpdatesError, reasons_and_kinds
from server.rounds.loop import RoundOutcome, Tensors
from server.run_folder.history import RoundRow
from server.sites.conduct import Conduct
from server.sites.roster import KnownSite
from server.updates.reply import RejectedUpdateError, Rejection, size_in_bytes
from server.updates.robust import krum, median, trimmed_mean
from server.updates.screening import LOSSES, MIN_COMPARED, compare, weights
from server.updates.server_step import stepped
from server.updates.store import UpdateStore, fingerprint_of
from server.updates.update import read_update
from server.updates.weighted_mean import StreamingMean

_log = logging.getLogger(__name__)


class FedGAN(Strategy):  # type: ignore[misc]
    """All known sites train in each round; all travelling networks are averaged by number of training frames.

    One site's frames count up to `max-weight-ratio`. Rows of the identity embeddings are averaged over the sites that
    own the identity. Every update is checked, and compared with the others, before it is averaged; one that cannot be
    used is left out by name, and a site that goes on sending such is not asked for a while. `aggregation` may put a
    robust rule in the place of the mean. It is a kind of round (`train`), and runs in Flower's own loop too.
    """

    def __init__(
        self,
        tensors: NamedArrays,
        link: Link,
        settings: Settings,
        update_folder: Path,
        *,
        scalars: Mapping[str, Scalar],
        history: Iterable[RoundRow] = (),
    ) -> None:
        """Start from given networks.

        Args:
            tensors: the global travelling tensors; not changed.
            link: to the sites.
            settings: of the run: quorum, rule of aggregation, what is screened and what is reported.
            update_folder: on whose disk the updates of a round lie, without a name, until they are measured.
            scalars: that every message of `train` has: part sizes and run-id.
            history: rows of the rounds before, if the run goes on.
        """
        self._tensors = tensors
        self._link = link
        self._settings = settings
        self._update_folder = update_folder
        self._scalars = scalars
        self._conduct = Conduct(history, settings.defence)
        self._exchange = Exchange(link, 0)
        self._sites: dict[int, KnownSite] = {}
        self._downlink = Downlink(settings, tensors)
        self._num_bytes_down: dict[int, int] = {}

    def train(self, round_number: int, tensors: NamedArrays) -> RoundOutcome:
        """One round: ask all sites to train, check what each sends, aggregate.

        Args:
            round_number: from 1.
            tensors: the global travelling tensors; not changed.

        Raises:
            TooFewUpdatesError: if fewer than min-fit-clients updates are valid.
        """
        self._tensors = tensors
        config = ConfigRecord(dict(self._scalars))
        messages = self.configure_train(round_number, to_record(tensors), config, self._link.grid)
        return self._aggregated(round_number, self._exchange.replies(messages))

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """One message for each known site that is not in quarantine and owes no answer, ascending by partition id."""
        scalars: dict[str, Scalar] = {**config, "phase": "train", "server-round": server_round}
        scalars |= self._downlink.scalars(self._tensors)
        quarantined = self._conduct.quarantined(server_round)
        known = self._link.roster.sites
        reasons = self._link.left_out(quarantined)
        asked = [(node, site) for node, site in known if site.partition_id not in reasons]
        self._sites = {site.partition_id: site for _, site in asked}
        self._exchange = Exchange(self._link, server_round, reasons)
        self._exchange.num_answers = sum(site.partition_id in quarantined for _, site in known)  # none is wanted
        nodes = {site.partition_id: node for node, site in asked}
        records = self._downlink.records(server_round, arrays, nodes)
        self._num_bytes_down = {site: size_in_bytes(record) for site, record in records.items()}
        return self._exchange.messages(nodes, records, scalars)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord, MetricRecord]:
        """The new networks from the valid updates, which are taken one at a time in the order of `replies`.

        Raises:
            TooFewUpdatesError: if fewer than min-fit-clients updates are valid.
        """
        outcome = self._aggregated(server_round, replies)
        self._tensors = outcome.tensors
        return to_record(outcome.tensors), MetricRecord(outcome.metrics)

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
            len(self._tensors),
            self._settings.rounds.min_fit_clients,
        )

    def _aggregated(self, round_number: int, replies: Iterable[Message]) -> RoundOutcome:
        """Check every update by itself, then against the others; aggregate those that are left, if they are enough."""
        with UpdateStore(self._tensors, self._update_folder) as updates:
            tally = _Tally(self._tensors, self._exchange, updates, self._settings, self._conduct)
            for client, reply in self._exchange.answers(replies):
                tally.take(self._sites[client], reply)
            tally.screen()
            self._exchange.log_rejected()
            self._require_quorum(round_number, len(tally.clients))
            settle = functools.partial(self._downlink.settled, round_number, self._tensors, sites=list(tally.clients))
            outcome = tally.outcome(self._num_bytes_down, settle)
        self._conduct.note(round_number, outcome.clients, outcome.rejected_kinds, outcome.fingerprints)
        return outcome

    def _require_quorum(self, round_number: int, num_valid: int) -> None:
        wanted = self._settings.rounds.min_fit_clients
        if num_valid < wanted:
            text = self._exchange.too_few(
                f"{num_valid} valid updates, min-fit-clients is {wanted}", "mend the clients or lower min-fit-clients"
            )
            text += f"; with resume the run goes on after round {round_number - 1}" if round_number > 1 else ""
            raise TooFewUpdatesError(text, self._exchange.num_answers)


class _Tally:
    """The round so far: updates that can be used, reasons for those that cannot.

    Updates are compared by the tensors that all sites share: every site changes the rows of its own identity.
    """

    def __init__(
        self, current: NamedArrays, exchange: Exchange, updates: UpdateStore, settings: Settings, conduct: Conduct
    ) -> None:
        self._current = current
        self._shared = [name for name in current if name not in IDENTITY_ROWS]
        self._exchange = exchange
        self._updates = updates
        self._defence, self._privacy = settings.defence, settings.privacy
        self._settings = settings
        self._reported = reported_scalars(settings)
        self._codec = codec_of(settings.rounds.update_codec, {name: array.shape for name, array in current.items()})
        self._conduct = conduct
        self._num_bytes_up: dict[int, int] = {}
        self._sites: dict[int, KnownSite] = {}
        self._fingerprints: dict[int, str] = {}
        self.clients: dict[int, dict[str, float]] = {}

    @functools.cached_property
    def _current_fingerprint(self) -> str:
        return fingerprint_of(self._current)

    def take(self, site: KnownSite, reply: Message) -> None:
        """Keep the site's update, or its reason among the rejected."""
        client = site.partition_id
        try:
            update = read_update(
                reply, self._current, self._reported, codec=self._codec, has_losses=self._privacy.tells_losses
            )
        except RejectedUpdateError as error:
            self._reject(client, str(error), error.kind)
            return
        fingerprint = fingerprint_of(update.tensors)
        is_replay = self._conduct.has_sent(client, fingerprint) and fingerprint != self._current_fingerprint
        if is_replay:  # the global weights themselves are no old update: a site's steps may be too small to move them
            self._reject(client, "sent the very update of an earlier round", Rejection.REPLAYED)
            return
        if update.num_dropped:
            text = "client %d sent %d values that no site of this run sends; they are dropped"
            _log.warning(text, client, update.num_dropped, extra={"site": client})
        self._updates.add(client, update.tensors)
        self._sites[client] = site
        self._fingerprints[client] = fingerprint
        self._num_bytes_up[client] = update.num_bytes
        self.clients[client] = update.metrics | {"num_examples": update.num_examples}

    def _reject(self, client: int, reason: str, kind: Rejection) -> None:
        """Leave the site out of the round."""
        self._exchange.rejected[client] = reason, kind
        self.clients.pop(client, None)

    def screen(self) -> None:
        """Leave out updates that do not fit the others'."""
        config = self._defence
        if not (config.max_norm_ratio or config.max_loss_deviation or config.min_cosine > -1):
            return
        clients = list(self.clients)
        if len(clients) >= MIN_COMPARED:
            products_nn = self._updates.products(clients, self._shared)
            for finding in compare(clients, products_nn, self.clients, config, self._settings.rounds.local_steps):
                self._reject(finding.client, finding.reason, finding.kind)

    def outcome(self, num_bytes_down: Mapping[int, int], settle: Callable[[Tensors], Tensors]) -> RoundOutcome:
        """The new networks, and how each update lies to the step to them.

        Args:
            num_bytes_down: partition id to the size of the arrays that the site was sent.
            settle: makes of the aggregated tensors those that every party will have.
        """
        weight_of = self._weights()
        tensors = settle(stepped(self._current, self._aggregated(weight_of), self._settings))
        measured = {
            client: {
                "update_norm": step.norm,
                "cosine_to_mean": step.cosine_to_mean,
                "weight": weight_of[client],
                "bytes_up": self._num_bytes_up[client],
                "bytes_down": num_bytes_down[client],
            }
            for client, step in self._updates.measure(tensors, list(self.clients)).items()
        }
        reasons, kinds = reasons_and_kinds(self._exchange.rejected)
        return RoundOutcome(
            tensors=tensors,
            metrics=self._mean_metrics(weight_of) | self._robust_losses(),
            clients=self.clients,
            rejected=reasons,
            rejected_kinds=kinds,
            measured=measured,
            fingerprints={client: self._fingerprints[client] for client in self.clients},
        )

    def _weights(self) -> dict[int, int]:
        """Partition id of an accepted site to its weight in the means."""
        num_frames = {client: int(values["num_examples"]) for client, values in self.clients.items()}
        limit = self._defence.max_weight_ratio
        weight_of = weights(num_frames, limit)
        for client, weight in weight_of.items():
            if weight < num_frames[client]:
                text = "client %d says it has %d training frames; they count as %d, max-weight-ratio is %g"
                _log.info(text, client, num_frames[client], weight, limit, extra={"site": client})
        return weight_of

    def _aggregated(self, weight_of: Mapping[int, int]) -> Tensors:
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

    def _robust(self, rule: str, clients: list[int]) -> Tensors:
        if rule == "krum":
            chosen = clients[krum(self._updates.products(clients, self._shared))]
            return {name: self._updates.tensor(chosen, name) for name in self._shared}
        of_stack = median if rule == "median" else trimmed_mean
        return {name: self._updates.combined(clients, name, of_stack) for name in self._shared}

    def _robust_losses(self) -> dict[str, float]:
        """Under a robust rule the medians of L_G and L_D: by its word alone no site keeps a run from its end."""
        if self._defence.aggregation == "mean":
            return {}
        names = [name for name in LOSSES if any(name in values for values in self.clients.values())]
        return {
            name: statistics.median(values[name] for values in self.clients.values() if name in values)
            for name in names
        }

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
