"""Who watches work that trains and evaluates."""

from __future__ import annotations

from typing import Protocol

from server.run_folder.history import RoundRow


class Listener(Protocol):
    """Told how far the work is."""

    def progress(self, text: str, done: int, total: int) -> None:
        """`done` of `total` units of the work that `text` names, as `model.progress.Progress`."""

    def start_rounds(self, max_rounds: int) -> None:
        """A training of at most so many rounds begins."""

    def on_round(self, row: RoundRow) -> None:
        """One finished round."""
