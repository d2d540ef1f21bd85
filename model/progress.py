"""How work that takes long says how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many units of it are done, and how many there are (0 if unknown)."""


def no_progress(_text: str, _done: int, _total: int) -> None:
    """For work that nobody watches."""
