"""Batches for a CUDA device, drawn in a thread while the device computes the step before."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator

import torch

from model.batch import ReenactmentBatch

NUM_AHEAD = 2
"""Batches that wait, at most; one more may be being drawn."""


@contextlib.contextmanager
def drawn_ahead(batches: Iterator[ReenactmentBatch], device: torch.device) -> Iterator[Iterator[ReenactmentBatch]]:
    """The same batches in the same order; for CUDA in pinned memory, drawn by a thread that ends with the context.

    A CPU computes them and the step, and has nothing to win: there they are handed on as they are.

    Args:
        batches: used by nobody else; so the random numbers that they draw are the same too.
        device: where they will be used.
    """
    if device.type != "cuda":
        yield batches
        return

    def pinned() -> Iterator[ReenactmentBatch]:
        with torch.cuda.device(device):  # of a thread; otherwise memory would be pinned for the first card
            for batch in batches:
                yield batch.pinned()

    with in_thread(pinned) as ready:
        yield ready


@contextlib.contextmanager
def in_thread(
    drawn: Callable[[], Iterator[ReenactmentBatch]], num_ahead: int = NUM_AHEAD
) -> Iterator[Iterator[ReenactmentBatch]]:
    """What an iterator gives, taken from it by a thread, at most `num_ahead` ahead; what it raises is raised here.

    Args:
        drawn: makes the iterator, in the thread.
        num_ahead: >= 1.
    """
    ready: queue.Queue[ReenactmentBatch | BaseException] = queue.Queue(num_ahead)
    is_over = threading.Event()

    def draw() -> None:
        try:
            for batch in drawn():
                ready.put(batch)
                if is_over.is_set():
                    return
            ready.put(StopIteration())
        except BaseException as error:  # the thread's edge: whoever takes the next batch gets it
            ready.put(error)

    thread = threading.Thread(target=draw, name="batches", daemon=True)
    thread.start()
    try:
        yield _taken(ready)
    finally:
        is_over.set()
        while thread.is_alive():  # it may wait for room, once more
            with contextlib.suppress(queue.Empty):
                ready.get(timeout=0.01)
        thread.join()


def _taken(ready: queue.Queue[ReenactmentBatch | BaseException]) -> Iterator[ReenactmentBatch]:
    while True:
        batch = ready.get()
        if isinstance(batch, StopIteration):
            return
        if isinstance(batch, BaseException):
            raise batch
        yield batch
