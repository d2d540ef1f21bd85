"""Every kind of task that this Flower has, on its way through a site."""

from __future__ import annotations

import datetime
import hashlib
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from flwr.app import Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.task_pb2 import Task
from flwr.supercore.constant import TaskType
from flwr.supercore.corestate import in_memory_corestate
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResult, LaunchResultStatus
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import start_client_internal
from flwr.supernode.nodestate import NodeState, NodeStateFactory

from client.supernode import one_task_kind
from client.supernode.one_task_kind import (
    OwnSuperExec,
    RefusedRunError,
    keep_to_one_kind,
    own_settings,
    pull_or_refuse,
    push_and_settle,
)
from client.supernode.owed_reply import LOST, OwedReply
from client.supernode.refused_tasks import RefusedTasks
from client.supernode.superexec_process import SiteExecPlugin
from federation.settings import Settings

RUN_ID = 12
FAB = b"no archive at all"
KINDS = [*TaskType, "", "flwr-of-tomorrow"]


class Site:
    """Flower's own state of a SuperNode, and a SuperLink that has one message for it."""

    def __init__(self, folder: Path, task_type: str) -> None:
        self.refused, self.owed = RefusedTasks(folder), OwedReply(folder)
        self.is_cut_off = False
        self.fetched: list[str] = []
        objects = ObjectStoreFactory()
        self.state: NodeState = NodeStateFactory(objectstore_factory=objects).state()
        self.state.set_node_id(5)
        self._objects = objects.store()
        self._run = Run.create_empty(RUN_ID)
        self._run.primary_task_type = task_type
        with pytest.MonkeyPatch.context() as server:
            for name, value in (("_task_id", 3), ("_run_id", RUN_ID), ("_node_id", 1)):
                server.setattr(TaskIdentity, name, value)
            self._message = Message(RecordDict(), dst_node_id=5, message_type="query")
        self._message.metadata.__dict__["_message_id"] = self._message.object_id

    def step(self) -> int | None:
        """What `flower-supernode` does with a message, below the site's guard."""
        return pull_or_refuse(
            start_client_internal._pull_and_store_message,
            self.refused,
            self.owed,
            state=self.state,
            object_store=self._objects,
            node_config={"partition-id": 0},
            receive=lambda: (self._message, get_object_tree(self._message)),
            get_run=lambda run_id: self._run,
            get_fab=self._get_fab,
            pull_object=self._pull_object,
            confirm_message_received=lambda run_id, message_id: None,
            trusted_entities=None,
        )

    def _get_fab(self, fab_hash: str, run_id: int) -> Fab:
        self.fetched.append(fab_hash)
        return Fab(hashlib.sha256(FAB).hexdigest(), FAB, {})

    def _pull_object(self, run_id: int, object_id: str) -> bytes:
        if self.is_cut_off:
            raise ConnectionError("no route to host")
        content: bytes = get_all_nested_objects(self._message)[object_id].deflate()
        return content

    def replies(self) -> list[Message]:
        return list(self.state.get_messages_legacy(is_reply=True))

    def send(self, error: BaseException | None = None, *, of_contents: bool = False) -> list[Message]:
        """What `flower-supernode` does next, when there is an answer; with an error it cannot be sent, or not whole."""
        sent: list[Message] = []

        def take(message: Message, tree: ObjectTree, runtime_s: float) -> tuple[set[str], str]:
            if error is not None and not of_contents:
                raise error
            sent.append(message)
            return {tree.object_id}, ""

        def take_part(*content: object) -> None:
            if error is not None:
                raise error

        push_and_settle(
            start_client_internal._push_messages,
            self.owed,
            state=self.state,
            object_store=self._objects,
            send=take,
            push_object=take_part,
        )
        return sent

    def tasks(self) -> list[str]:
        return [task.type for task in self.state.get_tasks()]


@pytest.fixture(autouse=True)
def own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a SuperNode of a site."""
    monkeypatch.setattr(start_client_internal, "get_fused_config_from_fab", own_settings)


@pytest.mark.parametrize("task_type", KINDS)
def test_a_message_becomes_a_clientapp_task_of_a_server_apps_run_or_an_error(tmp_path: Path, task_type: str) -> None:
    site = Site(tmp_path, task_type)
    assert site.step() == RUN_ID
    replies = site.replies()
    if task_type == TaskType.SERVER_APP:
        assert site.tasks() == [TaskType.CLIENT_APP]
        assert (len(replies), site.refused.total()) == (0, 0)
        return
    assert site.tasks() == [] and site.fetched == []
    (reply,) = replies
    assert reply.error.reason.startswith("this site runs no ")
    assert site.refused.total() == 1


def test_a_refusal_names_the_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for task_type, name in (("flwr-agentapp", "agentapp"), ("\x1b[2Jx" + "y" * 1000, repr("\x1b[2Jx" + "y" * 35))):
        site = Site(tmp_path, task_type)
        with caplog.at_level(logging.ERROR, "client"):
            site.step()
        (reply,) = site.send()
        assert reply.error.reason == f"this site runs no {name}"
        assert f"refused run {RUN_ID}: this site runs no {name}; nothing of it was fetched" in caplog.messages


def test_a_run_that_was_accepted_cannot_change_its_kind(tmp_path: Path) -> None:
    site = Site(tmp_path, TaskType.SERVER_APP)
    site.step()
    site._run = Run.create_empty(RUN_ID)
    site._run.primary_task_type = TaskType.AGENT_APP
    site.step()
    assert set(site.tasks()) == {TaskType.CLIENT_APP}


def test_a_message_that_was_lost_with_its_process_is_answered_by_the_next(tmp_path: Path) -> None:
    killed = Site(tmp_path, TaskType.SERVER_APP)
    killed.step()
    restarted = Site(tmp_path, TaskType.SERVER_APP)
    assert restarted.step() == RUN_ID and restarted.tasks() == []  # before it asks for another
    (reply,) = restarted.send()
    assert (reply.error.code, reply.error.reason) == (ErrorCode.CLIENT_APP_CRASHED, LOST)
    assert reply.metadata.reply_to_message_id == killed._message.metadata.message_id
    assert (reply.metadata.src_node_id, reply.metadata.dst_node_id) == (5, 1)
    assert restarted.step() == RUN_ID and restarted.tasks() == [TaskType.CLIENT_APP]


def test_what_was_answered_is_not_owed(tmp_path: Path) -> None:
    site = Site(tmp_path, TaskType.AGENT_APP)
    site.step()
    assert len(site.send()) == 1
    assert OwedReply(tmp_path).due(node_id=5) is None


@pytest.mark.parametrize("of_contents", [False, True])
def test_an_answer_that_cannot_be_sent_stays_owed_and_an_error_is_sent_after_a_pause(
    tmp_path: Path, of_contents: bool
) -> None:
    site = Site(tmp_path, TaskType.AGENT_APP)
    site.step()
    site.send(RuntimeError("500 Internal Server Error"), of_contents=of_contents)
    assert site.step() is None
    assert site.step() == RUN_ID
    assert [reply.error.reason for reply in site.send()] == [LOST]
    assert OwedReply(tmp_path).due(node_id=5) is None
    assert site.step() == RUN_ID and site.refused.total() == 2  # on to the next message


def test_nobody_is_owed_an_answer_once_the_run_has_ended(tmp_path: Path) -> None:
    site = Site(tmp_path, TaskType.AGENT_APP)
    site.step()
    assert site.send(RunNotRunningException()) == []
    assert OwedReply(tmp_path).due(node_id=5) is None


def test_an_answer_that_is_never_taken_is_given_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(tmp_path, TaskType.AGENT_APP)
    site.step()
    for _ in range(20):
        assert OwedReply(tmp_path).due(node_id=5) is not None and site.refused.total() == 1
        site.send(RuntimeError("400 Bad Request"))
        assert site.step() is None
        assert site.step() == RUN_ID
    assert site.refused.total() == 2  # on to the next message
    assert sum("no answer could be sent in 20 attempts" in message for message in caplog.messages) == 1


def test_a_message_that_cannot_be_fetched_is_answered_at_once(tmp_path: Path) -> None:
    site = Site(tmp_path, TaskType.SERVER_APP)
    site.is_cut_off = True
    assert site.step() == RUN_ID
    assert [reply.error.reason for reply in site.send()] == [LOST]


def test_an_answer_that_is_owed_is_for_the_sites_user_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        Site(tmp_path, TaskType.SERVER_APP).step()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "owed-reply.pb").stat().st_mode) == 0o600


def test_another_nodes_debt_and_a_damaged_file_are_dropped(tmp_path: Path) -> None:
    Site(tmp_path, TaskType.SERVER_APP).step()
    assert OwedReply(tmp_path).due(node_id=6) is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "owed-reply.pb").write_bytes(b"\xff\xff")
    assert OwedReply(tmp_path).due(node_id=5) is None
    assert list(tmp_path.iterdir()) == []


def test_a_supernode_starts_the_sites_superexec_and_no_other_command(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(one_task_kind.subprocess, "Popen", lambda command: started.append(command))
    OwnSuperExec.Popen(["flower-superexec", "--insecure"])
    assert started == [[sys.executable, "-P", "-m", "client.supernode.superexec_process", "--insecure"]]
    with pytest.raises(RefusedRunError, match="this site runs no flwr-agentapp"):
        OwnSuperExec.Popen(["flwr-agentapp", "--insecure"])
    assert len(started) == 1


class Launches:
    """An executor that notes what it is asked for."""

    def __init__(self) -> None:
        self.specs: list[ExecutionSpec] = []

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        self.specs.append(spec)
        return LaunchResult.accepted()


@pytest.mark.parametrize("task_type", TaskType)
def test_the_superexec_launches_one_kind_of_task(task_type: TaskType) -> None:
    executor = Launches()
    plugin = SiteExecPlugin("127.0.0.1:9094", True, None, executor=executor)
    result = plugin.launch_task("token", Task(task_id=1, run_id=RUN_ID, type=task_type))
    if task_type == TaskType.CLIENT_APP:
        assert result.status == LaunchResultStatus.ACCEPTED
        ((spec),) = executor.specs
        assert (spec.task_type, spec.token, spec.runtime_api_address) == (task_type, "token", "127.0.0.1:9094")
        return
    assert executor.specs == []
    assert result.status == LaunchResultStatus.FAILED


def test_settings_are_the_installed_ones_and_what_the_run_changes() -> None:
    run = Run.create_empty(RUN_ID)
    run.override_config = {"local-steps": 7, "of-another-version": 1}
    config = own_settings(b"no archive", run)
    assert config.pop("of-another-version") == 1  # the app names it when it refuses the run
    assert Settings.from_flat(config) == Settings().replaced({"local-steps": 7})


@pytest.mark.parametrize(("after_s", "is_waited_for"), [(110, True), (130, False)])
def test_a_process_that_is_slow_to_start_is_waited_for(
    after_s: int, is_waited_for: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "_pull_and_store_message",
        "_push_messages",
        "get_fused_config_from_fab",
        "subprocess",
    ):  # put back afterwards
        monkeypatch.setattr(start_client_internal, name, getattr(start_client_internal, name))
    monkeypatch.setattr(in_memory_corestate, "HEARTBEAT_DEFAULT_INTERVAL", 30)
    site = Site(tmp_path, TaskType.SERVER_APP)
    site.step()
    keep_to_one_kind(site.refused, site.owed)
    (task,) = site.state.get_tasks()
    assert site.state.claim_task(task.task_id)
    late = in_memory_corestate.now() + datetime.timedelta(seconds=after_s)
    monkeypatch.setattr(in_memory_corestate, "now", lambda: late)
    assert site.state.activate_task(task.task_id) is is_waited_for


def test_the_real_entry_points_of_flower_are_guarded() -> None:
    """In processes of their own, as at a site: the names that are replaced are still those that Flower calls."""
    script = (
        "import inspect, pathlib\n"
        "from flwr.supernode import start_client_internal as supernode\n"
        "from flwr.supernode import fleet_http_connection as connection\n"
        "from client.supernode.fleet_client import SiteFleetClient, use_site_fleet_client\n"
        "from client.supernode.one_task_kind import OwnSuperExec, keep_to_one_kind\n"
        "from client.supernode.owed_reply import OwedReply\n"
        "from client.supernode.refused_tasks import RefusedTasks\n"
        "keep_to_one_kind(RefusedTasks(pathlib.Path('.')), OwedReply(pathlib.Path('.')))\n"
        "use_site_fleet_client()\n"
        "names = supernode.start_client_internal.__code__.co_names\n"
        "assert {'_pull_and_store_message', '_push_messages', 'subprocess'} <= set(names), names\n"
        "pull = supernode._pull_and_store_message\n"
        "assert 'get_fused_config_from_fab' in pull.args[0].__code__.co_names\n"
        "from flwr.supercore.superexec import run_superexec\n"
        "assert {'AutoExecPlugin', 'get_executor'} <= set(run_superexec.run_superexec.__code__.co_names)\n"
        "assert supernode.subprocess is OwnSuperExec and connection.FleetHttpClient is SiteFleetClient\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
