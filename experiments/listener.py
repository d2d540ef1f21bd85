"""Who watches work that trains and evaluates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Listener(Protocol):
    """Told how far the work is."""

    def progress(self, text: str, done: int, total: int) -> None:
        """`done` of `total` units of the work that `text` names, as `model.progress.Progress`."""

    def start_rounds(self, max_rounds: int) -> None:
        """A training of at most so many rounds begins."""

    def on_round(self, row: Mapping[str, Any]) -> None:
        """One finished round, as history.jsonl has it."""
