"""What the rounds before say about each site: updates it has sent already, and whether it is in quarantine.

Told by rows of history.jsonl, so that a run that goes on after a restart knows as much as one that never stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from federation.settings import DefenceConfig
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

    def __init__(self, rows: Iterable[Mapping[str, Any]], config: DefenceConfig) -> None:
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
            self.note(row)

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

    def note(self, row: Mapping[str, Any]) -> None:
        """One more round: `round`, `clients`, `rejected_kinds` and `fingerprints` as in a row of the history."""
        for client, fingerprint in row.get("fingerprints", {}).items():
            self._fingerprints.setdefault(int(client), set()).add(fingerprint)
        for client in row["clients"]:
            self._num_in_a_row[int(client)] = 0
        for client, kind in row.get("rejected_kinds", {}).items():
            if kind in HOSTILE:
                self._note_hostile(int(client), row["round"])

    def _note_hostile(self, client: int, round_number: int) -> None:
        self._num_in_a_row[client] = self._num_in_a_row.get(client, 0) + 1
        if 0 < self._config.quarantine_after <= self._num_in_a_row[client]:
            self._quarantined_until[client] = round_number + self._config.quarantine_rounds
            self._num_in_a_row[client] = 0
