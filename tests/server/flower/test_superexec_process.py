"""On processes in place of Flower's: what a stopped container leaves of a server app."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux' /proc")

SUPEREXEC = """#!{python}
import pathlib, subprocess, sys
subprocess.Popen([sys.executable, "-c", pathlib.Path(sys.argv[1]).read_text()])
import time
time.sleep(60)
"""
APP = """
import pathlib, signal, sys, time
def end(signum, frame):
    time.sleep(0.5)
    pathlib.Path("{result}").write_text("stopped")
    sys.exit(1)
signal.signal(signal.SIGTERM, end)
pathlib.Path("{ready}").touch()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_app_ends_its_run_before_everything_ends(tmp_path: Path, number: signal.Signals) -> None:
    superexec, app, ready, result = (tmp_path / name for name in ("flower-superexec", "app.py", "ready", "result"))
    superexec.write_text(SUPEREXEC.format(python=sys.executable))
    superexec.chmod(0o755)
    app.write_text(APP.format(result=result, ready=ready))
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = "from server.flower.superexec_process import main; main()"
    process = subprocess.Popen([sys.executable, "-c", script, str(app)], env=environment)
    deadline = time.monotonic() + 30
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    code = process.wait(30)
    assert result.read_text() == "stopped"
    assert code not in (0, None)


def test_the_exit_code_is_flowers(tmp_path: Path) -> None:
    superexec = tmp_path / "flower-superexec"
    superexec.write_text("#!/bin/sh\nexit 7\n")
    superexec.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = "from server.flower.superexec_process import main; main()"
    assert subprocess.run([sys.executable, "-c", script], env=environment).returncode == 7
