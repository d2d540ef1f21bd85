"""`flower-superexec` that lets its server app end a run before it ends itself.

Flower's own ends at once when it is asked to, and in a container everything below it dies with it: the run would end
without a word. Options are those of `flower-superexec`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import FrameType

from model.huge_pages import ask_for_huge_pages
from server.flower import processes

PATIENCE_S = 45.0
"""For an app that is asked to end; docker-compose.yml gives the container a minute."""


def main() -> None:
    """Run Flower's SuperExec; SIGTERM and SIGINT reach its apps first.

    Raises:
        SystemExit: with its exit code.
    """
    os.umask(0o077)  # checkpoints are for this user alone
    ask_for_huge_pages()
    process = subprocess.Popen(["flower-superexec", *sys.argv[1:]], start_new_session=True)

    def end(signum: int, frame: FrameType | None) -> None:
        processes.end(processes.descendants(process.pid), patience_s=PATIENCE_S)
        process.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    sys.exit(process.wait())
