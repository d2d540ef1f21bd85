"""Clips prepared side by side, a process for each, with live progress."""

from __future__ import annotations

import errno
import logging
import math
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from ctypes import c_longlong
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_sentinel
from typing import TYPE_CHECKING

from data_partition.preparation.clip import ClipJob, ClipSummary, prepare_clip
from data_partition.sources.layouts import annotator_of
from data_partition.sources.rejected import Rejected
from data_partition.sources.video import count_frames
from model.errors import DataError, WeightsError
from model.progress import Progress

if TYPE_CHECKING:
    from multiprocessing.context import SpawnContext

PREPARING = "Preparing"
"""The work of `run_clips`, in frames. Each counts twice: annotated, then cut."""

STALLED_S = 600.0
"""A clip that gives no frame for so long is ended."""

_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_log = logging.getLogger(__name__)
_ENDED = (
    "its process ended twice: the decoder crashed, the memory was too small, or no frame came for {:.0f} s; "
    "export it again as MP4"
)
_POLL_S = 0.05


def run_clips(
    jobs: Sequence[ClipJob], num_workers: int | None, progress: Progress, *, stalled_s: float = STALLED_S
) -> dict[ClipJob, ClipSummary]:
    """Prepare every clip, in processes of their own, which an interrupt of this one ends at once.

    Whatever a clip does to its process, the others go on. A clip whose process ends is tried once more when all others
    are done and the memory is free; if it ends again the clip is left out.

    Args:
        jobs: what to do.
        num_workers: processes; None is one per core. Never more than jobs.
        progress: told how far it is, from this process.
        stalled_s: a clip that gives no frame for so long is ended.

    Returns:
        Every job's summary.
    """
    if not jobs:
        return {}
    context = multiprocessing.get_context("spawn")  # mediapipe's threads do not survive a fork
    lanes = _Lanes(jobs, context, stalled_s)
    num_lanes = min(num_workers or os.cpu_count() or 1, len(jobs))
    with ThreadPoolExecutor(num_lanes) as threads:
        running = [threads.submit(lanes.run) for _ in range(num_lanes)]
        try:
            _watch(running, lanes, progress)
            for lane in running:
                lane.result()
        except BaseException:
            lanes.end()
            raise
    return lanes.done


class _Lanes:
    """Jobs that are shared among threads, each with one worker process at a time."""

    def __init__(self, jobs: Sequence[ClipJob], context: SpawnContext, stalled_s: float) -> None:
        self.waiting = deque(jobs)
        self.done: dict[ClipJob, ClipSummary] = {}
        self.total = 0
        """Frames of both passes of all jobs; 0 until they are counted, and where counting ended its process."""
        self._uncounted = tuple(jobs)
        self._context = context
        self._stalled_s = stalled_s
        self._tried: set[ClipJob] = set()
        self._alone = threading.Lock()
        self._is_ended = False
        self._end_seen, self._end = context.Pipe(duplex=False)
        self._counters: list[c_longlong] = []
        self._again: deque[ClipJob] = deque()

    def num_frames_done(self) -> int:
        """Frames of both passes that all processes have seen, those of lost ones too."""
        return sum(counter.value for counter in self._counters)

    def end(self) -> None:
        """End all processes, whatever they do; their clips stay unfinished."""
        self._is_ended = True
        self.waiting.clear()
        self._again.clear()
        self._end.close()

    def run(self) -> None:
        """Take jobs until there are none, then those whose process ended, one at a time."""
        try:
            self._take(self.waiting)
            with self._alone:
                self._take(self._again)
        except BaseException:
            self.waiting.clear()
            raise

    def _take(self, jobs: deque[ClipJob]) -> None:
        pool: ProcessPoolExecutor | None = None
        try:
            while jobs:
                try:
                    job = jobs.popleft()
                except IndexError:  # another thread was faster
                    return
                pool = pool or self._worker()
                if not self._prepare(job, pool):
                    pool.shutdown()
                    pool = None
        finally:
            if pool is not None:
                pool.shutdown()

    def _worker(self) -> ProcessPoolExecutor:
        """A process; the first one counts the frames before it prepares, for it may be that a file ends it."""
        counter = self._context.RawValue(c_longlong, 0)  # without a lock, which a process that is killed would keep
        self._counters.append(counter)
        pool = ProcessPoolExecutor(
            1, mp_context=self._context, initializer=_Worker.start, initargs=(counter, self._stalled_s, self._end_seen)
        )
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # of this thread, for the process to inherit
        if self._uncounted:
            counting, self._uncounted = self._uncounted, ()
            pool.submit(_count_in_worker, counting).add_done_callback(self._take_count)
        return pool

    def _take_count(self, counted: Future[int]) -> None:
        if not counted.cancelled() and counted.exception() is None:
            self.total = 2 * counted.result()

    def _prepare(self, job: ClipJob, pool: ProcessPoolExecutor) -> bool:
        """Whether the worker lives on."""
        try:
            self.done[job] = pool.submit(_prepare_in_worker, job).result()
        except BrokenProcessPool:
            if self._is_ended:
                return False
            if job in self._tried:
                self.done[job] = _left_out(job, _ENDED.format(self._stalled_s))
            else:
                self._tried.add(job)
                self._again.append(job)
            return False
        return True


def _left_out(job: ClipJob, reason: str) -> ClipSummary:
    return ClipSummary(name=job.source.name, sha256=job.sha256, problems=[Rejected(str(job.source.path), reason)])


def _watch(running: Sequence[Future[None]], lanes: _Lanes, progress: Progress) -> None:
    done = 0
    is_running = True
    while is_running:
        is_running = bool(wait(running, timeout=_POLL_S).not_done)
        told, done = done, lanes.num_frames_done()
        if done > told:
            progress(PREPARING, done, max(lanes.total, done))
    total = max(lanes.total, done)  # a video may announce more frames than it has
    progress(PREPARING, total, total)


@dataclass
class _Worker:
    """State of a worker process, set once by the pool."""

    num_frames: c_longlong = field(default_factory=c_longlong)
    """Seen by this process; read by its parent."""
    last_sign_s: float = 0.0
    """When the clip under way last gave a frame."""

    stalled_s: float = STALLED_S

    @staticmethod
    def start(num_frames: c_longlong, stalled_s: float, end_seen: Connection) -> None:
        _WORKER.num_frames, _WORKER.stalled_s = num_frames, stalled_s
        _WORKER.last_sign_s = math.inf
        threading.Thread(target=_Worker._end_in_time, args=(end_seen,), daemon=True).start()

    @staticmethod
    def _end_in_time(end_seen: Connection) -> None:
        """A worker that outlives a killed parent would write into the next run's folders; one may never end itself."""
        parent = multiprocessing.parent_process()
        assert parent is not None
        while not wait_for_sentinel([parent.sentinel, end_seen], timeout=1.0):
            if time.monotonic() - _WORKER.last_sign_s > _WORKER.stalled_s:
                break
        os._exit(1)


_WORKER = _Worker()


def _count_in_worker(jobs: Sequence[ClipJob]) -> int:
    num_frames = 0
    for job in jobs:
        _WORKER.last_sign_s = time.monotonic()
        num_frames += count_frames(job.source.path, job.source.stretch)
    _WORKER.last_sign_s = math.inf
    return num_frames


def _prepare_in_worker(job: ClipJob) -> ClipSummary:
    _WORKER.last_sign_s = time.monotonic()

    def on_frame() -> None:
        _WORKER.num_frames.value += 1
        _WORKER.last_sign_s = time.monotonic()

    try:
        with annotator_of(job.source).open(job.source) as annotator:
            return prepare_clip(job, annotator, on_frame)
    except DataError as error:  # its annotation file
        return _left_out(job, Rejected.by_error(job.source.path, error).reason)
    except WeightsError:  # not of this clip's making
        raise
    except Exception as error:  # the edge where whatever a decoder does becomes a word about its file
        if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
            raise
        _log.debug("%s", job.source.path, exc_info=True)
        return _left_out(job, f"cannot be used ({type(error).__name__}: {error}); export it again as MP4 or JPEG")
    finally:
        _WORKER.last_sign_s = math.inf
