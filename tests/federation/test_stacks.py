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
    print(os.getpid(), deaf.pid, flush=True)
    time.sleep(60)
deaf = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
if os.fork() == 0:
    tell_when_asked()
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


_STOPS_GETTING_ON = """
import time
from federation.stacks import Progress
Progress.made()
Progress.expect(4)
for _ in range(3):
    time.sleep(2)
    Progress.made()
print("got on", flush=True)
def where_it_hangs():
    time.sleep(60)
where_it_hangs()
"""


@pytest.mark.integration
def test_a_process_that_gets_on_no_more_says_where_it_is_and_ends() -> None:
    command = [sys.executable, "-c", _STOPS_GETTING_ON]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (ended.returncode, ended.stdout) == (1, "got on\n")
    assert "in where_it_hangs" in ended.stderr


def test_a_process_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ProcessLookupError):
        ask(2**22 + 1)
