"""Every message gets an answer, whatever becomes of the process that works on it and of the connection."""

from __future__ import annotations

import datetime
import errno
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.common.constant import ErrorCode, Status, SubStatus
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse
from flwr.supercore.constant import TaskType
from flwr.supercore.corestate import in_memory_corestate
from flwr.supercore.inflatable.inflatable_object import get_object_tree
from flwr.supercore.run import RunNotRunningException
from flwr.supercore.runtime.runtime_http_client import RuntimeHttpClient
from flwr.supernode.runtime import run_clientapp

from client.supernode import answering, owed_reply, own_code
from client.supernode.answering import insert
from client.supernode.owed_reply import LOST, OwedReply
from client.supernode.own_code import SiteRuntimeClient
from tests.client.supernode.site import RUN_ID, Site, message_with
from tests.support.paths import ROOT

APP_ERROR = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "no frames")


def start_process(site: Site) -> int:
    """Up to where it would fetch its message; returns the id of its task."""
    (task,) = site.state.get_tasks()
    assert site.state.claim_task(task.task_id) and site.state.activate_task(task.task_id)
    return int(task.task_id)


def reasons(replies: list[Message]) -> list[str]:
    return [reply.error.reason for reply in replies]


def test_a_message_that_was_lost_with_its_process_is_answered_by_the_next(tmp_path: Path) -> None:
    killed = Site(tmp_path, TaskType.SERVER_APP)
    killed.step()
    restarted = Site(tmp_path, TaskType.SERVER_APP)
    assert restarted.step() == RUN_ID and restarted.tasks() == []  # before it asks for another
    (reply,) = restarted.send()
    assert (reply.error.code, reply.error.reason) == (ErrorCode.CLIENT_APP_CRASHED, LOST)
    assert reply.metadata.reply_to_message_id == killed.message.metadata.message_id
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


def test_a_process_that_ends_before_it_has_its_message_is_answered_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Flower's process that finds no message reports its failure and gives no reply."""
    site = Site(tmp_path, TaskType.SERVER_APP)
    site.step()
    site.state.finish_task(start_process(site), SubStatus.FAILED, "No messages received from Runtime API")
    assert reasons(site.send()) == [LOST]
    assert OwedReply(tmp_path).due(node_id=5) is None
    assert f"the process that worked on a message of run {RUN_ID} ended without an answer" in caplog.messages


@pytest.mark.parametrize(("has_fetched", "reason"), [(False, LOST), (True, "ClientApp stopped responding.")])
def test_a_process_that_is_killed_is_answered_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_fetched: bool, reason: str
) -> None:
    site = Site(tmp_path, TaskType.SERVER_APP)
    site.step()
    start_process(site)
    if has_fetched:
        assert len(site.state.get_messages_legacy(run_ids=[RUN_ID], is_reply=False, limit=1)) == 1
    late = in_memory_corestate.now() + datetime.timedelta(hours=1)
    monkeypatch.setattr(in_memory_corestate, "now", lambda: late)
    assert reasons(site.send()) == [reason]
    assert site.replies() == [] and OwedReply(tmp_path).due(node_id=5) is None


def test_a_late_answer_to_an_earlier_message_is_not_taken_for_the_one_that_is_owed(tmp_path: Path) -> None:
    site = Site(tmp_path, TaskType.SERVER_APP)
    site.step()
    start_process(site)
    earlier = message_with(RecordDict({"other": ConfigRecord({"n": 1})}))
    insert(Message(Error(ErrorCode.UNKNOWN, "late"), reply_to=earlier), site.state, site.objects)

    def answer() -> None:
        if site.state.get_tasks(statuses=[Status.RUNNING]):
            insert(Message(APP_ERROR, reply_to=site.message), site.state, site.objects)
            site.state.finish_task(site.state.get_tasks()[0].task_id, SubStatus.FAILED, "")

    assert reasons(site.send(meanwhile=answer)) == ["late", "no frames"]
    assert OwedReply(tmp_path).due(node_id=5) is None and site.replies() == []


def test_a_process_that_hangs_is_given_up_when_nobody_waits_for_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, TaskType.SERVER_APP)
    site.message.metadata.ttl = 600.0
    site.step()
    token = site.state.claim_task(site.state.get_tasks()[0].task_id)
    assert site.state.activate_task(site.state.get_tasks()[0].task_id)
    time_of = time.time
    monkeypatch.setattr(answering.time, "time", lambda: time_of() + 601)
    assert reasons(site.send()) == [LOST]
    assert OwedReply(tmp_path).due(node_id=5) is None
    assert token is not None and site.state.get_task_by_token(token) is None


def test_a_site_ends_where_no_process_fetches_a_message_and_the_next_one_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = Site(tmp_path, TaskType.SERVER_APP)
    hangs.step()
    monkeypatch.setattr(answering, "_TAKEN_UP_WITHIN_S", 0.1)
    with pytest.raises(SystemExit):
        hangs.send()
    assert hangs.ended_for == [f"no process has fetched a message of run {RUN_ID} within 0 s"]
    restarted = Site(tmp_path, TaskType.SERVER_APP)
    assert restarted.step() == RUN_ID
    assert reasons(restarted.send()) == [LOST]


def test_a_site_waits_for_a_process_that_has_fetched_its_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, TaskType.SERVER_APP)
    site.step()
    task_id = start_process(site)
    site.objects.delete(site.message.metadata.message_id)  # what Flower does when the process says that it has it
    monkeypatch.setattr(answering, "_TAKEN_UP_WITHIN_S", 0.1)
    looks: list[float] = []
    find = site.state.get_tasks

    def look(**filters: object) -> object:
        looks.append(time.monotonic())
        if len(looks) == 3:
            site.state.finish_task(task_id, SubStatus.FAILED, "")
        return find(**filters)

    monkeypatch.setattr(site.state, "get_tasks", look)
    assert reasons(site.send()) == [LOST]
    assert site.ended_for == [] and looks[2] - looks[0] > 0.1


def test_of_an_answer_that_never_gets_whole_an_error_is_sent(tmp_path: Path) -> None:
    site = Site(tmp_path, TaskType.SERVER_APP)
    site.step()
    task_id = start_process(site)
    half = Message(RecordDict({"fitres.metrics": ConfigRecord({"a": 1})}), reply_to=site.message)
    half.metadata.__dict__["_message_id"] = half.object_id
    site.state.store_message_and_object_tree(half, get_object_tree(half), site.state.start_session(RUN_ID))
    site.state.finish_task(task_id, SubStatus.FAILED, "killed")
    assert [reply.has_error() for reply in site.send()] == [False]
    assert site.step() is None  # a pause
    assert site.step() == RUN_ID
    assert reasons(site.send()) == [LOST]
    assert OwedReply(tmp_path).due(node_id=5) is None


def test_with_a_full_disk_a_message_is_answered_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(owed_reply, "write_bytes", fail)
    site = Site(tmp_path, TaskType.SERVER_APP)
    site.step()
    assert any("No space left on device; after a crash" in message for message in caplog.messages)
    site.state.finish_task(start_process(site), SubStatus.FAILED, "")
    assert reasons(site.send()) == [LOST]


def test_a_process_that_is_quicker_than_its_message_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "RuntimeHttpClient" in run_clientapp.run_clientapp.__code__.co_names
    some = PullAppMessagesResponse(messages_list=[{}])
    answers = iter([PullAppMessagesResponse(), PullAppMessagesResponse(), some, PullAppMessagesResponse()])
    monkeypatch.setattr(RuntimeHttpClient, "PullMessages", lambda self, request: next(answers))
    client = object.__new__(SiteRuntimeClient)
    assert client.PullMessages(PullAppMessagesRequest()) == some
    monkeypatch.setattr(own_code, "_UNTIL_STORED_S", 0)
    assert not client.PullMessages(PullAppMessagesRequest()).messages_list


HANGING = """
import time
import httpx
from flwr.proto.runtime_pb2 import SendTaskHeartbeatRequest
from flwr.supercore.runtime.runtime_http_client import RuntimeHttpClient
from client.supernode.own_code import SiteRuntimeClient

def refuse(self, request):
    raise httpx.HTTPStatusError("", request=None, response=httpx.Response(STATUS))

RuntimeHttpClient.SendTaskHeartbeat = refuse
try:
    object.__new__(SiteRuntimeClient).SendTaskHeartbeat(SendTaskHeartbeatRequest())
except httpx.TransportError:  # which Flower tries again
    print("lives")
"""


@pytest.mark.integration
@pytest.mark.parametrize(("status", "exit_code", "said"), [(401, 1, ""), (500, 0, "lives\n")])
def test_a_process_whose_message_was_given_up_ends(status: int, exit_code: int, said: str) -> None:
    command = [sys.executable, "-c", HANGING.replace("STATUS", str(status))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (exit_code, said), done.stderr
