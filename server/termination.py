"""Being asked to end by a signal: noticed at once, obeyed where nothing is half done."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from model.errors import FedreenactError

EXIT_CODE = 128 + signal.SIGTERM
"""Of a command that SIGTERM ended: 143, as a shell reports a process that the signal itself ended."""


class TerminatedError(FedreenactError):
    """A signal ended the run; the last checkpoint is whole, and resume goes on after it."""


class Termination:
    """Whether a signal has come."""

    def __init__(self) -> None:
        self._signal_name = ""

    def notice(self, signum: int, frame: FrameType | None) -> None:
        """Handle the signal: remember it."""
        self._signal_name = signal.Signals(signum).name

    def check(self) -> None:
        """Obey the signal, if one has come.

        Raises:
            TerminatedError: naming the signal.
        """
        if self._signal_name:
            raise TerminatedError(f"stopped by {self._signal_name}")


@contextlib.contextmanager
def noticing(*signals: signal.Signals) -> Iterator[Termination]:
    """Notice these signals instead of dying of them.

    Only a process's main thread can: elsewhere, as in Flower's simulation engine, nothing changes, and whoever started
    the process ends it.

    Args:
        signals: whose handlers are replaced within the `with` block.
    """
    termination = Termination()
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, termination.notice) for number in signals} if is_main else {}
    try:
        yield termination
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
