"""A limit on what one reply may make Flower fetch and allocate, which has none of its own.

A reply is a tree of objects at the SuperLink. Flower fetches all of them into memory, whatever their size, and an array
names its chunks by number: one chunk of 5 MB that is named a million times is an array of 5 TB.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from flwr.app import Array
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_object_body,
    get_object_children_ids_from_object_content,
)
from flwr.superlink.grid import http_grid

from model.files import json_of


class _Allowance:
    """Bytes that may still come, of all objects together and of all arrays together."""

    def __init__(self, num_bytes: int) -> None:
        self._num_bytes = num_bytes
        self._left = {"objects": num_bytes, "arrays": num_bytes}
        self._lock = threading.Lock()

    def take(self, what: str, num_bytes: int) -> None:
        with self._lock:  # Flower fetches several objects at a time
            self._left[what] -= num_bytes
            if self._left[what] < 0:
                raise ValueError(f"its {what} have more than {self._num_bytes} bytes")


_allowance: ContextVar[_Allowance | None] = ContextVar("_allowance", default=None)
_inflate: Callable[..., Array] = Array.inflate
_pull_objects: Callable[..., dict[str, bytes]] = http_grid.pull_objects


@contextlib.contextmanager
def limited_to(num_bytes: int) -> Iterator[None]:
    """Within it, fetching a reply raises ValueError before more than `num_bytes` are held, by fetching or in arrays."""
    token = _allowance.set(_Allowance(num_bytes))
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

    def pull(object_id: str) -> bytes:
        content = pull_object_fn(object_id)
        if allowance is not None:
            allowance.take("objects", len(content))
        return content

    return _pull_objects(object_ids, pull, **options)


# Flower has no hook for either; the names are looked up at every call.
Array.inflate = _limited_inflate
http_grid.pull_objects = _limited_pull_objects
