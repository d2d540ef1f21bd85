from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from server.flower import processes

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "{child}"], start_new_session=True)
print("ready", flush=True)
time.sleep(60)
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


def start(child: str) -> subprocess.Popen[str]:
    parent = subprocess.Popen([sys.executable, "-c", PARENT.format(child=child)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    return parent


@pytest.mark.integration
@pytest.mark.parametrize("child", ["import time; time.sleep(60)", STUBBORN], ids=["polite", "stubborn"])
def test_a_process_in_a_session_of_its_own_is_found_and_ended_after_its_parent(child: str) -> None:
    with start(child) as parent:
        found = processes.descendants(parent.pid)
        time.sleep(0.3)  # the stubborn one must have set its handler
        parent.kill()
        parent.wait()
        assert len(found) == 1
        processes.end(found, patience_s=1.0)
    assert not any(map(has_not_ended, found))


def has_not_ended(process: psutil.Process) -> bool:
    """By what the system says now, not by what was known of the process before."""
    return psutil.pid_exists(process.pid) and psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE


def test_ending_a_process_that_is_gone_does_nothing() -> None:
    with start("pass") as parent:
        found = processes.descendants(parent.pid)
        parent.kill()
    processes.end(found, patience_s=1.0)


def test_a_process_that_ended_and_is_not_asked_about_is_not_alive() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        (found,) = [below for below in processes.descendants(os.getpid()) if below.pid == child.pid]
        assert processes.is_alive(found)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not processes.is_alive(found) and found not in processes.descendants(os.getpid())


def test_nothing_is_below_a_process_that_is_gone() -> None:
    with start("pass") as parent:
        parent.kill()
    assert processes.descendants(parent.pid) == set()
