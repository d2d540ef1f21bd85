"""Where a process hangs: on SIGUSR1 a site's processes write the stack of each of their threads to standard error.

One that answers a message does so by itself, and ends, when it has made no step for long.

python -m federation.stacks PID    asks a process and all that descend from it; 1 is a container's first
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
from pathlib import Path

_ASKED_BY = signal.SIGUSR1


def tell_when_asked() -> None:
    """Have this process, and not those that it forks or starts, write its stacks when it is sent SIGUSR1."""
    faulthandler.register(_ASKED_BY, all_threads=True)


class Progress:
    """Ends a process that does not get on, once it has written its stacks; of the class: a process does one thing."""

    _within_s = 0.0

    @classmethod
    def expect(cls, within_s: float) -> None:
        """From now on this process ends, with exit status 1, if `made` is not called for so many seconds.

        Its interpreter need not run for that: a thread in C waits.
        """
        cls._within_s = within_s
        cls.made()

    @classmethod
    def made(cls) -> None:
        """This process gets on; without effect where nobody expects it to."""
        if cls._within_s:
            faulthandler.dump_traceback_later(cls._within_s, exit=True)


def ask(pid: int) -> int:
    """Ask a process and its descendants, those of them that would answer: others the signal would end.

    Args:
        pid: of this user.

    Returns:
        How many were asked.

    Raises:
        ProcessLookupError: if there is none.
    """
    import psutil  # not in the process of every message, which has no use for it

    if not psutil.pid_exists(pid):
        raise ProcessLookupError(f"no process {pid}")
    first = psutil.Process(pid)
    num_asked = 0
    for process in (first, *first.children(recursive=True)):
        with contextlib.suppress(OSError):  # it may have ended since
            if _would_answer(process.pid):
                os.kill(process.pid, _ASKED_BY)
                num_asked += 1
    return num_asked


def _would_answer(pid: int) -> bool:
    """Whether the process catches the signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.split("SigCgt:")[1].split()[0], 16)
    return bool(caught >> (_ASKED_BY - 1) & 1)


if __name__ == "__main__":
    try:
        num_asked = ask(int(sys.argv[1]))
    except (IndexError, ValueError, ProcessLookupError):
        raise SystemExit("error: wanted the id of a process, in a container 1: python -m federation.stacks 1") from None
    sys.stderr.write(f"asked {num_asked} processes; their stacks are in the log\n")
