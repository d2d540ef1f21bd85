"""Sending a phase to nodes and fetching the replies in a fixed order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import httpx
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from model.errors import FederationError, FedreenactError
from model.setting import Scalar
from server.updates.reply import UNREADABLE_REPLY, printable, size_in_bytes
from server.updates.reply_limit import limited_to

_log = logging.getLogger(__name__)

T = TypeVar("T")

_POLL_INTERVAL_S = 0.5
_PATIENCE_S = 60.0
_RETRY_INTERVAL_S = 2.0
_FETCHING_S = 1800.0
"""For fetching the replies that are there at the deadline, one after the other over a slow line."""
_MAX_GROWTH = 4
_MAX_REPLY_BYTES = 64 * 2**20
"""A reply has at most that many bytes, and `_MAX_GROWTH` times those that were sent: masked updates have twice as many,
and where nothing was sent little comes back."""


class PatientGrid(Grid):  # type: ignore[misc]
    """A grid that asks again when the SuperLink stumbles (HTTP 500, a restart), for as long as a minute."""

    def __init__(self, grid: Grid, on_wait: Callable[[], None] = lambda: None) -> None:
        """Wrap a grid.

        Args:
            grid: Flower's.
            on_wait: called before every further attempt.
        """
        self._grid = grid
        self._on_wait = on_wait

    def set_run(self, run: Run) -> None:
        """As the grid does."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """As the grid's."""
        return self._grid.run

    def create_message(self, *args: object, **kwargs: object) -> Message:
        """As the grid does."""
        message: Message = self._grid.create_message(*args, **kwargs)
        return message

    def get_node_ids(self) -> Iterable[int]:
        """Nodes that are connected."""
        return list(self._patiently(self._grid.get_node_ids))

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send; returns the messages' ids."""
        held = list(messages)
        return list(self._patiently(lambda: self._grid.push_messages(held)))

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies that are there."""
        held = list(message_ids)
        return list(self._patiently(lambda: self._grid.pull_messages(held)))

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """As the grid does."""
        replies: Iterable[Message] = self._grid.send_and_receive(messages, timeout=timeout)
        return replies

    def _patiently(self, ask: Callable[[], Iterable[T]]) -> Iterable[T]:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return ask()
            except httpx.HTTPError as error:
                if time.monotonic() >= deadline:
                    raise FederationError(f"the SuperLink does not answer for {_PATIENCE_S:g} s: {error}") from error
                self._on_wait()
                _log.warning("the SuperLink stumbles, asking again: %s", " ".join(str(error).split()))
                time.sleep(_RETRY_INTERVAL_S)


def fit_message(node_id: int, arrays: ArrayRecord, config: Mapping[str, Scalar], *, timeout_s: float) -> Message:
    """A message that a NumPyClient answers with `fit`.

    Args:
        node_id: whom it is for.
        arrays: may be shared between messages; it is not changed.
        config: the round's scalars.
        timeout_s: longest wait for the reply, as for `replies_to`. Flower keeps the reply for longer: it drops replies
            together with the message's time to live, and those that are in time are fetched after the deadline.
    """
    content = RecordDict({"fitins.parameters": arrays, "fitins.config": ConfigRecord(dict(config))})
    ttl_s = timeout_s + _FETCHING_S
    return Message(content, node_id, MessageType.TRAIN, ttl=ttl_s, group_id=str(config.get("server-round", 0)))


def replies_to(
    grid: Grid,
    messages: Sequence[Message],
    *,
    timeout_s: float,
    on_wait: Callable[[], None] | None = None,
    not_awaited: Collection[int] = (),
) -> Iterator[Message]:
    """Send the messages now; yield their replies in the order of the messages, one in memory at a time.

    A reply that is early waits at the SuperLink until its turn, so what the caller does with the replies
    does not depend on who was first. At the deadline the replies that are there as a whole are still yielded, the
    others skipped, and for one that is there in part an error stands. A message has one reply: a second one, and one
    to another message, are dropped by name. In the place of a reply that is far too large, or that Flower cannot put
    together, stands an error with the code `UNREADABLE_REPLY`.

    Args:
        grid: Flower's.
        messages: sent at once; they have their ids when this returns.
        timeout_s: longest wait for all replies together, in seconds.
        on_wait: called before every look for a reply, and while one is fetched, about twice a second; there in another
            thread, while this one waits.
        not_awaited: nodes whose replies are yielded last, if they are there when all others are.
    """
    deadline = time.monotonic() + timeout_s
    if messages:
        grid.push_messages(messages)
    deadlines = [0.0 if message.metadata.dst_node_id in not_awaited else deadline for message in messages]
    ordered = sorted(zip(deadlines, messages, strict=True), key=lambda each: -each[0])  # the awaited first, in order
    return (reply for until, message in ordered for reply in _pull(grid, message, until, on_wait))


def reply_now(
    grid: Grid, message: Message, *, whole_within_s: float = 0.0, on_wait: Callable[[], None] | None = None
) -> Message | None:
    """The reply to a message that was sent before, if it is there by now, as of `replies_to`.

    Args:
        grid: Flower's.
        message: that was sent.
        whole_within_s: how long the rest of a reply that is there in part is waited for, in seconds.
        on_wait: called meanwhile, about twice a second, in another thread.
    """
    return next(iter(_found(grid, message, time.monotonic() + whole_within_s, on_wait)), None)


def _pull(grid: Grid, message: Message, deadline: float, on_wait: Callable[[], None] | None) -> list[Message]:
    """The reply to one message in a list, which is empty if there is none at the deadline."""
    while True:
        if on_wait is not None:
            on_wait()
        found = _found(grid, message, deadline, on_wait)
        remaining_s = deadline - time.monotonic()
        if found or remaining_s <= 0:
            return found
        time.sleep(min(_POLL_INTERVAL_S, remaining_s))


def _found(grid: Grid, message: Message, deadline: float, on_wait: Callable[[], None] | None) -> list[Message]:
    """The reply to one message in a list, which is empty if nothing of it is there now."""
    found = [reply for reply in _fetch(grid, message, deadline, on_wait) if _is_reply(reply, message)]
    if len(found) > 1:
        _log.warning("%s has answered %d times; one reply is used", _described(message), len(found))
    return found[:1]


def _fetch(grid: Grid, message: Message, deadline: float, on_wait: Callable[[], None] | None) -> list[Message]:
    """What is there for a message now, once it is there as a whole; an error for what is not at the deadline."""
    sent = size_in_bytes(message.content.array_records["fitins.parameters"])
    try:
        most = _MAX_REPLY_BYTES + _MAX_GROWTH * sent
        with limited_to(most, deadline=deadline, on_wait=on_wait or (lambda: None)):
            return list(grid.pull_messages([message.metadata.message_id]))
    except (FedreenactError, httpx.HTTPError):
        raise  # no fault of the reply's
    except Exception as error:
        reason = f"sent a reply that cannot be read ({type(error).__name__}: {error})"
        return [Message(Error(UNREADABLE_REPLY, reason), reply_to=message)]


def _is_reply(reply: Message, message: Message) -> bool:
    """Whether this answers the message; Flower's own notices of lost replies belong to no group."""
    got, wanted = reply.metadata, message.metadata
    if got.reply_to_message_id == wanted.message_id and got.group_id in ("", wanted.group_id):
        return True
    _log.warning("%s: a late reply, to a message of round %s, is dropped", _described(message), printable(got.group_id))
    return False


def _described(message: Message) -> str:
    return f"round {message.metadata.group_id}: node {message.metadata.dst_node_id}"
