"""A site's SuperNode, as far as messages and answers go."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Message, RecordDict
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import start_client_internal
from flwr.supernode.nodestate import NodeState, NodeStateFactory

from client.supernode.answering import push_what_is_owed
from client.supernode.one_task_kind import pull_or_refuse
from client.supernode.owed_reply import OwedReply
from client.supernode.refused_tasks import RefusedTasks

RUN_ID = 12
FAB = b"no archive at all"


def message_with(content: RecordDict) -> Message:
    """As the server app of the run sends it to the site."""
    with pytest.MonkeyPatch.context() as server:
        for name, value in (("_task_id", 3), ("_run_id", RUN_ID), ("_node_id", 1)):
            server.setattr(TaskIdentity, name, value)
        message = Message(content, dst_node_id=5, message_type="query")
    message.metadata.__dict__["_message_id"] = message.object_id
    return message


class Site:
    """Flower's own state of a SuperNode, and a SuperLink that has one message for it."""

    def __init__(self, folder: Path, task_type: str) -> None:
        self.refused, self.owed = RefusedTasks(folder), OwedReply(folder)
        self.is_cut_off = False
        self.fetched: list[str] = []
        self.ended_for: list[str] = []
        self.rung: list[int] = []
        """Tasks that there were when the bell was rung, of each time."""
        objects = ObjectStoreFactory()
        self.state: NodeState = NodeStateFactory(objectstore_factory=objects).state()
        self.state.set_node_id(5)
        self.objects = objects.store()
        self.run = Run.create_empty(RUN_ID)
        self.run.primary_task_type = task_type
        self.message = message_with(RecordDict())

    def step(self) -> int | None:
        """What `flower-supernode` does with a message, below the site's guard."""
        return pull_or_refuse(
            start_client_internal._pull_and_store_message,
            self.refused,
            self.owed,
            lambda: self.rung.append(len(self.tasks())),
            state=self.state,
            object_store=self.objects,
            node_config={"partition-id": 0},
            receive=lambda: (self.message, get_object_tree(self.message)),
            get_run=lambda run_id: self.run,
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
        content: bytes = get_all_nested_objects(self.message)[object_id].deflate()
        return content

    def replies(self) -> list[Message]:
        return list(self.state.get_messages_legacy(is_reply=True))

    def send(
        self,
        error: BaseException | None = None,
        *,
        of_contents: bool = False,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> list[Message]:
        """What `flower-supernode` does next; with an error an answer cannot be sent, or not whole.

        Args:
            error: of the connection.
            of_contents: whether the error comes only after the answer's head was taken.
            meanwhile: called whenever an answer's head was taken.
        """
        sent: list[Message] = []

        def take(message: Message, tree: ObjectTree, runtime_s: float) -> tuple[set[str], str]:
            if error is not None and not of_contents:
                raise error
            sent.append(message)
            meanwhile()
            return {tree.object_id}, ""

        def take_part(*content: object) -> None:
            if error is not None:
                raise error

        push_what_is_owed(
            start_client_internal._push_messages,
            self.owed,
            state=self.state,
            object_store=self.objects,
            send=take,
            push_object=take_part,
            end=self._end,
        )
        return sent

    def _end(self, reason: str) -> None:
        self.ended_for.append(reason)
        raise SystemExit(1)  # as the signal does that the process sends itself

    def tasks(self) -> list[str]:
        return [task.type for task in self.state.get_tasks()]
