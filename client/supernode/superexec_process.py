"""The site's SuperExec: Flower's, which asks for one kind of task and starts it by forking.

Its SuperNode starts it as `python -m client.supernode.superexec_process`. Every forked process imports this module once
more, as multiprocessing does with the main module: nothing heavy stands here that is not imported before the fork.
"""

from __future__ import annotations

import os

from flwr.supercore.cli.flower_superexec import flower_superexec
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec import run_superexec
from flwr.supercore.superexec.plugin import AutoExecPlugin

from client.supernode.bell import VARIABLE, SleepUntilRung
from client.supernode.forked_tasks import ForkedTasks
from federation.json_log import log_to_stderr
from federation.stacks import tell_when_asked


class SiteExecPlugin(AutoExecPlugin):  # type: ignore[misc]
    """Flower's choice of tasks, of one kind."""

    supported_task_types = frozenset({TaskType.CLIENT_APP})


def main() -> None:
    """Run it until its SuperNode ends."""
    tell_when_asked()
    log_to_stderr("client")
    run_superexec.AutoExecPlugin = SiteExecPlugin
    run_superexec.time = SleepUntilRung(int(os.environ[VARIABLE]))
    run_superexec.get_executor = lambda *_, **__: ForkedTasks()
    flower_superexec()


if __name__ == "__main__":
    main()
