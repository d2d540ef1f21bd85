"""Sending a phase to nodes and fetching the replies in a fixed order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from model.config import Scalar

_POLL_INTERVAL_S = 0.5


def fit_message(node_id: int, arrays: ArrayRecord, config: Mapping[str, Scalar], *, ttl_s: float) -> Message:
    """A message that a NumPyClient answers with `fit`.

    Args:
        node_id: whom it is for.
        arrays: may be shared between messages; it is not changed.
        config: the round's scalars.
        ttl_s: seconds after which neither the message nor its reply counts.
    """
    content = RecordDict({"fitins.parameters": arrays, "fitins.config": ConfigRecord(dict(config))})
    return Message(content, node_id, MessageType.TRAIN, ttl=ttl_s, group_id=str(config.get("server-round", 0)))


def exchange(
    grid: Grid, messages: Sequence[Message], *, timeout_s: float, on_wait: Callable[[], None] | None = None
) -> Iterator[Message]:
    """Send the messages now; yield their replies in the order of the messages, one in memory at a time.

    A reply that is early waits at the SuperLink until its turn, so what the caller does with the replies
    does not depend on who was first. At the deadline the replies that are there are still yielded, and the
    others skipped.

    Args:
        grid: Flower's.
        messages: sent at once; they have their ids when this returns.
        timeout_s: longest wait for all replies together, in seconds.
        on_wait: called about twice a second while a reply is waited for.
    """
    deadline = time.monotonic() + timeout_s
    if messages:
        grid.push_messages(messages)
    message_ids = [message.metadata.message_id for message in messages]
    return (reply for message_id in message_ids for reply in _pull(grid, message_id, deadline, on_wait))


def _pull(grid: Grid, message_id: str, deadline: float, on_wait: Callable[[], None] | None) -> list[Message]:
    """The reply to one message in a list, which is empty if there is none at the deadline."""
    while True:
        replies = list(grid.pull_messages([message_id]))
        remaining_s = deadline - time.monotonic()
        if replies or remaining_s <= 0:
            return replies
        if on_wait is not None:
            on_wait()
        time.sleep(min(_POLL_INTERVAL_S, remaining_s))
