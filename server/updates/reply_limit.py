"""Limits on what one reply may make Flower fetch, allocate and wait for, which has none, or others, of its own.

A reply is a tree of objects at the SuperLink. Flower fetches all of them into memory, whatever their size, and an array
names its chunks by number: one chunk of 5 MB that is named a million times is an array of 5 TB. It begins as soon as
the tree is there, and waits for objects that are still on their way: for two hours, whatever the round's timeout is.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from flwr.app import Array
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_object_body,
    get_object_children_ids_from_object_content,
)
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError
from flwr.superlink.grid import http_grid

from model.files import json_of

_POLL_INTERVAL_S = 0.5


class _Allowance:
    """Bytes that may still come, of all objects together and of all arrays together, and time for them."""

    def __init__(self, num_bytes: int, deadline: float, on_wait: Callable[[], None]) -> None:
        self.deadline = deadline
        self.on_wait = on_wait
        self._num_bytes = num_bytes
        self._left = {"objects": num_bytes, "arrays": num_bytes}
        self._lock = threading.Lock()

    def take(self, what: str, num_bytes: int) -> None:
        with self._lock:  # Flower fetches several objects at a time
            self._left[what] -= num_bytes
            if self._left[what] < 0:
                raise ValueError(f"its {what} have more than {self._num_bytes} bytes")


class _Meanwhile:
    """Calls a function about twice a second while threads fetch objects, from one of them at a time."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._next = time.monotonic() + _POLL_INTERVAL_S
        self._lock = threading.Lock()

    def pass_by(self) -> None:
        """Call it if it is time and no other thread does."""
        if self._lock.acquire(blocking=False):
            try:
                if time.monotonic() >= self._next:
                    self._call()
                    self._next = time.monotonic() + _POLL_INTERVAL_S
            finally:
                self._lock.release()

    def end(self) -> None:
        """When this returns no call is under way, and none will be."""
        with self._lock:
            self._next = math.inf


_allowance: ContextVar[_Allowance | None] = ContextVar("_allowance", default=None)
_inflate: Callable[..., Array] = Array.inflate
_pull_objects: Callable[..., dict[str, bytes]] = http_grid.pull_objects


@contextlib.contextmanager
def limited_to(
    num_bytes: int, *, deadline: float = math.inf, on_wait: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Within it, fetching a reply raises ValueError before more than `num_bytes` are held, by fetching or in arrays.

    Args:
        num_bytes: of all objects, and of all arrays.
        deadline: by `time.monotonic`. Objects that are not there are waited for until then, and make the reply one that
            is lost; those that are there are fetched after it too.
        on_wait: called about twice a second while objects are fetched or waited for, in one of Flower's threads, one
            call at a time; what it raises ends the fetching.
    """
    token = _allowance.set(_Allowance(num_bytes, deadline, on_wait))
    try:
        yield
    finally:
        _allowance.reset(token)


def _limited_inflate(object_content: bytes, children: Mapping[str, InflatableObject] | None = None) -> Array:
    allowance = _allowance.get()
    if allowance is not None:
        ids = get_object_children_ids_from_object_content(object_content)
        sizes = [len(child.data) if (child := (children or {}).get(name)) else 0 for name in ids]
        indices = json_of(get_object_body(object_content, Array))["arraychunk_ids"]
        allowance.take("arrays", sum(sizes[index] for index in indices))
    return _inflate(object_content, children)


def _limited_pull_objects(
    object_ids: list[str], pull_object_fn: Callable[[str], bytes], **options: Any
) -> dict[str, bytes]:
    allowance = _allowance.get()
    if allowance is None:
        return _pull_objects(object_ids, pull_object_fn, **options)

    meanwhile = _Meanwhile(allowance.on_wait)

    def pull(object_id: str) -> bytes:
        meanwhile.pass_by()
        try:
            content = pull_object_fn(object_id)
        except ObjectUnavailableError:
            if time.monotonic() >= allowance.deadline:
                raise ObjectPullError(object_id, "it was not there at the deadline") from None
            raise  # Flower asks again
        allowance.take("objects", len(content))
        return content

    options |= {"max_time": None, "max_tries_per_object": None}
    options |= {"initial_backoff": _POLL_INTERVAL_S, "backoff_cap": _POLL_INTERVAL_S}
    try:
        return _pull_objects(object_ids, pull, **options)
    finally:
        meanwhile.end()


# Flower has no hook for either; the names are looked up at every call.
Array.inflate = _limited_inflate
http_grid.pull_objects = _limited_pull_objects
