from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from server.flower import processes

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux' /proc")

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


@pytest.mark.parametrize("child", ["import time; time.sleep(60)", STUBBORN], ids=["polite", "stubborn"])
def test_a_process_in_a_session_of_its_own_is_found_and_ended_after_its_parent(child: str) -> None:
    with start(child) as parent:
        found = processes.descendants(parent.pid)
        time.sleep(0.3)  # the stubborn one must have set its handler
        parent.kill()
        parent.wait()
        assert len(found) == 1
        processes.end(found, patience_s=1.0)
    assert all(not Path(f"/proc/{key.pid}").exists() or is_zombie(key.pid) for key in found)


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_ending_a_process_that_is_gone_does_nothing() -> None:
    with start("pass") as parent:
        found = processes.descendants(parent.pid)
        parent.kill()
    processes.end(found, patience_s=1.0)
