from __future__ import annotations

import copy
import time
from collections.abc import Iterable

import httpx
import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import ConfirmMessageReceivedResponse, PullObjectRequest, PullObjectResponse
from flwr.proto.runtime_pb2 import (
    PullAppMessagesRequest,
    PullAppMessagesResponse,
    PushAppMessagesRequest,
    PushAppMessagesResponse,
)
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid.http_grid import HttpGrid

from model.errors import FederationError
from server.rounds import messaging
from server.rounds.messaging import PatientGrid, fit_message, replies_to
from server.termination import TerminatedError
from server.updates import reply_limit
from server.updates.reply import RejectedUpdateError, Rejection, read_fit_reply
from tests.server.replies import answering_app
from tests.support.inprocess_grid import FIRST_NODE_ID, InProcessGrid


class StumblingGrid(InProcessGrid):
    """Fails a number of times, as a SuperLink whose database is locked does."""

    num_failures = 0

    def get_node_ids(self) -> Iterable[int]:
        if self.num_failures > 0:
            self.num_failures -= 1
            raise httpx.HTTPError("500 Internal Server Error")
        return super().get_node_ids()

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self.get_node_ids()
        return super().pull_messages(message_ids)


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> StumblingGrid:
    monkeypatch.setattr(messaging, "_RETRY_INTERVAL_S", 0.01)
    app = answering_app(lambda context: lambda parameters, config: (parameters, 1, {}))
    return StumblingGrid(app, [{}, {}], {})


def test_a_superlink_that_stumbles_is_asked_again(grid: StumblingGrid) -> None:
    grid.num_failures = 3
    assert PatientGrid(grid).get_node_ids() == [FIRST_NODE_ID, FIRST_NODE_ID + 1]
    grid.num_failures = 2
    assert PatientGrid(grid).pull_messages(["unknown"]) == []


def test_patience_ends(grid: StumblingGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messaging, "_PATIENCE_S", 0.05)
    grid.num_failures = 10**9
    with pytest.raises(FederationError, match=r"the SuperLink does not answer for 0.05 s: 500 Internal Server Error"):
        PatientGrid(grid).get_node_ids()


class ExpiringGrid(InProcessGrid):
    """Drops replies when their message's time to live is over, as a SuperLink does."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        held = [self._replies[i] for i in message_ids if i in self._replies]
        return [
            reply
            for reply in super().pull_messages([reply.metadata.reply_to_message_id for reply in held])
            if time.time() < reply.metadata.created_at + reply.metadata.ttl
        ]


def test_one_lost_site_does_not_cost_the_replies_that_are_fetched_after_the_deadline() -> None:
    app = answering_app(lambda context: lambda parameters, config: (parameters, 1, {}))
    grid = ExpiringGrid(app, [{}, {}, {}], {}, tamper=lambda reply, index: None if index == 0 else reply)
    messages = [fit_message(FIRST_NODE_ID + i, ArrayRecord(), {"phase": "train"}, timeout_s=0.3) for i in range(3)]
    replies = list(replies_to(grid, messages, timeout_s=0.3))
    assert [reply.metadata.src_node_id for reply in replies] == [FIRST_NODE_ID + 1, FIRST_NODE_ID + 2]
    assert not any(reply.has_error() for reply in replies)


def answering_grid() -> InProcessGrid:
    return InProcessGrid(answering_app(lambda context: lambda parameters, config: (parameters, 1, {})), [{}, {}], {})


def train_message(index: int, round_number: int) -> Message:
    config = {"phase": "train", "server-round": round_number}
    return fit_message(FIRST_NODE_ID + index, ArrayRecord(), config, timeout_s=0.1)


class StaleGrid(InProcessGrid):
    """Gives out the first round's replies with those of every later round, before or after them."""

    is_first = True

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = list(super().push_messages(messages))
        self.old = getattr(self, "old", [copy.deepcopy(self._replies[i]) for i in ids])
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        fresh = list(super().pull_messages(message_ids))
        return [*self.old, *fresh] if self.is_first else [*fresh, *self.old]


@pytest.mark.parametrize("is_first", [True, False])
def test_a_late_reply_of_an_earlier_round_is_dropped_by_name(is_first: bool, caplog: pytest.LogCaptureFixture) -> None:
    app = answering_app(lambda context: lambda parameters, config: (parameters, 1, {}))
    grid = StaleGrid(app, [{}, {}], {})
    grid.is_first = is_first
    list(replies_to(grid, [train_message(index, 3) for index in range(2)], timeout_s=0.1))
    messages = [train_message(index, 4) for index in range(2)]
    replies = list(replies_to(grid, messages, timeout_s=0.1))
    assert [reply.metadata.group_id for reply in replies] == ["4", "4"]
    ids = [message.metadata.message_id for message in messages]
    assert [reply.metadata.reply_to_message_id for reply in replies] == ids
    assert "round 4: node 1000: a late reply, to a message of round 3, is dropped" in caplog.text


def test_a_late_reply_alone_is_no_reply() -> None:
    grid = answering_grid()
    (early,) = replies_to(grid, [train_message(0, 3)], timeout_s=0.1)
    late = InProcessGrid(grid._app, [{}], {}, tamper=lambda reply, index: early)
    assert list(replies_to(late, [train_message(0, 4)], timeout_s=0.1)) == []


def test_the_same_message_id_with_another_round_is_no_reply() -> None:
    def of_another_round(reply: Message, index: int) -> Message:
        reply.metadata.__dict__["_group_id"] = "3"
        return reply

    grid = InProcessGrid(answering_grid()._app, [{}], {}, tamper=of_another_round)
    assert list(replies_to(grid, [train_message(0, 4)], timeout_s=0.1)) == []


class RepeatingGrid(InProcessGrid):
    """Delivers every reply twice."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [copy.deepcopy(reply) for reply in super().pull_messages(message_ids) for _ in range(2)]


def test_a_reply_that_comes_twice_is_used_once(caplog: pytest.LogCaptureFixture) -> None:
    grid = RepeatingGrid(answering_grid()._app, [{}, {}], {})
    replies = list(replies_to(grid, [train_message(index, 1) for index in range(2)], timeout_s=0.1))
    assert [reply.metadata.src_node_id for reply in replies] == [FIRST_NODE_ID, FIRST_NODE_ID + 1]
    assert "round 1: node 1001 has answered 2 times; one reply is used" in caplog.text


class UnreadableGrid(InProcessGrid):
    """Flower cannot put the first node's reply together."""

    error: Exception

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        found = list(super().pull_messages(message_ids))
        if found and found[0].metadata.src_node_id == FIRST_NODE_ID:
            raise self.error
        return found


@pytest.mark.parametrize("error", [ValueError("children\x1b[2J"), MemoryError(), KeyError("x"), RecursionError("deep")])
def test_a_reply_that_flower_cannot_put_together_is_an_error_of_its_site(error: Exception) -> None:
    grid = UnreadableGrid(answering_grid()._app, [{}, {}], {})
    grid.error = error
    messages = [train_message(index, 1) for index in range(2)]
    bad, good = replies_to(grid, messages, timeout_s=0.1)
    assert bad.metadata.reply_to_message_id == messages[0].metadata.message_id
    assert not good.has_error()
    with pytest.raises(RejectedUpdateError) as caught:
        read_fit_reply(bad, [])
    assert caught.value.kind is Rejection.UNREADABLE
    assert f"sent a reply that cannot be read ({type(error).__name__}" in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_superlink_that_does_not_answer_is_no_fault_of_a_site() -> None:
    grid = UnreadableGrid(answering_grid()._app, [{}], {})
    grid.error = FederationError("the SuperLink does not answer")
    with pytest.raises(FederationError, match="the SuperLink does not answer"):
        list(replies_to(grid, [train_message(0, 1)], timeout_s=0.1))


class UploadingSuperLink:
    """Has the replies of two sites; parts of the first one's contents are never there."""

    def __init__(self, replies: list[Message]) -> None:
        self._replies = {reply.metadata.reply_to_message_id: reply for reply in replies}
        self._parts = [get_all_nested_objects(reply) for reply in replies]
        self.num_asked_in_vain = 0

    def PushMessages(self, request: PushAppMessagesRequest) -> PushAppMessagesResponse:
        return PushAppMessagesResponse(message_ids=[one.metadata.message_id for one in request.messages_list])

    def PushObject(self, request: object) -> None:
        raise AssertionError("it wants no part of a message")

    def PullMessages(self, request: PullAppMessagesRequest) -> PullAppMessagesResponse:
        reply = self._replies[request.message_ids[0]]
        message = message_to_proto(remove_content_from_message(reply))
        return PullAppMessagesResponse(messages_list=[message], message_object_trees=[get_object_tree(reply)])

    def PullObject(self, request: PullObjectRequest) -> PullObjectResponse:
        of_first, of_second = self._parts
        if request.object_id in of_second:
            content = of_second[request.object_id].deflate()
            return PullObjectResponse(object_found=True, object_available=True, object_content=content)
        assert request.object_id in of_first
        self.num_asked_in_vain += 1
        return PullObjectResponse(object_found=True, object_available=False)

    def ConfirmMessageReceived(self, request: object) -> ConfirmMessageReceivedResponse:
        return ConfirmMessageReceivedResponse()


@pytest.fixture
def uploading(monkeypatch: pytest.MonkeyPatch) -> tuple[HttpGrid, UploadingSuperLink, list[Message]]:
    """Flower's grid, the SuperLink behind it, and the messages that are to be sent."""
    monkeypatch.setattr(reply_limit, "_POLL_INTERVAL_S", 0.01)
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    messages, replies = [train_message(index, 1) for index in range(2)], []
    for index, message in enumerate(messages):
        message.metadata.__dict__["_message_id"] = message.object_id
        parameters = ArrayRecord([np.full(3, index, np.float32)])
        reply = Message(RecordDict({"fitres.parameters": parameters}), reply_to=message)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        replies.append(reply)
    grid, superlink = HttpGrid("127.0.0.1:1", insecure=True, token="t"), UploadingSuperLink(replies)
    grid.set_run(Run.create_empty(1))
    grid._client = superlink
    return grid, superlink, messages


def test_a_reply_that_is_never_there_as_a_whole_costs_a_round_its_timeout_and_no_other_reply(
    uploading: tuple[HttpGrid, UploadingSuperLink, list[Message]],
) -> None:
    grid, _, messages = uploading
    late, whole = replies_to(grid, messages, timeout_s=0.1)
    assert late.error.code == ErrorCode.MESSAGE_UNAVAILABLE
    assert late.metadata.reply_to_message_id == messages[0].metadata.message_id
    assert whole.content.array_records["fitres.parameters"]["0"].numpy().tolist() == [1, 1, 1]


def test_a_signal_is_obeyed_while_a_reply_is_on_its_way(
    uploading: tuple[HttpGrid, UploadingSuperLink, list[Message]],
) -> None:
    grid, superlink, messages = uploading

    def check() -> None:
        if superlink.num_asked_in_vain:
            raise TerminatedError("stopped by SIGTERM")

    with pytest.raises(TerminatedError):
        list(replies_to(grid, messages, timeout_s=60, on_wait=check))
