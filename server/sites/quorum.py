"""Too few valid updates: wait for sites to come back and repeat the round, and end the run when that is in vain."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator

from flwr.app import Message

from federation.settings import RoundsConfig
from model.errors import FederationError
from server.rounds.recording import RoundOutcome
from server.sites.roster import Roster
from server.updates.reply import SITES_OWN_ERRORS

_log = logging.getLogger(__name__)

_REPEAT_INTERVAL_S = 15.0
_POLL_INTERVAL_S = 1.0


class Quorum:
    """Repeats a round, from the same model, until enough sites send valid updates.

    A site that trained in vain trains again from the moments it had before, so a repeated round gives the same bits.
    """

    def __init__(
        self,
        rounds: RoundsConfig,
        roster: Roster,
        refresh: Callable[[], None],
        on_wait: Callable[[], None],
        *,
        timeout_s: float,
    ) -> None:
        """Nothing is waited for yet.

        Args:
            rounds: how many sites there are, and how many make a round.
            roster: the sites.
            refresh: brings the roster up to date; called before every attempt.
            on_wait: called about once a second.
            timeout_s: `quorum-timeout-s`.
        """
        self._rounds, self._timeout_s = rounds, timeout_s
        self._roster = roster
        self._refresh = refresh
        self._on_wait = on_wait
        self._num_answers = 0

    def train(self, round_number: int, attempt: Callable[[], RoundOutcome]) -> RoundOutcome:
        """The outcome of the first attempt that has enough valid updates.

        Args:
            round_number: for messages.
            attempt: trains the round once; raises FederationError if too few updates are valid.

        Raises:
            FederationError: saying why, quorum-timeout-s after the first failed attempt; sooner if all sites answer by
                themselves and two attempts fail for the same reasons, since a third one would.
        """
        deadline, reason = math.inf, ""
        while True:
            self._refresh()
            has_sites = len(self._roster.sites) >= self._rounds.min_fit_clients
            self._num_answers = 0
            try:
                if not has_sites:
                    raise FederationError(self._too_few_sites(round_number))
                return attempt()
            except FederationError as error:
                deadline = min(deadline, time.monotonic() + self._timeout_s)
                is_in_vain = self._num_answers >= self._rounds.num_clients and str(error) == reason
                if is_in_vain or time.monotonic() >= deadline:
                    raise FederationError(f"{error}{self._absent()}") from error
                if str(error) != reason:
                    reason = str(error)
                    _log.warning("%s; waiting for sites, then the round is repeated", reason)
            self._pause(min(time.monotonic() + (_REPEAT_INTERVAL_S if has_sites else _POLL_INTERVAL_S), deadline))

    def counted(self, replies: Iterable[Message], num_unasked: int = 0) -> Iterator[Message]:
        """The same replies; those that sites gave by themselves, good or bad, are counted.

        Args:
            replies: of one attempt.
            num_unasked: connected sites of which no reply is wanted; they count as if they had answered.
        """
        self._num_answers += num_unasked
        for reply in replies:
            self._num_answers += not reply.has_error() or reply.error.code in SITES_OWN_ERRORS
            yield reply

    def _too_few_sites(self, round_number: int) -> str:
        return (
            f"round {round_number}: {len(self._roster.sites)} sites are connected, min-fit-clients is "
            f"{self._rounds.min_fit_clients}; start the missing sites or lower min-fit-clients"
        )

    def _absent(self) -> str:
        """The sites that are not connected, as a clause."""
        connected = {site.partition_id for _, site in self._roster.sites}
        absent = [str(site) for site in range(self._rounds.num_clients) if site not in connected]
        return f"; not connected: {', '.join(absent)}" if absent else ""

    def _pause(self, until: float) -> None:
        while (remaining_s := until - time.monotonic()) > 0:
            self._on_wait()
            time.sleep(min(_POLL_INTERVAL_S, remaining_s))
