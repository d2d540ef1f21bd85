"""Where a process hangs: on SIGUSR1 a site's processes write the stack of each of their threads to standard error.

python -m federation.stacks [PID]    asks a process, a container's first if none is named, and all that descend from it
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
from pathlib import Path

import psutil

_ASKED_BY = signal.SIGUSR1


def tell_when_asked() -> None:
    """Have this process, and not those that it forks or starts, write its stacks when it is sent SIGUSR1."""
    faulthandler.register(_ASKED_BY, all_threads=True)


def ask(pid: int) -> int:
    """Ask a process and its descendants, those of them that would answer: others the signal would end.

    Args:
        pid: of this user.

    Returns:
        How many were asked.

    Raises:
        psutil.NoSuchProcess: if there is none.
    """
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
    num_asked = ask(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    sys.stderr.write(f"asked {num_asked} processes; their stacks are in the log\n")
