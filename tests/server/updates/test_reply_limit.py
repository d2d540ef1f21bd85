"""The limit on what Flower fetches and allocates for one reply, on Flower's own objects."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectUnavailableError,
    inflate_object_from_contents,
)
from flwr.superlink.grid import http_grid

from server.termination import TerminatedError
from server.updates import reply_limit
from server.updates.reply_limit import limited_to


def contents(record: ArrayRecord) -> dict[str, bytes]:
    """As they lie at the SuperLink, by id."""
    return {name: part.deflate() for name, part in get_all_nested_objects(record).items()}


def naming_its_chunk_often(num_times: int) -> tuple[str, dict[str, bytes]]:
    """An array whose one chunk of 1 MB is in it so many times; a few kilobytes more on the wire."""
    array = Array("float32", (250_000,), "numpy.ndarray", bytes(10**6))
    ((name, chunk),) = array.slice_array()
    array.__dict__["_chunks"] = [(name, chunk)] * num_times
    return array.object_id, {array.object_id: array.deflate(), name: chunk.deflate()}


def test_an_honest_record_passes() -> None:
    record = ArrayRecord([np.zeros(10**6, np.float32), np.ones(3)])
    with limited_to(4_000_500):
        again = inflate_object_from_contents(record.object_id, contents(record))
    assert isinstance(again, ArrayRecord)
    assert [array.numpy().shape for array in again.values()] == [(10**6,), (3,)]


def test_arrays_that_repeat_a_chunk_are_not_built() -> None:
    name, objects = naming_its_chunk_often(1_000_000)  # of 1 TB
    with limited_to(10**8), pytest.raises(ValueError, match="its arrays have more than 100000000 bytes"):
        inflate_object_from_contents(name, objects)


def test_the_limit_is_for_all_arrays_of_a_reply_together() -> None:
    name, objects = naming_its_chunk_often(4)
    with limited_to(6 * 10**6), pytest.raises(ValueError, match="its arrays have more than"):
        for _ in range(2):
            inflate_object_from_contents(name, dict(objects))
    for _ in range(2):
        with limited_to(6 * 10**6):
            inflate_object_from_contents(name, dict(objects))


def test_objects_beyond_the_limit_are_not_fetched() -> None:
    fetched: list[str] = []

    def fetch(name: str) -> bytes:
        fetched.append(name)
        return bytes(1000)

    names = [f"object-{index}" for index in range(1000)]
    with limited_to(10_000), pytest.raises(ValueError, match="its objects have more than 10000 bytes"):
        http_grid.pull_objects(names, fetch)
    assert len(fetched) < 50
    with limited_to(10**6):
        assert len(http_grid.pull_objects(names, fetch)) == 1000


def there_after(num_tries: float) -> tuple[list[str], Callable[[str], bytes]]:
    """Names of objects that were asked for, and what fetches them; "late" is there after so many tries."""
    asked: list[str] = []

    def fetch(name: str) -> bytes:
        asked.append(name)
        if name == "late" and asked.count(name) <= num_tries:
            raise ObjectUnavailableError(name)
        return b"content"

    return asked, fetch


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_limit, "_POLL_INTERVAL_S", 0.001)


@pytest.mark.usefixtures("quick")
def test_objects_on_their_way_are_waited_for_and_something_is_done_meanwhile() -> None:
    calls: list[int] = []
    asked, fetch = there_after(600)  # Flower by itself gives up after 500
    with limited_to(100, deadline=time.monotonic() + 60, on_wait=lambda: calls.append(1)):
        assert http_grid.pull_objects(["first", "late"], fetch) == {"first": b"content", "late": b"content"}
    assert asked.count("late") == 601
    assert len(calls) > 1


def test_after_the_deadline_objects_that_are_there_are_fetched_and_others_not_waited_for() -> None:
    _, fetch = there_after(0)
    with limited_to(100, deadline=time.monotonic()):
        assert http_grid.pull_objects(["first", "late"], fetch) == {"first": b"content", "late": b"content"}
    asked, fetch = there_after(1)
    with limited_to(100, deadline=time.monotonic()), pytest.raises(ObjectPullError, match="not there at the deadline"):
        http_grid.pull_objects(["first", "late"], fetch)
    assert asked.count("late") == 1


@pytest.mark.usefixtures("quick")
def test_a_signal_ends_the_waiting_for_objects() -> None:
    def stop() -> None:
        raise TerminatedError("stopped by SIGTERM")

    _, fetch = there_after(float("inf"))
    with limited_to(100, on_wait=stop), pytest.raises(TerminatedError):
        http_grid.pull_objects(["late"], fetch)
