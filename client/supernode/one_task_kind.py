"""One kind of task at a site: ClientApp tasks of server-app runs, answered by the code that is installed here.

Flower has more kinds (`flwr.supercore.constant.TaskType`), and which one a message becomes is for the server to say. An
AgentApp, for one, is unpacked from the run and executed beside the site's data. Three things stand against that, each
alone enough: a message of any other run is answered with an error before the run's code is fetched; the site's
SuperExec asks for ClientApp tasks alone (superexec_process.py); and nothing is started by name: that SuperExec is a
module of this package, and forks what answers (forked_tasks.py).
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from flwr.app import Error, Message
from flwr.common.config import get_project_config
from flwr.common.constant import ErrorCode
from flwr.supercore.constant import TaskType
from flwr.supercore.corestate import in_memory_corestate
from flwr.supercore.run import Run
from flwr.supernode import start_client_internal

from client.supernode.answering import insert, push_what_is_owed
from client.supernode.bell import VARIABLE, Bell
from client.supernode.owed_reply import OwedReply
from client.supernode.refused_tasks import RefusedTasks
from deploy.files import TOP
from federation.stacks import ask

_log = logging.getLogger(__name__)

_FIRST_SIGN_S = 120
"""For the first sign of life of a process that answers a message. Flower gives it 30 s, and starts another beside it:
on a busy machine each of them is late, and the more there are the later."""

_BOTH_END_S = 5.0
"""For this process to end by itself, where both were asked to."""

Pull = Callable[..., int | None]


class RefusedRunError(Exception):
    """A message belongs to a run that this site does not answer."""


class OwnSuperExec:
    """In place of `subprocess` in Flower's SuperNode, which starts one command and never looks at it again."""

    has_failed = False
    """Whether it ended before this SuperNode, or starts nothing any more; of the class, since a SuperNode has one."""
    bell: Bell
    """Rung for it when there is a message."""

    @staticmethod
    def Popen(command: list[str]) -> subprocess.Popen[bytes]:
        """Start the site's own for `flower-superexec`, wherever PATH leads; this process ends soon after it.

        Raises:
            RefusedRunError: for a command that a site does not run.
        """
        name, *options = command
        if name != "flower-superexec":
            raise RefusedRunError(f"this site runs no {name}")
        # -P: the working folder is where the site keeps its state, and no place to import from.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "client.supernode.superexec_process", *options],
            env=os.environ | {VARIABLE: str(OwnSuperExec.bell.heard)},
            pass_fds=[OwnSuperExec.bell.heard],
        )
        threading.Thread(target=OwnSuperExec._end_with, args=(process,), daemon=True).start()
        return process

    @staticmethod
    def _end_with(process: subprocess.Popen[bytes]) -> None:
        """Without it messages would be taken and none answered; started again, the site answers for the last one."""
        exit_code = process.wait()
        time.sleep(_BOTH_END_S)
        _log.error("what starts the processes that answer messages has ended (%d); this site ends too", exit_code)
        OwnSuperExec.end()

    @staticmethod
    def end() -> None:
        """End this SuperNode as failed; what restarts it has the site answer."""
        OwnSuperExec.has_failed = True
        os.kill(os.getpid(), signal.SIGTERM)


def end_site(reason: str) -> None:
    """End this SuperNode, after its processes have written where they hang."""
    _log.error("%s; this site ends, and says where its processes are", reason)
    ask(os.getpid())
    OwnSuperExec.end()


def keep_to_one_kind(refused: RefusedTasks, owed: OwedReply) -> None:
    """Make this process a SuperNode that answers ClientApp tasks alone, and every message it receives.

    Args:
        refused: counts what is refused.
        owed: of this process, or of one before it that was killed.
    """
    OwnSuperExec.bell = Bell()
    start_client_internal._pull_and_store_message = functools.partial(
        pull_or_refuse, start_client_internal._pull_and_store_message, refused, owed, OwnSuperExec.bell.ring
    )
    start_client_internal._push_messages = functools.partial(
        push_what_is_owed, start_client_internal._push_messages, owed, end=end_site
    )
    start_client_internal.get_fused_config_from_fab = own_settings
    start_client_internal.subprocess = OwnSuperExec
    in_memory_corestate.HEARTBEAT_DEFAULT_INTERVAL = _FIRST_SIGN_S


def pull_or_refuse(
    pull: Pull,
    refused: RefusedTasks,
    owed: OwedReply,
    ring: Callable[[], None],
    *,
    receive: Callable[[], tuple[Message, Any] | None],
    get_run: Callable[[int], Run],
    **others: Any,
) -> int | None:
    """Flower's step from a message to a task, for runs of a server app; a message of another run gets an error.

    So does a message that was received and became no task, and first of all one that was lost with the process before.

    Args:
        pull: Flower's function.
        refused: counts what is refused.
        owed: noted here; what was owed before this is sent first.
        ring: tells who starts a process for the message that it is here, whole.
        receive: fetches a message without its contents, if there is one.
        get_run: asks the SuperLink about a run.
        others: of Flower's function.

    Returns:
        Id of the run whose message has or gets an answer, or None; then Flower asks again after three seconds.
    """
    if owed.takes_a_pause():
        return None
    if lost := owed.due(others["state"].get_node_id()):
        return _answer(lost, others)
    received: list[Message] = []

    def keep() -> tuple[Message, Any] | None:
        answer = receive()
        if answer:
            received.append(answer[0])
            owed.owe(answer[0])
        return answer

    def accepted(run_id: int) -> Run:
        run = get_run(run_id)
        if run.primary_task_type != TaskType.SERVER_APP:
            raise RefusedRunError(f"this site runs no {_name_of(run.primary_task_type)}")
        return run

    try:
        run_id = pull(receive=keep, get_run=accepted, **others)
    except RefusedRunError as error:
        (message,) = received
        refused.count_one()
        _log.error("refused run %s: %s; nothing of it was fetched", message.metadata.run_id, error)
        reply = Message(Error(ErrorCode.LOAD_CLIENT_APP_EXCEPTION, str(error)), reply_to=message)
        return _answer(reply, others)
    if not received:
        return run_id
    ring()
    if run_id is None and (lost := owed.due(others["state"].get_node_id())):
        return _answer(lost, others)
    return run_id


def _answer(reply: Message, others: dict[str, Any]) -> int:
    """Have a reply sent in the next step; returns the id of its run."""
    insert(reply, others["state"], others["object_store"])
    return int(reply.metadata.run_id)


def _name_of(task_type: str) -> str:
    """For people: `agentapp`; what Flower does not know is quoted and cut."""
    known = {kind.value for kind in TaskType}
    return task_type.removeprefix("flwr-") if task_type in known else f"{task_type[:40]!r}"


def own_settings(fab: bytes, run: Run) -> dict[str, Any]:
    """The settings of a run: those installed here, changed as the run says; what the run brings is not opened."""
    installed: dict[str, Any] = get_project_config(TOP)["tool"]["flwr"]["app"]["config"]
    return {**installed, **run.override_config}
