"""Tells the site's SuperExec that a message is here, so that it need not ask the SuperNode every second.

Flower's SuperExec asks for tasks, and sleeps in between; at a site that waits for its next round, asking and being
asked is most of what its processes do. Here the SuperNode rings, and the sleep ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import time

VARIABLE = "FEDREENACT_BELL"
"""Of the SuperExec's environment: the file descriptor at which it hears."""
_LOOK_AGAIN_S = 10.0
"""Without a ring: a task is also there again when the process that was started for it has given no sign."""


class Bell:
    """The SuperNode's end of a pipe, and the one that its SuperExec is given."""

    def __init__(self) -> None:
        """Open the pipe."""
        self.heard, self._rung = os.pipe()
        os.set_blocking(self._rung, False)

    def ring(self) -> None:
        """End the sleep of who hears; never waits, and rings once where nobody has heard the last times."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._rung, b"!")


class SleepUntilRung:
    """In place of `time` where Flower's SuperExec sleeps."""

    def __init__(self, heard: int) -> None:
        """Hear at a file descriptor; no process that this one starts does."""
        self._heard = heard
        os.set_inheritable(heard, False)

    def sleep(self, pause_s: float) -> None:
        """Wait until it rings; for that long at most where nobody can ring any more."""
        if select.select([self._heard], [], [], _LOOK_AGAIN_S)[0] and not os.read(self._heard, 65536):
            time.sleep(pause_s)
