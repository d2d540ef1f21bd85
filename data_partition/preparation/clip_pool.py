"""Clips prepared side by side, one process each, with live progress."""

from __future__ import annotations

import multiprocessing
import os
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for_sentinel
from typing import TYPE_CHECKING

from data_partition.preparation.clip import ClipJob, ClipSummary, prepare_clip
from data_partition.sources.layouts import annotator_of
from data_partition.sources.rejected import Rejected
from data_partition.sources.video import count_frames
from model.errors import DataError
from model.progress import Progress

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

PREPARING = "Preparing"
"""The work of `run_clips`, in frames. Each counts twice: annotated, then cut."""

_POLL_S = 0.2
_TICK_FRAMES = 10


def run_clips(jobs: Sequence[ClipJob], num_workers: int | None, progress: Progress) -> dict[ClipJob, ClipSummary]:
    """Prepare every clip in a pool of processes.

    Args:
        jobs: what to do.
        num_workers: processes; None is one per core. Never more than jobs.
        progress: told how far it is, from this process.

    Returns:
        Every job's summary.

    Raises:
        DataError: if a worker was ended from outside; the parts of finished clips stay on disk.
    """
    if not jobs:
        return {}
    context = multiprocessing.get_context("spawn")  # mediapipe's threads do not survive a fork
    ticks = context.Queue()
    pool = ProcessPoolExecutor(
        min(num_workers or os.cpu_count() or 1, len(jobs)),
        mp_context=context,
        initializer=_Worker.start,
        initargs=(ticks,),
    )
    with pool:
        futures = {job: pool.submit(_prepare_in_worker, job) for job in jobs}
        try:
            with ThreadPoolExecutor() as threads:
                total = 2 * sum(threads.map(_num_frames, jobs))
            _watch(list(futures.values()), ticks, total, progress)
            return {job: future.result() for job, future in futures.items()}
        except BrokenProcessPool as error:
            raise DataError(
                "a worker process was ended from outside, perhaps for lack of memory; "
                "use fewer workers and run the command again: finished clips are kept"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _num_frames(job: ClipJob) -> int:
    stretch = job.source.stretch
    return stretch[1] - stretch[0] if stretch else count_frames(job.source.path)


def _watch(futures: Sequence[Future[ClipSummary]], ticks: Queue[int], total: int, progress: Progress) -> None:
    done = 0
    is_running = True
    while is_running or not ticks.empty():
        is_running = bool(wait(futures, timeout=0).not_done)
        try:
            done += ticks.get(timeout=_POLL_S)
        except queue.Empty:
            continue
        progress(PREPARING, done, max(total, done))
    progress(PREPARING, max(total, done), max(total, done))  # a video may announce more frames than it has


@dataclass
class _Worker:
    """State of a worker process, set once by the pool."""

    ticks: Queue[int] | None = None

    @staticmethod
    def start(ticks: Queue[int]) -> None:
        _WORKER.ticks = ticks
        threading.Thread(target=_Worker._end_with_parent, daemon=True).start()

    @staticmethod
    def _end_with_parent() -> None:
        """A worker that outlives a killed parent would write into the next run's folders."""
        parent = multiprocessing.parent_process()
        assert parent is not None
        wait_for_sentinel([parent.sentinel])
        os._exit(1)


_WORKER = _Worker()


def _prepare_in_worker(job: ClipJob) -> ClipSummary:
    ticks = _WORKER.ticks
    assert ticks is not None
    pending = 0

    def on_frame() -> None:
        nonlocal pending
        pending += 1
        if pending == _TICK_FRAMES:
            ticks.put(pending)
            pending = 0

    try:
        with annotator_of(job.source).open(job.source) as annotator:
            return prepare_clip(job, annotator, on_frame)
    except DataError as error:  # its annotation file
        return ClipSummary(
            name=job.source.name, sha256=job.sha256, problems=[Rejected.by_error(job.source.path, error)]
        )
    finally:
        ticks.put(pending)
