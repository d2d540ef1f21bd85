"""Too few valid updates: wait for sites to come back and repeat the round, and end the run when that is in vain."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from federation.settings import RoundsConfig
from model.errors import FederationError
from server.rounds.exchange import TooFewUpdatesError
from server.sites.roster import Roster

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
        on_trouble: Callable[[str], None],
        *,
        timeout_s: float,
    ) -> None:
        """Nothing is waited for yet.

        Args:
            rounds: how many sites there are, and how many make a round.
            roster: the sites.
            refresh: brings the roster up to date; called before every attempt.
            on_wait: called about once a second.
            on_trouble: called with the reason when a wait begins, and when its reason becomes another.
            timeout_s: `quorum-timeout-s`.
        """
        self._rounds, self._timeout_s = rounds, timeout_s
        self._roster = roster
        self._refresh = refresh
        self._on_wait = on_wait
        self._on_trouble = on_trouble
        self._round_number = 0
        self._deadline, self._reason = math.inf, ""

    def wait_for_sites(self, round_number: int) -> None:
        """Until enough sites are connected for the round.

        Args:
            round_number: a round's time begins to run when it first fails, and begins anew with the next number.

        Raises:
            FederationError: if they are not within quorum-timeout-s of the round's first failure; it names the absent.
        """
        if round_number != self._round_number:
            self._round_number, self._deadline, self._reason = round_number, math.inf, ""
        self._refresh()
        while len(self._roster.sites) < self._rounds.min_fit_clients:
            self._excuse(FederationError(self._too_few_sites()), _POLL_INTERVAL_S)
            self._refresh()

    def wait_to_repeat(self, error: FederationError) -> None:
        """For a while, after the round was trained in vain.

        Raises:
            FederationError: saying why, quorum-timeout-s after the round's first failure; sooner if all sites answer by
                themselves and the round fails twice for the same reasons, since it would a third time.
        """
        self._excuse(error, _REPEAT_INTERVAL_S)

    def _excuse(self, error: FederationError, pause_s: float) -> None:
        self._deadline = min(self._deadline, time.monotonic() + self._timeout_s)
        num_answers = error.num_answers if isinstance(error, TooFewUpdatesError) else 0
        is_in_vain = num_answers >= self._rounds.num_clients and str(error) == self._reason
        if is_in_vain or time.monotonic() >= self._deadline:
            raise FederationError(f"{error}{self._absent()}") from error
        if str(error) != self._reason:
            self._reason = str(error)
            self._on_trouble(f"{self._reason}{self._absent()}")
            _log.warning("%s; waiting for sites, then the round is repeated", self._reason)
        self._pause(min(time.monotonic() + pause_s, self._deadline))

    def _too_few_sites(self) -> str:
        return (
            f"round {self._round_number}: {len(self._roster.sites)} sites are connected, min-fit-clients is "
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
