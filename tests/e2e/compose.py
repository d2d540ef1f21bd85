"""One compose project of the end-to-end tests: commands, waiting, faults."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT


class Compose:
    """`docker compose` with some files, in a project of its own."""

    def __init__(self, project: str, files: list[Path], environment: dict[str, str], prometheus_port: int) -> None:
        self._base = ["docker", "compose", "-p", project, *(part for file in files for part in ("-f", str(file)))]
        self.environment = os.environ | environment | {"PROMETHEUS_PORT": str(prometheus_port)}
        self._port = prometheus_port
        self.project = project

    def __call__(self, *arguments: str, timeout_s: float = 300, check: bool = True) -> str:
        """Standard output and error of a compose command."""
        done = subprocess.run(
            [*self._base, *arguments],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def ask(self, service: str, script: str) -> str:
        """What a shell script that changes nothing prints in a service's container.

        Asked again where Docker does not come back: of some hundred `exec` a run, one printed all and never ended.
        """
        for _ in range(2):
            try:
                return self("exec", "-T", service, "sh", "-c", script, timeout_s=60)
            except subprocess.TimeoutExpired:
                continue
        return self("exec", "-T", service, "sh", "-c", script)

    def state(self, service: str) -> dict[str, Any]:
        """Docker's state of a service's container."""
        return dict(json.loads(docker("inspect", f"{self.project}-{service}-1"))[0]["State"])

    def has_exited(self, service: str) -> bool:
        """Whether a service's container has ended for good, or for the time being."""
        return bool(self.state(service)["Status"] == "exited")

    def kill(self, service: str) -> None:
        """As a crash: SIGKILL of the container's first process, which Docker does not take for a wish to stop."""
        os.kill(int(self.state(service)["Pid"]), 9)

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of every series of a Prometheus query."""
        answer = self.prometheus("query", query=expression)
        assert answer["status"] == "success", answer
        return [(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        alerts = self.prometheus("alerts")["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def prometheus(self, path: str, **parameters: str) -> dict[str, Any]:
        """Answer of Prometheus' HTTP API."""
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return dict(json.load(answer))

    def run_file(self, name: str) -> str:
        """A file of the run folder, empty if it is not there."""
        return self.ask("exporter", f"cat /runs/main/{name} 2>/dev/null || true")

    def history(self) -> list[dict[str, Any]]:
        """Rows of the run's history."""
        return [json.loads(line) for line in self.run_file("history.jsonl").splitlines() if line.startswith("{")]

    def live(self) -> dict[str, Any]:
        """What the run is doing."""
        text = self.run_file("live.json")
        return dict(json.loads(text)) if text.startswith("{") else {"phase": "", "round": 0, "connected": []}


def docker(*arguments: str, check: bool = True) -> str:
    """Standard output of a docker command."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_until(what: str, condition: Callable[[], bool], *, timeout_s: float, poll_s: float = 3.0) -> None:
    """Wait, and say what for if it does not come."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain for {what}"
        time.sleep(poll_s)
