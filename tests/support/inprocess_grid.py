"""A Flower grid without processes: client apps are called when their replies are pushed for, in a chosen order."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

FIRST_NODE_ID = 1000
Tamper = Callable[[Message, int], Message | None]


def lost(reply: Message) -> Message:
    """In the place of a reply, what Flower says of a site that is gone."""
    error = Message(Error(code=ErrorCode.NODE_UNAVAILABLE, reason="gone"), reply_to=reply)
    error.metadata.__dict__["_reply_to_message_id"] = reply.metadata.reply_to_message_id
    return error


class InProcessGrid(Grid):
    """Nodes 1000, 1001, ... run one ClientApp each; a reply may be tampered with or lost.

    Args:
        app: the ClientApp of every node.
        node_configs: one per node.
        run_config: flat settings, as `flwr run` would pass them.
        arrival: node indices in the order in which the nodes answer; by default ascending.
        tamper: called with (reply, node index); returns the reply to deliver, or None to lose it.
    """

    def __init__(
        self,
        app: ClientApp,
        node_configs: Sequence[Mapping[str, object]],
        run_config: Mapping[str, object],
        *,
        arrival: Sequence[int] | None = None,
        tamper: Tamper | None = None,
    ) -> None:
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        self._app = app
        self._run = Run.create_empty(1)
        self._arrival = list(arrival if arrival is not None else range(len(node_configs)))
        self._tamper = tamper or (lambda reply, index: reply)
        self._contexts = [
            Context(1, FIRST_NODE_ID + index, dict(config), RecordDict(), dict(run_config))
            for index, config in enumerate(node_configs)
        ]
        self._replies: dict[str, Message] = {}
        self._num_messages = 0
        self.pulled: list[int] = []
        """Node index of every reply delivered, in the order of delivery."""

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise NotImplementedError("Message(...) is the way to make one")

    def get_node_ids(self) -> Iterable[int]:
        return [context.node_id for context in self._contexts]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        for message in messages:
            self._name(message)
        for index in self._arrival:
            for message in messages:
                if message.metadata.dst_node_id == FIRST_NODE_ID + index:
                    self._answer(message, index)
        return [message.metadata.message_id for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        found = [self._replies.pop(i) for i in list(message_ids) if i in self._replies]
        self.pulled += [reply.metadata.src_node_id - FIRST_NODE_ID for reply in found]
        return found

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Message, index: int) -> None:
        try:
            reply = self._app(copy.deepcopy(message), self._contexts[index])  # a wire never shares arrays
        except Exception as error:  # the process edge, as in Flower's own grids
            reply = Message(Error(code=2, reason=f"{type(error)}:<'{error}'>"), reply_to=message)
        self._name(reply)
        delivered = self._tamper(reply, index)
        if delivered is not None:
            self._replies[message.metadata.message_id] = delivered

    def _name(self, message: Message) -> None:
        self._num_messages += 1
        message.metadata.__dict__["_message_id"] = f"message-{self._num_messages}"
