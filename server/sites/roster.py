"""Which node is which site."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid

from data_partition.shards.names import check_identity
from federation.settings import Settings
from model.checkpoint import unnamed
from model.designs.registry import has_base
from model.errors import ConfigError, FederationError
from server.rounds.messaging import fit_message, reply_now
from server.sites.agreement import SiteStatistics, statistics_forms
from server.sites.sites_file import read_sites
from server.updates.reply import (
    SITES_OWN_ERRORS,
    RejectedUpdateError,
    failure_reason,
    read_fit_reply,
    reading_a_reply,
)

_log = logging.getLogger(__name__)

_POLL_INTERVAL_S = 1.0
_NOTICE_INTERVAL_S = 30.0
_ASK_AGAIN_S = 300.0
"""After which a node that was refused is asked again: its operator may have mended the reason without a restart."""
_NOT_SIMULATED = "says it is a client of a simulation; this federation has sites"


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownSite:
    """A site that has answered the statistics phase."""

    partition_id: int
    statistics: SiteStatistics | None
    """None under secure aggregation: they are in a sum."""
    labels: dict[int, str]
    """Identity index to the name the site gave it; of identities that it has frames of."""
    num_simulated: int
    """Clients that the simulation has; 0 for a deployed site, whose one identity has the index of its partition."""

    @property
    def identity_weights_I(self) -> npt.NDArray[np.int64]:
        """[I] training frames of each identity; of a run without secure aggregation."""
        assert self.statistics is not None
        return self.statistics.counts_I.astype(np.int64)


class Roster:
    """Maps Flower's node ids to the sites behind them.

    With a sites file a node id stands for a registered key, and a site is what the file says of it, whatever it says
    itself; other nodes are not asked. Without one a site is what it says it is, the first comes first, and a node stays
    what it was; but its id may change when it restarts.
    """

    def __init__(self, settings: Settings) -> None:
        """Nobody is known.

        Args:
            settings: of the run.

        Raises:
            ConfigError: if sites-file is set and is not absolute or cannot be read.
        """
        self._sites_file = Path(settings.run.sites_file) if settings.run.sites_file else None
        if self._sites_file and not self._sites_file.is_absolute():
            raise ConfigError(f"setting sites-file: got {str(self._sites_file)!r}, wanted an absolute path")
        self._partition_of = self._registered() if self._sites_file else {}
        """Node id to its partition: as registered, or else as met first."""
        if self._sites_file is None:
            _log.info("sites are not bound to keys (sites-file is empty): each is taken for what it says it is")
        self._settings = settings
        self._num_identities = settings.model.num_identities
        self._size_px = settings.model.image_size_px
        self._by_node: dict[int, KnownSite] = {}
        self.refused: dict[int, str] = {}
        """Node id to why its site cannot take part."""
        self._refused_at: dict[int, float] = {}
        """Node id to when it was refused, or asked again, on the monotonic clock."""
        self._owed: dict[int, Message] = {}
        """Node id to the greeting that it has not answered."""
        self._silent: dict[int, str] = {}
        """Node id to why it is not known though it was greeted: no answer yet, or none of its own."""

    def wait_for_sites(self, grid: Grid, on_wait: Callable[[], None] | None = None) -> None:
        """Greet nodes until num-clients sites are known or every wait is over.

        Args:
            grid: Flower's.
            on_wait: called about once a second.

        Raises:
            FederationError: if fewer than min-fit-clients sites answered within round-timeout-s; it names the others.
        """
        deadline = time.monotonic() + self._settings.waiting.round_timeout_s
        next_notice = time.monotonic() + _NOTICE_INTERVAL_S
        while True:
            self._greet(grid, on_wait)
            if on_wait is not None:
                on_wait()
            self._require_size()
            remaining_s = deadline - time.monotonic()
            if self._is_settled() or remaining_s <= 0:
                break
            if time.monotonic() >= next_notice:
                next_notice += _NOTICE_INTERVAL_S
                _log.info("waiting for sites: %d of %d are here", len(self._by_node), self._settings.rounds.num_clients)
            time.sleep(min(_POLL_INTERVAL_S, remaining_s))
        self._log_silent(self._owed)
        self._require_quorum()

    def refresh(self, grid: Grid, on_wait: Callable[[], None] | None = None) -> None:
        """Ask every connected node not known yet who it is, and forget nodes that left.

        A node that is greeted for the first time is waited for, for round-timeout-s at most. One that did not answer
        then owes its answer: it is neither asked again nor waited for before that is there. A refused node is asked
        again when it was away, after a few minutes, when a site has left, and when the sites file has changed.
        """
        deadline = time.monotonic() + self._settings.waiting.round_timeout_s
        awaited = self._greet(grid, on_wait)
        while awaited & self._owed.keys() and (remaining_s := deadline - time.monotonic()) > 0:
            if on_wait is not None:
                on_wait()
            time.sleep(min(_POLL_INTERVAL_S, remaining_s))
            self._take_answers(grid, on_wait)
        self._log_silent(awaited & self._owed.keys())

    def _greet(self, grid: Grid, on_wait: Callable[[], None] | None) -> set[int]:
        """Take the answers that are there and greet those who are not known and owe none; whom for the first time."""
        connected = set(grid.get_node_ids())
        self._read_sites_file_again()
        has_lost_a_site = not self._by_node.keys() <= connected
        self._by_node = {node: site for node, site in self._by_node.items() if node in connected}
        if has_lost_a_site:  # a refused node may be the same site, which came back before its old node was missed
            self.refused = {}
        self._forget_absent(connected)
        self._take_answers(grid, on_wait)
        strangers = sorted(connected - self._by_node.keys() - self._refused_of_late() - self._owed.keys())
        if self._sites_file is not None:
            for node in strangers:
                if node not in self._partition_of:
                    self._refuse(node, f"its key is none of those in {self._sites_file.name}; register it")
            strangers = [node for node in strangers if node in self._partition_of]
        timeout_s = self._settings.waiting.round_timeout_s
        greetings = {n: fit_message(n, ArrayRecord(), {"phase": "statistics"}, timeout_s=timeout_s) for n in strangers}
        if greetings:
            grid.push_messages(greetings.values())
        first = set(greetings.keys() - self._silent.keys())
        self._owed |= greetings
        self._silent |= dict.fromkeys(first, "has not answered its greeting")
        self._take_answers(grid, on_wait)
        return first

    def _take_answers(self, grid: Grid, on_wait: Callable[[], None] | None) -> None:
        """Of those who owe one, as far as they are there by now."""
        for node, greeting in list(self._owed.items()):
            reply = reply_now(grid, greeting, whole_within_s=self._settings.waiting.round_timeout_s, on_wait=on_wait)
            if reply is not None:
                self._owed.pop(node, None)
                self._meet(node, reply)

    def _log_silent(self, nodes: Iterable[int]) -> None:
        for node in nodes:
            _log.warning("%s %s, and is not waited for any more", self._in_words(node), self._silent[node])

    @property
    def sites(self) -> list[tuple[int, KnownSite]]:
        """(node id, site) of every known site, ascending by partition id."""
        return sorted(self._by_node.items(), key=lambda item: item[1].partition_id)

    def by_partition(self) -> dict[int, KnownSite]:
        """Every known site; a site that left and came back is another object."""
        return {site.partition_id: site for _, site in self.sites}

    def connected(self, grid: Grid) -> list[int]:
        """Partition ids of the sites whose heartbeat Flower has, known or only registered, ascending.

        It is asked far more often than `refresh`, and so notices a refused node that is away for a restart alone.
        """
        alive = set(grid.get_node_ids())
        self._forget_absent(alive)
        found = {site for node, site in self._partition_of.items() if node in alive}
        return sorted(site for site in found if site < self._settings.rounds.num_clients)

    def refusals(self) -> dict[str, str]:
        """Who is connected and not known, by the site that a registered key belongs to if it is one, to the reason."""
        return {self._in_words(node): reason for node, reason in (self._silent | self.refused).items()}

    def _in_words(self, node_id: int) -> str:
        site = self._partition_of.get(node_id)
        return f"node {node_id}" if site is None else f"site {site} (node {node_id})"

    @property
    def is_simulated(self) -> bool:
        """Whether the known sites are clients of a simulation, which share one dataset."""
        return not self._is_deployed()

    def site_frames(self) -> dict[int, int]:
        """Partition to training frames of every known site that may say them."""
        return {s.partition_id: int(s.identity_weights_I.sum()) for _, s in self.sites if s.statistics is not None}

    def labels(self) -> list[str]:
        """[I] name of each identity, `identity-<index>` where no site gave one that no other identity has."""
        names = [unnamed(index) for index in range(self._num_identities)]
        for _, site in self.sites:
            for index, label in site.labels.items():
                if label not in names:
                    names[index] = label
        return names

    def _registered(self) -> dict[int, int]:
        assert self._sites_file is not None
        return {site.node_id: site.partition_id for site in read_sites(self._sites_file)}

    def _read_sites_file_again(self) -> None:
        """A key that is replaced while the run goes on has another node id."""
        if self._sites_file is None:
            return
        try:
            registered = self._registered()
        except ConfigError as error:
            _log.warning("the sites registered before still count: %s", error)
            return
        if registered != self._partition_of:
            _log.info("%s has changed: %d sites are registered", self._sites_file.name, len(registered))
            self._partition_of, self.refused, self._owed, self._silent = registered, {}, {}, {}
            self._by_node = {n: site for n, site in self._by_node.items() if registered.get(n) == site.partition_id}

    def _meet(self, node_id: int, reply: Message) -> None:
        if reply.has_error() and reply.error.code not in SITES_OWN_ERRORS:  # asking again may help
            words = f"did not answer its greeting ({failure_reason(reply.error)})"
            if self._silent.get(node_id) != words:
                _log.warning("%s %s, and is asked again", self._in_words(node_id), words)
            self._silent[node_id] = words
            return
        self._silent.pop(node_id, None)
        try:
            site = self._read(reply)
            self._require_own_place(node_id, site)
        except RejectedUpdateError as error:
            self._refuse(node_id, str(error))
            return
        if not site.num_simulated:
            self._refuse_simulated()
        self._by_node[node_id] = site
        self.refused.pop(node_id, None)
        self._partition_of[node_id] = site.partition_id
        frames = f" with {site.identity_weights_I.sum()} training frames" if site.statistics else ""
        _log.info("site %d is here%s", site.partition_id, frames, extra={"site": site.partition_id})

    def _refuse(self, node_id: int, reason: str) -> None:
        if self.refused.get(node_id) != reason:
            _log.warning("%s cannot take part: %s", self._in_words(node_id), reason)
        self.refused[node_id], self._refused_at[node_id] = reason, time.monotonic()

    def _forget_absent(self, connected: set[int]) -> None:
        """With a registered key a site is the same node after a restart, for which its operator may have mended it."""
        self.refused = {node: reason for node, reason in self.refused.items() if node in connected}
        self._silent = {node: reason for node, reason in self._silent.items() if node in connected}
        self._owed = {node: greeting for node, greeting in self._owed.items() if node in connected}

    def _refused_of_late(self) -> set[int]:
        """Refused nodes that are not to be asked yet; the time of the others begins anew."""
        now = time.monotonic()
        due = {node for node in self.refused if now - self._refused_at[node] >= _ASK_AGAIN_S}
        self._refused_at |= dict.fromkeys(due, now)
        return self.refused.keys() - due

    def _refuse_simulated(self) -> None:
        """A deployed site is here, so nobody is a client of a simulation."""
        for node, site in list(self._by_node.items()):
            if site.num_simulated:
                del self._by_node[node]
                self._refuse(node, _NOT_SIMULATED)

    @reading_a_reply()
    def _read(self, reply: Message) -> KnownSite:
        label_names = [f"label-{index}" for index in range(self._num_identities)]
        names = ("partition-id", "num-simulated", *label_names)
        is_summed = self._settings.privacy.secure_aggregation
        with_base = has_base(self._settings.model)
        forms = [] if is_summed else statistics_forms(self._num_identities, has_base=with_base)
        arrays, _, numbers = read_fit_reply(reply, forms, names)
        num_simulated = int(numbers.get("num-simulated", 0))
        if num_simulated not in (0, self._settings.rounds.num_clients):
            raise RejectedUpdateError(self._wrong_size(num_simulated))
        partition_id = numbers.get("partition-id", -1.0)
        if not 0 <= partition_id < self._settings.rounds.num_clients or not partition_id.is_integer():
            raise RejectedUpdateError(
                f"partition-id is {partition_id:g}, wanted 0 to {self._settings.rounds.num_clients - 1}"
            )
        statistics, owned = None, {int(partition_id)} if not num_simulated else set(range(self._num_identities))
        if not is_summed:
            statistics = SiteStatistics.from_arrays(
                arrays, num_identities=self._num_identities, size_px=self._size_px, has_base=with_base
            )
            owned = set(np.flatnonzero(statistics.counts_I).tolist())
        texts = reply.content.config_records["fitres.metrics"]
        labels = {
            index: text
            for index, name in enumerate(label_names)
            if isinstance(text := texts.get(name), str) and _is_name(text) and index in owned
        }
        return KnownSite(
            partition_id=int(partition_id), statistics=statistics, labels=labels, num_simulated=num_simulated
        )

    def _require_own_place(self, node_id: int, site: KnownSite) -> None:
        """That the site is who it says it is, as far as anybody can know, and speaks for its own identity alone."""
        registered = self._partition_of.get(node_id)
        if registered not in (None, site.partition_id):
            how = "its key is registered for" if self._sites_file else "it was"
            raise RejectedUpdateError(f"says partition-id {site.partition_id}, {how} partition-id {registered}")
        if site.num_simulated and self._is_deployed():
            raise RejectedUpdateError(_NOT_SIMULATED)
        owned = np.flatnonzero(site.statistics.counts_I).tolist() if site.statistics else [site.partition_id]
        if not site.num_simulated and owned != [site.partition_id]:
            raise RejectedUpdateError(f"has frames of the identities {owned}, its own is {site.partition_id}")
        if any(other.partition_id == site.partition_id for other in self._by_node.values()):
            raise RejectedUpdateError(f"partition-id {site.partition_id} is taken by another connected site")

    def _is_settled(self) -> bool:
        """Whether all have answered, and whoever is missing will not come.

        Without keys one site may be any number of nodes, so that those who are refused do not stand for missing ones.
        """
        answered = self.refused.keys() & self._partition_of.keys() if self._sites_file else self.refused
        wanted = self._settings.rounds.num_clients
        if len(self._by_node) + (0 if self._owed else len(answered)) < wanted:
            return False
        has_keys = self._sites_file is not None
        return has_keys or not self._is_deployed() or len(self._by_node) >= self._settings.rounds.min_fit_clients

    def _is_deployed(self) -> bool:
        return self._sites_file is not None or any(not site.num_simulated for site in self._by_node.values())

    def _require_size(self) -> None:
        """Waiting for more clients than a simulation has would be in vain.

        Only if all of it says so: that many nodes, more than one, and nobody else is here.
        """
        num_refused = len(self.refused)
        if not self._by_node and num_refused > 1 and set(self.refused.values()) == {self._wrong_size(num_refused)}:
            raise FederationError(self._wrong_size(num_refused))

    def _wrong_size(self, num_simulated: int) -> str:
        wanted = self._settings.rounds.num_clients
        return (
            f"the simulation has {num_simulated} clients, num-clients is {wanted}; "
            f"start it with --federation-config 'num-supernodes={wanted}'"
        )

    def _require_quorum(self) -> None:
        wanted = self._settings.rounds.min_fit_clients
        if len(self._by_node) >= wanted:
            return
        raise FederationError(
            f"{len(self._by_node)} sites are ready, min-fit-clients is {wanted}"
            + _listed(self.refusals().values())
            + "; start the missing sites or lower min-fit-clients"
        )


def _listed(reasons: Iterable[str]) -> str:
    """The distinct reasons as a clause."""
    distinct = list(dict.fromkeys(reasons))
    return f" ({'; '.join(distinct)})" if distinct else ""


def _is_name(text: str) -> bool:
    try:
        check_identity(text)
    except ValueError:
        return False
    return True
