"""A private local SuperLink: started, used and stopped with all its processes within one `with` block."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from model.errors import FederationError
from server import processes

_START_TIMEOUT_S = 60.0
_NUM_OWN_PROCESSES = 1  # the SuperExec, which starts runs
_COMMAND_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 10.0
_ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


class LocalSuperLink:
    """Flower's simulation engine on a free port, with its files in one folder.

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
        commands = Path(sys.executable).parent
        self._environment = os.environ | _ENVIRONMENT
        self._environment |= {"FLWR_HOME": str(home), "PATH": f"{commands}{os.pathsep}{os.environ.get('PATH', '')}"}
        self._process: subprocess.Popen[bytes] | None = None
        self._run_id = ""

    def __enter__(self) -> LocalSuperLink:
        """Start it and wait until it answers.

        Raises:
            FederationError: if it does not.
        """
        self._home.mkdir(parents=True, exist_ok=True)
        connection = f'[superlink]\ndefault = "local"\n[superlink.local]\naddress = "127.0.0.1:{self._port}"\n'
        (self._home / "config.toml").write_text(connection + "insecure = true\n", encoding="utf-8")
        command = [self._find("flower-superlink"), "--insecure", "--simulation", "--isolation", "subprocess"]
        command += ["--host", "127.0.0.1", "--port", str(self._port), "--disable-runtime-dependency-installation"]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=self._environment, cwd=self._home, stdout=log, stderr=log, start_new_session=True
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
        """Stop the run, the SuperLink and everything below it, whatever happened."""
        self._stop()

    def submit(self, app: Path, run_config: Path, federation_config: dict[str, int | float]) -> None:
        """Start the run of an app.

        Raises:
            FederationError: with Flower's words if it does not accept the run.
        """
        options = " ".join(f"{key}={value}" for key, value in federation_config.items())
        command = ["run", str(app), "local", "--run-config", str(run_config), "--federation-config", options]
        answer = self._flwr(*command, "--format", "json")
        try:
            self._run_id = str(json.loads(answer)["run-id"])
        except (ValueError, KeyError, TypeError) as error:
            reason = " ".join(answer.split())
            raise FederationError(f"Flower did not start the run of {app} with {run_config}: {reason}") from error

    def status(self) -> str:
        """Status of the run in Flower's words: pending, starting, running, finished:completed, finished:failed, ..."""
        if self._process is None or self._process.poll() is not None:
            return "finished:lost"
        answer = self._flwr("ls", "local", "--run-id", self._run_id, "--format", "json")
        try:
            runs: list[dict[str, Any]] = json.loads(answer)["runs"]
            return str(runs[0]["status"])
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise FederationError(f"Flower does not tell the run's status: {answer.strip()}") from error

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
        return self._flwr("log", self._run_id, "local", "--show") if self._run_id else self.log_path.read_text("utf-8")

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

    def _flwr(self, *arguments: str) -> str:
        """Output of a `flwr` command, its errors included."""
        command = [self._find("flwr"), *arguments]
        try:
            done = subprocess.run(
                command,
                env=self._environment,
                cwd=self._home,
                capture_output=True,
                text=True,
                timeout=_COMMAND_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            return f"flwr {arguments[0]} gave no answer within {_COMMAND_TIMEOUT_S:g} s"
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def _find(self, name: str) -> str:
        path = shutil.which(name, path=self._environment["PATH"])
        if path is None:
            raise FederationError(f"command {name} is not installed; install flwr[simulation]")
        return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
