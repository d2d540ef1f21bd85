"""Flower's own commands against one SuperLink: submit a run, ask for its status and log."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import httpx
from flwr.common.constant import Status
from flwr.common.serde import user_config_from_proto
from flwr.proto.control_pb2 import ListNodesRequest, ListRunsRequest, UnregisterNodeRequest
from flwr.proto.run_pb2 import Run
from flwr.supercore.constant import NodeStatus
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from deploy.files import write_app
from model.errors import FederationError
from model.files import json_of
from model.setting import Scalar

T = TypeVar("T")

_COMMAND_TIMEOUT_S = 120.0
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Environment in which Flower and Ray call nobody and install nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnfinishedRun:
    """A run that Flower knows, and that has not ended."""

    run_id: str
    submitted: float
    """When, in seconds since 1970 by the SuperLink's clock."""
    settings: Mapping[str, Scalar]
    """As it was submitted with: all of them by us, whatever keys another app's run has."""

    @classmethod
    def of(cls, run: Run) -> UnfinishedRun:
        """Of what the SuperLink says about it."""
        return cls(
            run_id=str(run.run_id),
            submitted=datetime.fromisoformat(run.pending_at).timestamp(),
            settings=user_config_from_proto(run.override_config),
        )

    @property
    def output_dir(self) -> str:
        """The run folder; empty if it was submitted without one, as a run of another app is."""
        return str(self.settings.get("output-dir", ""))


class FlowerCommands:
    """`flwr ...` and its relatives, with their files in one folder."""

    def __init__(self, home: Path) -> None:
        """Nothing is written yet.

        Args:
            home: absolute folder for Flower's own files (FLWR_HOME).
        """
        self.home = home
        commands = Path(sys.executable).parent
        path = f"{commands}{os.pathsep}{os.environ.get('PATH', '')}"
        self.environment = os.environ | QUIET | {"FLWR_HOME": str(home), "PATH": path}
        self._superlink: tuple[str, Path | None] = ("", None)

    def connect(self, address: str, root_certificates: Path | None) -> None:
        """Have all commands talk to one SuperLink.

        Args:
            address: host:port of its Control API.
            root_certificates: PEM file of the CA; None for a connection without TLS.
        """
        self._superlink = address, root_certificates
        security = "insecure = true" if root_certificates is None else f'root-certificates = "{root_certificates}"'
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "config.toml").write_text(
            f'[superlink]\ndefault = "remote"\n[superlink.remote]\naddress = "{address}"\n{security}\n',
            encoding="utf-8",
        )

    def submit(self, run_config: Path, federation_config: Mapping[str, int | float] | None = None) -> str:
        """Start a run of this project's app.

        Args:
            run_config: TOML file of settings.
            federation_config: of Flower's simulation engine; None for a deployment.

        Returns:
            The run's id.

        Raises:
            FederationError: with Flower's words if it does not accept the run.
        """
        app = self._stage_app()
        command = ["run", str(app), "remote", "--run-config", str(run_config)]
        if federation_config is not None:
            options = " ".join(f"{key}={value}" for key, value in federation_config.items())
            command += ["--federation-config", options]
        answer = self._flwr(*command, "--format", "json")
        try:
            return str(json_of(answer)["run-id"])
        except (ValueError, KeyError, TypeError) as error:
            reason = " ".join(answer.split())
            raise FederationError(f"Flower did not start the run with {run_config}: {reason}") from error

    def status(self, run_id: str) -> str:
        """Status of a run in Flower's words: pending, starting, running, finished:completed, finished:failed, ...

        Raises:
            FederationError: if Flower does not tell.
        """
        runs = self._runs(ListRunsRequest(run_id=int(run_id)))
        if not runs:
            raise FederationError(f"Flower does not know run {run_id}")
        status = runs[0].status
        return f"{status.status}:{status.sub_status}" if status.sub_status else str(status.status)

    def unfinished(self) -> list[UnfinishedRun]:
        """The runs that have not ended, the oldest first.

        Raises:
            FederationError: if Flower does not tell.
        """
        runs = sorted(self._runs(ListRunsRequest()), key=lambda run: run.pending_at)
        return [UnfinishedRun.of(run) for run in runs if run.status.status != Status.FINISHED]

    def stop(self, run_id: str) -> None:
        """End a run; what Flower answers does not matter."""
        self._flwr("stop", run_id, "remote")

    def log(self, run_id: str) -> str:
        """What server and clients logged so far."""
        return self._flwr("log", run_id, "remote", "--show")

    def register(self, public_key: Path) -> str:
        """Let the SuperNode with this key in.

        Returns:
            What became of it, in a word or two; "known" also of a key that was unregistered, and stays out.

        Raises:
            FederationError: with Flower's words if the key is not taken.
        """
        if not public_key.is_file():
            raise FederationError(f"{public_key} does not exist")
        answer = self._flwr("supernode", "register", str(public_key.resolve()), "remote", "--format", "json")
        if "already" in answer:
            return "known"
        try:
            return f"registered as node {json_of(answer)['node-id']}"
        except (ValueError, KeyError, TypeError) as error:
            raise FederationError(f"{public_key} is not registered: {' '.join(answer.split())}") from error

    def unregister(self, node_id: int) -> None:
        """Shut the SuperNode with this id out; Flower never takes its key again.

        Raises:
            FederationError: if the SuperLink does not do it.
        """
        request = UnregisterNodeRequest(node_id=node_id)
        self._ask(f"unregister node {node_id}", lambda control: control.UnregisterNode(request))

    def nodes_of_keys(self) -> dict[bytes, int]:
        """Public key, as PEM (SubjectPublicKeyInfo), to the node id of the SuperNode that is registered with it.

        Raises:
            FederationError: if the SuperLink does not tell.
        """
        nodes = self._ask("list its nodes", lambda control: control.ListNodes(ListNodesRequest())).nodes_info
        return {node.public_key: node.node_id for node in nodes if node.status != NodeStatus.UNREGISTERED}

    def find(self, name: str) -> str:
        """Path of one of Flower's commands.

        Raises:
            FederationError: if it is not installed.
        """
        path = shutil.which(name, path=self.environment["PATH"])
        if path is None:
            raise FederationError(f"command {name} is not installed; install flwr[simulation]")
        return path

    def _runs(self, request: ListRunsRequest) -> list[Run]:
        return list(self._ask("list its runs", lambda control: control.ListRuns(request)).run_dict.values())

    def _ask(self, what: str, ask: Callable[[ControlHttpClient], T]) -> T:
        """An answer of the SuperLink's Control API, without the second of CPU that a `flwr` command takes."""
        address, root_certificates = self._superlink
        control = ControlHttpClient.from_server_address(
            address,
            insecure=root_certificates is None,
            root_certificates=root_certificates.read_bytes() if root_certificates else None,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )
        try:
            return ask(control)
        except (httpx.HTTPError, ValueError) as error:
            raise FederationError(f"the SuperLink at {address} does not {what}: {error}") from error
        finally:
            control.close()

    def _stage_app(self) -> Path:
        """A copy of the app alone: Flower takes no folder with an underscore or a dot in its name."""
        target = self.home / "app" / "fedreenact"
        shutil.rmtree(target, ignore_errors=True)
        write_app(target)
        return target

    def _flwr(self, *arguments: str) -> str:
        """Output of a `flwr` command, its errors included."""
        command = [self.find("flwr"), *arguments]
        try:
            done = subprocess.run(
                command,
                env=self.environment,
                cwd=self.home,
                capture_output=True,
                text=True,
                timeout=_COMMAND_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            return f"flwr {arguments[0]} gave no answer within {_COMMAND_TIMEOUT_S:g} s"
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr
