"""Processes below one that this program started."""

from __future__ import annotations

import contextlib
import time

import psutil

_POLL_INTERVAL_S = 0.1


def descendants(pid: int) -> set[psutil.Process]:
    """Every living process below `pid`, itself left out; each stays itself when its pid is used again."""
    try:
        return {process for process in psutil.Process(pid).children(recursive=True) if is_alive(process)}
    except psutil.NoSuchProcess:
        return set()


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still runs: one that ended, and that its parent has not asked about, does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def end(processes: set[psutil.Process], *, patience_s: float) -> None:
    """Ask the processes and all below them to end, wait `patience_s` seconds, then force what is left."""
    for send in (psutil.Process.terminate, psutil.Process.kill):
        processes = processes.union(*(descendants(process.pid) for process in processes if is_alive(process)))
        for process in filter(is_alive, processes):
            with contextlib.suppress(psutil.NoSuchProcess):
                send(process)
        if _wait(processes, patience_s):
            return


def _wait(processes: set[psutil.Process], timeout_s: float) -> bool:
    """Whether all have ended before the timeout; psutil's own wait would count the ended ones that are not reaped."""
    deadline = time.monotonic() + timeout_s
    while any(map(is_alive, processes)):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_INTERVAL_S)
    return True
