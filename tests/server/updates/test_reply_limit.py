"""The limit on what Flower fetches and allocates for one reply, on Flower's own objects."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.superlink.grid import http_grid

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
