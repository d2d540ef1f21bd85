"""A private local SuperLink: started, used and stopped with all its processes within one `with` block."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from model.errors import FederationError
from server.flower import processes
from server.flower.commands import FlowerCommands

_START_TIMEOUT_S = 60.0
_NUM_OWN_PROCESSES = 1  # the SuperExec, which starts runs
_STOP_TIMEOUT_S = 10.0


class LocalSuperLink:
    """Flower's simulation engine on a free port, with its files in one folder, for this user of this machine alone.

    The SuperLink and Ray listen on loopback. The SuperLink answers its own user (see private_superlink.py), Ray whom
    shows the token that it was started with, and Ray's sockets lie in a folder that nobody else may enter.

    The SuperLink's working folder is that folder: Ray's workers import from it before anything else, so it must not
    hold Python packages.
    """

    def __init__(self, home: Path) -> None:
        """Nothing is started yet.

        Args:
            home: absolute folder for Flower's own files (FLWR_HOME) and logs; created if missing.
        """
        self.log_path = home / "superlink.log"
        self._home = home
        self._port = _free_port()
        self._flower = FlowerCommands(home)
        self._ray_folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._run_id = ""

    def __enter__(self) -> LocalSuperLink:
        """Start it and wait until it answers.

        Raises:
            FederationError: if it does not.
        """
        self._flower.connect(f"127.0.0.1:{self._port}", None)
        command = [sys.executable, "-P", "-m", "server.flower.private_superlink"]
        command += ["--insecure", "--simulation", "--isolation", "subprocess"]
        command += ["--host", "127.0.0.1", "--port", str(self._port), "--disable-runtime-dependency-installation"]
        self._ray_folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # paths of sockets have 107 bytes at most
        environment = self._flower.environment | _private_ray(self._ray_folder)
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=environment, cwd=self._home, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the run, the SuperLink and everything below it, whatever happened; Ctrl-C waits meanwhile."""
        with _without_ctrl_c():
            self._stop()

    def submit(self, run_config: Path, federation_config: Mapping[str, int | float]) -> None:
        """Start the run of this project's app.

        Raises:
            FederationError: with Flower's words if it does not accept the run.
        """
        self._run_id = self._flower.submit(run_config, federation_config)

    def status(self) -> str:
        """Status of the run in Flower's words: pending, starting, running, finished:completed, finished:failed, ..."""
        if self._process is None or self._process.poll() is not None:
            return "finished:lost"
        return self._flower.status(self._run_id)

    def is_busy(self) -> bool:
        """Whether any process of a run lives; never, where processes cannot be seen."""
        return self._process is not None and len(processes.descendants(self._process.pid)) > _NUM_OWN_PROCESSES

    def wait_until_idle(self, timeout_s: float) -> None:
        """Give a run that is done `timeout_s` seconds to shut down by itself."""
        deadline = time.monotonic() + timeout_s
        while self.is_busy() and time.monotonic() < deadline:
            time.sleep(0.2)

    def log(self) -> str:
        """What server and clients logged so far."""
        return self._flower.log(self._run_id) if self._run_id else self.log_path.read_text("utf-8")

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/health", timeout=1):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise FederationError(f"Flower's SuperLink did not start; its log is {self.log_path}")

    def _stop(self) -> None:
        self._stop_process()
        if self._ray_folder is not None:
            shutil.rmtree(self._ray_folder, ignore_errors=True)
            self._ray_folder = None

    def _stop_process(self) -> None:
        if self._process is None:
            return
        below = processes.descendants(self._process.pid)
        self._process.terminate()
        processes.end(below, patience_s=_STOP_TIMEOUT_S)
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def _private_ray(folder: Path) -> dict[str, str]:
    """Environment in which Ray listens on loopback alone and asks whoever connects for a token."""
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on Linux, too, this is what takes Ray to loopback
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_TMPDIR": str(folder),
    }


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Ignore Ctrl-C, which only the main thread can, so that a second one leaves nothing running."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
