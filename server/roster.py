"""Which node is which site."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid

from model.config import Settings
from model.errors import FederationError
from server.agreement import SiteStatistics
from server.messaging import exchange, fit_message
from server.updates import SITES_OWN_ERRORS, RejectedUpdateError, failure_reason, read_fit_reply

_log = logging.getLogger(__name__)

_LABEL = re.compile(r"[\w.\- ]{1,64}")
_POLL_INTERVAL_S = 1.0
_NOTICE_INTERVAL_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownSite:
    """A site that has answered the statistics phase."""

    partition_id: int
    statistics: SiteStatistics | None
    """None under secure aggregation: they are in a sum."""
    labels: dict[int, str]
    """Identity index to the name the site gave it."""

    @property
    def identity_weights_I(self) -> npt.NDArray[np.int64]:
        """[I] training frames of each identity; of a run without secure aggregation."""
        assert self.statistics is not None
        return self.statistics.counts_I.astype(np.int64)


class Roster:
    """Maps Flower's node ids, which may change when a site restarts, to the sites behind them."""

    def __init__(self, settings: Settings) -> None:
        self._federation = settings.federation
        self._num_identities = settings.model.num_identities
        self._size_px = settings.model.image_size_px
        self._by_node: dict[int, KnownSite] = {}
        self.refused: dict[int, str] = {}
        """Node id to why its site cannot take part."""

    def wait_for_sites(self, grid: Grid, on_wait: Callable[[], None] | None = None) -> None:
        """Greet nodes until num-clients sites are known or every wait is over.

        Args:
            grid: Flower's.
            on_wait: called about once a second.

        Raises:
            FederationError: if fewer than min-fit-clients sites answered within round-timeout-s; it names the others.
        """
        deadline = time.monotonic() + self._federation.round_timeout_s
        next_notice = time.monotonic() + _NOTICE_INTERVAL_S
        while True:
            self.refresh(grid, on_wait)
            if on_wait is not None:
                on_wait()
            num_settled = len(self._by_node) + len(self.refused)
            if num_settled >= self._federation.num_clients or time.monotonic() >= deadline:
                break
            if time.monotonic() >= next_notice:
                next_notice += _NOTICE_INTERVAL_S
                _log.info("waiting for sites: %d of %d are here", num_settled, self._federation.num_clients)
            time.sleep(_POLL_INTERVAL_S)
        self._require_quorum()

    def refresh(self, grid: Grid, on_wait: Callable[[], None] | None = None) -> None:
        """Ask every connected node not known yet who it is, and forget nodes that left.

        Refused nodes are asked again when a site has left.
        """
        connected = set(grid.get_node_ids())
        has_lost_a_site = not self._by_node.keys() <= connected
        self._by_node = {node: site for node, site in self._by_node.items() if node in connected}
        if has_lost_a_site:  # a refused node may be the same site, which came back before its old node was missed
            self.refused = {}
        self.refused = {node: reason for node, reason in self.refused.items() if node in connected}
        strangers = sorted(connected - self._by_node.keys() - self.refused.keys())
        timeout_s = self._federation.round_timeout_s
        messages = [fit_message(n, ArrayRecord(), {"phase": "statistics"}, timeout_s=timeout_s) for n in strangers]
        replies = exchange(grid, messages, timeout_s=timeout_s, on_wait=on_wait)
        node_of = {message.metadata.message_id: message.metadata.dst_node_id for message in messages}
        for reply in replies:
            self._meet(node_of[reply.metadata.reply_to_message_id], reply)

    @property
    def sites(self) -> list[tuple[int, KnownSite]]:
        """(node id, site) of every known site, ascending by partition id."""
        return sorted(self._by_node.items(), key=lambda item: item[1].partition_id)

    def connected(self, grid: Grid) -> list[int]:
        """Partition ids of the known sites whose heartbeat Flower has, ascending."""
        alive = set(grid.get_node_ids())
        return [site.partition_id for node, site in self.sites if node in alive]

    def labels(self) -> list[str]:
        """[I] name of each identity, `identity-<index>` where no site gave one."""
        names = [f"identity-{index}" for index in range(self._num_identities)]
        for _, site in self.sites:
            for index, label in site.labels.items():
                names[index] = label
        return names

    def _meet(self, node_id: int, reply: Message) -> None:
        if reply.has_error() and reply.error.code not in SITES_OWN_ERRORS:  # asking again may help
            _log.warning("node %d is asked again: %s", node_id, failure_reason(reply.error))
            return
        try:
            site = self._read(reply)
            rival = next((n for n, s in self._by_node.items() if s.partition_id == site.partition_id), None)
            if rival is not None:
                raise RejectedUpdateError(f"partition-id {site.partition_id} is taken by another connected site")
        except RejectedUpdateError as error:
            self.refused[node_id] = str(error)
            _log.warning("node %d cannot take part: %s", node_id, error)
            return
        self._by_node[node_id] = site
        frames = f" with {site.identity_weights_I.sum()} training frames" if site.statistics else ""
        _log.info("site %d is here%s", site.partition_id, frames, extra={"site": site.partition_id})

    def _read(self, reply: Message) -> KnownSite:
        arrays, _, metrics = read_fit_reply(reply)
        self._require_same_size(int(metrics.get("num-simulated", 0)))
        partition_id = metrics.get("partition-id", -1.0)
        if not 0 <= partition_id < self._federation.num_clients:
            raise RejectedUpdateError(
                f"partition-id is {partition_id:g}, wanted 0 to {self._federation.num_clients - 1}"
            )
        statistics = None
        if not self._federation.secure_aggregation:
            statistics = SiteStatistics.from_arrays(arrays, num_identities=self._num_identities, size_px=self._size_px)
        texts = reply.content.config_records["fitres.metrics"]
        labels = {
            index: str(texts[f"label-{index}"])
            for index in range(self._num_identities)
            if _LABEL.fullmatch(str(texts.get(f"label-{index}", "")))
        }
        return KnownSite(partition_id=int(partition_id), statistics=statistics, labels=labels)

    def _require_same_size(self, num_simulated: int) -> None:
        """Waiting for more clients than a simulation has would be in vain."""
        wanted = self._federation.num_clients
        if num_simulated not in (0, wanted):
            raise FederationError(
                f"the simulation has {num_simulated} clients, num-clients is {wanted}; "
                f"start it with --federation-config 'num-supernodes={wanted}'"
            )

    def _require_quorum(self) -> None:
        wanted = self._federation.min_fit_clients
        if len(self._by_node) >= wanted:
            return
        raise FederationError(
            f"{len(self._by_node)} sites are ready, min-fit-clients is {wanted}"
            + _listed(self.refused.values())
            + "; start the missing sites or lower min-fit-clients"
        )


def _listed(reasons: Iterable[str]) -> str:
    """The distinct reasons as a clause."""
    distinct = list(dict.fromkeys(reasons))
    return f" ({'; '.join(distinct)})" if distinct else ""
