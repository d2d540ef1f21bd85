"""Processes below one that this program started, as Linux shows them under /proc; elsewhere none are seen."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

_POLL_INTERVAL_S = 0.1


class ProcessKey(NamedTuple):
    """Identifies a process even after its pid is used again."""

    pid: int
    start_ticks: int


def descendants(pid: int) -> set[ProcessKey]:
    """Every living process below `pid`, itself left out."""
    parents = {key: parent for key, parent in map(_read, Path("/proc").glob("[0-9]*")) if parent >= 0}
    found: set[ProcessKey] = set()
    above = {pid}
    while above:
        below = {key for key, parent in parents.items() if parent in above} - found
        found |= below
        above = {key.pid for key in below}
    return found


def end(processes: set[ProcessKey], *, patience_s: float) -> None:
    """Ask the processes and all below them to end, wait `patience_s` seconds, then force what is left."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        processes = processes.union(*(descendants(key.pid) for key in processes if _is_alive(key)))
        for key in processes:
            if _is_alive(key):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(key.pid, sign)
        if _wait(processes, patience_s):
            return


def _wait(processes: set[ProcessKey], timeout_s: float) -> bool:
    """Whether all have ended before the timeout."""
    deadline = time.monotonic() + timeout_s
    while any(_is_alive(key) for key in processes):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_INTERVAL_S)
    return True


def _is_alive(key: ProcessKey) -> bool:
    return _read(Path(f"/proc/{key.pid}"))[0] == key


def _read(path: Path) -> tuple[ProcessKey, int]:
    """The process in a folder of /proc and its parent's pid, which is -1 if there is no such process any more."""
    pid = int(path.name)
    try:
        fields = (path / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ProcessKey(pid, -1), -1
    state, parent, start_ticks = fields[0], int(fields[1]), int(fields[19])
    return (ProcessKey(pid, start_ticks), parent) if state != "Z" else (ProcessKey(pid, -1), -1)
