"""What the rounds before say about each site: updates it has sent already, and whether it is in quarantine.

Told by rows of history.jsonl, so that a run that goes on after a restart knows as much as one that never stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from federation.settings import DefenceConfig
from server.run_folder.history import RoundRow
from server.updates.reply import Rejection

HOSTILE = frozenset(
    {
        Rejection.UNREADABLE,
        Rejection.MISMATCH,
        Rejection.NOT_FINITE,
        Rejection.REPLAYED,
        Rejection.TOO_LONG,
        Rejection.OUTLYING_LOSS,
        Rejection.OPPOSED,
    }
)
"""Kinds of rejections that count towards quarantine: an update was sent and was wrong. A site that fails, is late or
lost is not suspicious."""


class Conduct:
    """Of all sites of a run until now."""

    def __init__(self, rows: Iterable[RoundRow], config: DefenceConfig) -> None:
        """Read the past.

        Args:
            rows: of the history, the oldest first.
            config: `quarantine-after` and `quarantine-rounds`.
        """
        self._config = config
        self._fingerprints: dict[int, set[str]] = {}
        self._num_in_a_row: dict[int, int] = {}
        self._quarantined_until: dict[int, int] = {}
        for row in rows:
            self.note(row.round, row.clients, row.rejected_kinds, row.fingerprints)

    def has_sent(self, client: int, fingerprint: str) -> bool:
        """Whether the client's update of an earlier round was the same."""
        return fingerprint in self._fingerprints.get(client, ())

    def quarantined(self, round_number: int) -> dict[int, str]:
        """Partition ids that are not asked in this round, to the reason."""
        return {
            client: f"in quarantine until the end of round {until}, after {self._config.quarantine_after} updates in a "
            "row that could not be used"
            for client, until in sorted(self._quarantined_until.items())
            if round_number <= until
        }

    def note(
        self,
        round_number: int,
        accepted: Iterable[int],
        rejected_kinds: Mapping[int, str],
        fingerprints: Mapping[int, str],
    ) -> None:
        """One more round.

        Args:
            round_number: from 1.
            accepted: partition ids whose updates were used.
            rejected_kinds: partition id of the others to the kind of the reason.
            fingerprints: partition id of the accepted to their updates' fingerprints; none under a secure sum.
        """
        for client, fingerprint in fingerprints.items():
            self._fingerprints.setdefault(client, set()).add(fingerprint)
        for client in accepted:
            self._num_in_a_row[client] = 0
        for client, kind in rejected_kinds.items():
            if kind in HOSTILE:
                self._note_hostile(client, round_number)

    def _note_hostile(self, client: int, round_number: int) -> None:
        self._num_in_a_row[client] = self._num_in_a_row.get(client, 0) + 1
        if 0 < self._config.quarantine_after <= self._num_in_a_row[client]:
            self._quarantined_until[client] = round_number + self._config.quarantine_rounds
            self._num_in_a_row[client] = 0
