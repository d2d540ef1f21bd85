"""Every message gets its answer, and no other: Flower's step that waits for an answer and sends it, made to end.

Flower waits for good where the process that works on a message ends before it has fetched it, or before its answer is
whole: the site is connected and never heard of again. It takes any answer for the one it waits for, also a late one to
an earlier message, and is one behind ever after. It waits for a process that hangs, though nobody has waited for its
answer for long, and for one that was never started. And it drops an answer that it cannot send.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flwr.app import Message
from flwr.common.constant import Status, SubStatus
from flwr.supercore.object_store import ObjectStore
from flwr.supernode import start_client_internal
from flwr.supernode.nodestate import NodeState

from client.supernode.owed_reply import OwedReply

_log = logging.getLogger(__name__)

_TAKEN_UP_WITHIN_S = 600.0
"""For a process to be started for a message, and to fetch it from this one: what takes seconds on a quiet machine."""

_UNFINISHED = (Status.PENDING, Status.STARTING, Status.RUNNING)


def insert(reply: Message, state: NodeState, object_store: ObjectStore) -> None:
    """Have a reply sent in the next step."""
    start_client_internal._insert_message(reply, state, object_store)


def push_what_is_owed(
    push: Callable[..., None],
    owed: OwedReply,
    *,
    state: NodeState,
    object_store: ObjectStore,
    send: Callable[..., tuple[set[str], str]],
    push_object: Callable[..., None],
    end: Callable[[str], None],
) -> None:
    """Send answers until the one that is owed has been sent, or could not be, and is then still owed.

    Args:
        push: Flower's function.
        owed: settled here, or put off.
        state: of the node.
        object_store: of the node.
        send: sends an answer without its contents.
        push_object: sends a part of the contents.
        end: ends the site, for a reason; called where no process has fetched the message for long. Whatever starts
            processes hangs then, and would with the next message; a site that is started anew answers for this one.
    """
    lost = owed.due(state.get_node_id())
    assert lost is not None, "Flower pushes after a message was received, or one was owed"
    wanted = lost.metadata.reply_to_message_id
    delivery = _Delivery(send, push_object)
    seen = {
        "state": _State(state, object_store, lost, end),
        "object_store": _Objects(state, object_store, delivery),
        "send": delivery.send,
        "push_object": delivery.push_object,
    }
    while wanted not in delivery.is_sent:
        push(**seen)
    if delivery.is_sent[wanted]:
        owed.settle()
    else:
        owed.put_off()


class _Delivery:
    """What is sent, and whether it could be. That a run has ended is no failure: nobody waits for an answer then."""

    def __init__(self, send: Callable[..., tuple[set[str], str]], push_object: Callable[..., None]) -> None:
        self._send, self._push_object = send, push_object
        self.run_id = 0
        """Of the answer that is on its way."""
        self._current = ""
        self.is_sent: dict[str, bool] = {}
        """Id of a message that was answered to whether the whole answer went out."""

    def send(self, reply: Message, *others: Any) -> tuple[set[str], str]:
        self.run_id, self._current = reply.metadata.run_id, reply.metadata.reply_to_message_id
        self.is_sent[self._current] = True
        with self.noting_errors():
            return self._send(reply, *others)

    def push_object(self, *part: Any) -> None:
        with self.noting_errors():
            self._push_object(*part)

    @contextlib.contextmanager
    def noting_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            self.is_sent[self._current] = False
            raise


class _State:
    """The node's state, in which an answer appears that no process will give any more."""

    def __init__(self, state: NodeState, object_store: ObjectStore, lost: Message, end: Callable[[str], None]) -> None:
        self._state, self._object_store, self._lost, self._end = state, object_store, lost, end
        self._taken_up_until_s = time.monotonic() + _TAKEN_UP_WITHIN_S

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def get_messages_legacy(self, **filters: Any) -> Sequence[Message]:
        """Replies that are there; Flower asks about twice a second until there is one."""
        about = self._lost.metadata
        if time.time() > about.created_at + about.ttl:
            self._give_up(about.run_id)
        # Its process has it deleted here when it has it whole.
        elif about.reply_to_message_id in self._object_store and time.monotonic() > self._taken_up_until_s:
            self._end(f"no process has fetched a message of run {about.run_id} within {_TAKEN_UP_WITHIN_S:.0f} s")
        # Asked first: while a process lives, its reply may come between two looks.
        can_come = _is_worked_on(self._state, about.run_id)
        replies: Sequence[Message] = self._state.get_messages_legacy(**filters)
        if not replies and not can_come:
            _log.error("the process that worked on a message of run %s ended without an answer", about.run_id)
            insert(self._lost, self._state, self._object_store)
            replies = self._state.get_messages_legacy(**filters)
        return replies

    def _give_up(self, run_id: int) -> None:
        """Past the message's time to live; a process that still works on it hears so with its next heartbeat."""
        for task in self._state.get_tasks(run_ids=[run_id], statuses=_UNFINISHED):
            _log.error("nobody waits any more for the answer of a process of run %s; it is given up", run_id)
            self._state.finish_task(task.task_id, SubStatus.FAILED, "its message's time to live is over")


class _Objects:
    """The node's store of objects, in which a part that will not come is an error."""

    def __init__(self, state: NodeState, object_store: ObjectStore, delivery: _Delivery) -> None:
        self._state, self._object_store, self._delivery = state, object_store, delivery

    def __getattr__(self, name: str) -> Any:
        return getattr(self._object_store, name)

    def get(self, object_id: str) -> bytes | None:
        """A part of an answer; empty while it is awaited.

        Raises:
            RuntimeError: if nobody is left to bring it.
        """
        can_come = _is_worked_on(self._state, self._delivery.run_id)
        content: bytes | None = self._object_store.get(object_id)
        if content == b"" and not can_come:
            with self._delivery.noting_errors():
                raise RuntimeError("the process that worked on it ended before its answer was whole")
        return content


def _is_worked_on(state: NodeState, run_id: int) -> bool:
    """Whether a process works on a message of the run, or is to be started for it."""
    return bool(state.get_tasks(run_ids=[run_id], statuses=_UNFINISHED))
