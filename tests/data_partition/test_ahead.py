"""Promises of data_partition.ahead; the thread needs no CUDA, so it is tried with batches as they are."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from data_partition.ahead import NUM_AHEAD, drawn_ahead, in_thread
from data_partition.batches import FrameCache, iter_batches
from data_partition.partition import site_data
from data_partition.shards.shard import Shard
from model.batch import ReenactmentBatch
from model.errors import DataError
from tests.support.shards import write_random_shard


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "batches"]


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    return write_random_shard(tmp_path, "anna")


@pytest.fixture
def batches(shard: Shard) -> Iterator[ReenactmentBatch]:
    return drawn(shard)


def drawn(shard: Shard) -> Iterator[ReenactmentBatch]:
    rng, cache = np.random.default_rng(0), FrameCache(max_bytes=0)
    return iter_batches(site_data(shard, 0), size_px=32, batch_size=2, rng=rng, split="train", cache=cache)


def test_the_thread_gives_the_same_batches_in_the_same_order(shard: Shard, batches: Iterator[ReenactmentBatch]) -> None:
    with in_thread(lambda: drawn(shard)) as ready:
        for found, expected in itertools.islice(zip(ready, batches, strict=False), 5):
            assert torch.equal(found.source_NCHW, expected.source_NCHW)
            assert torch.equal(found.pose_NC, expected.pose_NC)


def test_the_thread_ends_with_the_context_though_batches_are_endless(batches: Iterator[ReenactmentBatch]) -> None:
    with pytest.raises(KeyboardInterrupt), in_thread(lambda: batches) as ready:
        next(ready)
        assert threads() == ["batches"]
        raise KeyboardInterrupt
    assert threads() == []


def test_no_more_batches_are_drawn_than_may_wait(batches: Iterator[ReenactmentBatch]) -> None:
    most = NUM_AHEAD + 2  # one that was taken, those that wait, and one in the thread's hand
    drawn_so_far: list[ReenactmentBatch] = []
    is_full = threading.Event()

    def counted() -> Iterator[ReenactmentBatch]:
        for batch in batches:
            drawn_so_far.append(batch)
            if len(drawn_so_far) == most:
                is_full.set()
            yield batch

    with in_thread(counted) as ready:
        next(ready)
        assert is_full.wait(30)
        assert len(drawn_so_far) == most


def test_what_drawing_raises_is_raised_where_the_batch_is_taken(batches: Iterator[ReenactmentBatch]) -> None:
    def failing() -> Iterator[ReenactmentBatch]:
        yield next(batches)
        raise DataError("frames/000001.png: damaged")

    with in_thread(failing) as ready:
        next(ready)
        with pytest.raises(DataError, match=r"000001.png: damaged"):
            next(ready)
    assert threads() == []


def test_batches_that_end_end_here_too(batches: Iterator[ReenactmentBatch]) -> None:
    with in_thread(lambda: itertools.islice(batches, 3)) as ready:
        assert len(list(ready)) == 3


def test_on_a_cpu_they_are_handed_on(batches: Iterator[ReenactmentBatch]) -> None:
    with drawn_ahead(batches, torch.device("cpu")) as same:
        assert same is batches
