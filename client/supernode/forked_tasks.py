"""Starts the processes that answer messages: forked from one that has imported what they need.

A message starts a process of its own, so that nothing of one is left for the next. Importing Flower and PyTorch takes
such a process five seconds of a core, often more than it trains for. So the site keeps one process that has imported
them, runs nothing else and holds no data (the fork server of Python's multiprocessing), and forks it for each message.
"""

from __future__ import annotations

import logging
import multiprocessing
import time
from multiprocessing import forkserver

from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResult

from client.supernode.own_code import answer

_log = logging.getLogger(__name__)

_IMPORTED = ("flwr.supercore.cli.flower_superexec", "client.app", "torch._dynamo")
"""By the process that is forked. A fork would import the first for its main module, the last for its optimizer."""
_TRIES, _BETWEEN_TRIES_S = 5, 1.0
"""To fork, while another process takes the place of one that was killed."""


class ForkedTasks:
    """What Flower's SuperExec asks to start a task (its protocol `Executor`); starts ClientApp tasks and no others."""

    def __init__(self) -> None:
        """The process to be forked is started, and imports while nothing is waited for."""
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(list(_IMPORTED))
        forkserver.ensure_running()

    def get_eligible_capacity(
        self,
        supported_task_types: set[TaskType],
        *,
        insecure: bool = False,
        root_certificates_path: str | None = None,
    ) -> tuple[set[TaskType], set[str]]:
        """All that the SuperExec asks for, at any time: a SuperNode fetches one message after the other."""
        return supported_task_types, set()

    def wait_for_capacity(
        self,
        task_type: TaskType | None = None,
        *,
        fab_hash: str | None = None,
        insecure: bool = False,
        root_certificates_path: str | None = None,
    ) -> None:
        """Nothing to wait for."""

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        """Start the process that answers a message."""
        if spec.task_type != TaskType.CLIENT_APP:
            return LaunchResult.failed(f"this site runs no {spec.task_type}")
        for _ in range(_TRIES):
            try:
                self._processes.Process(target=answer, args=(spec,), daemon=True).start()
                return LaunchResult.accepted()
            except (EOFError, OSError) as error:  # the process to be forked was killed, perhaps a moment ago
                reason = f"no process could be started for a message ({type(error).__name__}: {error})"
                _log.warning("%s", reason)
            time.sleep(_BETWEEN_TRIES_S)
        return LaunchResult.failed(reason)

    def reconcile(self) -> None:
        """A process to be forked that was killed is started again."""
        forkserver.ensure_running()

    def close(self) -> None:
        """Processes that still work are asked to end by multiprocessing, when this one ends."""
