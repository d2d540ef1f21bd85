"""A process that hangs says where, and nobody else is disturbed."""

import subprocess
import sys

import psutil
import pytest

from federation.stacks import ask

_HANGS = """
import os, subprocess, sys, time
from federation.stacks import tell_when_asked
def where_it_hangs():
    time.sleep(60)
deaf = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
if os.fork() == 0:
    tell_when_asked()
    print(os.getpid(), deaf.pid, flush=True)
    where_it_hangs()
time.sleep(60)
"""


def test_a_process_and_its_children_say_where_they_are_and_go_on() -> None:
    """The fork has asked to be asked; its parent and another child would be ended by the signal, and are not."""
    with subprocess.Popen(
        [sys.executable, "-c", _HANGS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as hangs:
        assert hangs.stdout is not None and hangs.stderr is not None
        family = [psutil.Process(hangs.pid), *(psutil.Process(int(pid)) for pid in hangs.stdout.readline().split())]
        try:
            assert ask(hangs.pid) == 1
            said = ""
            while "<module>" not in said:
                said += hangs.stderr.readline()
            assert "in where_it_hangs" in said
            assert all(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family)
        finally:
            for process in reversed(family):
                process.kill()


def test_a_process_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ProcessLookupError):
        ask(2**22 + 1)
