"""One job at a time: a model draws for one browser, and the others are told how many are before them."""

from __future__ import annotations

import logging
import re
import secrets
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from itertools import takewhile
from pathlib import Path

from model.errors import ConfigError, FedreenactError
from reenact.page.sessions import Session

MAX_WAITING = 20

logger = logging.getLogger(__name__)


class Cancelled(Exception):
    """Somebody does not want a job's result any more; no error."""


class State(StrEnum):
    """Of a job."""

    WAITING = "waiting"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Job:
    """Work for one session, watched from another thread."""

    def __init__(self, session: Session, work: Callable[[Job], dict[str, object]]) -> None:
        """Nothing happens before a desk takes it.

        Args:
            session: whose it is.
            work: does it and returns what there is to tell, as JSON has it; it calls the desk's `progress`.
        """
        self.number = secrets.token_hex(8)
        self.session = session
        self.state = State.WAITING
        self.told: tuple[str, int, int] = ("", 0, 0)
        """As of `Progress`."""
        self.preview: dict[str, object] | None = None
        """What the work will be made of, as JSON has it, as soon as it is known."""
        self.outcome: dict[str, object] = {}
        """What `work` returned."""
        self.problem = ""
        """Why it failed."""
        self._work = work
        self._is_cancelled = threading.Event()

    @property
    def is_open(self) -> bool:
        """Whether it waits or is worked on."""
        return self.state in (State.WAITING, State.WORKING)

    def cancel(self) -> None:
        """End it before its next step."""
        self._is_cancelled.set()
        if self.state is State.WAITING:
            self.state = State.CANCELLED

    def check(self) -> None:
        """Raise Cancelled if it is."""
        if self._is_cancelled.is_set():
            raise Cancelled

    def do(self) -> None:
        """Work; errors become its problem."""
        try:
            self.check()
            self.state = State.WORKING
            self.outcome = self._work(self)
            self.state = State.DONE
        except Cancelled:
            self.state = State.CANCELLED
        except (FedreenactError, OSError) as error:
            self.fail(str(error))
        except Exception:  # the next job must not suffer from this one
            logger.exception("a job of the page")
            self.fail("something went wrong that should not; the terminal of `fedreenact serve` has more")

    def fail(self, problem: str) -> None:
        """Say why there is no result."""
        self.problem, self.state = plain_problem(problem, self.session.folder.parent), State.FAILED


class Desk:
    """Takes jobs and does them in order, in a thread of its own."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="desk")
        self._jobs: list[Job] = []

    def take(self, job: Job) -> None:
        """Do a job when those before it are done.

        Raises:
            ConfigError: if its session has one that is not done, or too many wait.
        """
        self.require_free(job.session)
        if sum(one.is_open for one in self._jobs) > MAX_WAITING:
            raise ConfigError("too many people are waiting; try again in a while")
        self._jobs = [one for one in self._jobs if one.session is not job.session] + [job]
        self._worker.submit(job.do)

    def open_job(self, session: Session) -> Job | None:
        """A session's job that waits or is worked on: files and records that it was given are not to be touched."""
        return next((one for one in self._jobs if one.session is session and one.is_open), None)

    def require_free(self, session: Session) -> None:
        """Raise a ConfigError if a session has a job that is not done."""
        if self.open_job(session) is not None:
            raise ConfigError("one thing at a time: wait until it is done, or cancel it")

    def job(self, session: Session, number: str) -> Job:
        """A session's job.

        Raises:
            ConfigError: if there is none of that number.
        """
        for job in self._jobs:
            if job.session is session and job.number == number:
                return job
        raise ConfigError("this result is not here any more; draw it again")

    def before(self, job: Job) -> int:
        """Number of jobs that are done before it."""
        return sum(one.is_open for one in takewhile(lambda one: one is not job, self._jobs))

    def is_waited_for(self) -> bool:
        """Whether a job waits behind the one that is worked on."""
        return any(job.state is State.WAITING for job in self._jobs)

    def progress(self, text: str, done: int, total: int) -> None:
        """`Progress` of the job that is worked on; it ends here when it is cancelled."""
        job = next((one for one in self._jobs if one.state is State.WORKING), None)
        if job is not None:
            job.told = (text, done, total)
            job.check()

    def end(self, session: Session, then: Callable[[], None]) -> None:
        """Cancel a session's jobs, delete its files, and again what a job wrote meanwhile; then do something."""
        for job in self._jobs:
            if job.session is session:
                job.cancel()
        self._jobs = [job for job in self._jobs if job.session is not session or job.state is State.WORKING]
        folder = session.folder  # the session may go on in another one before the worker comes to this
        shutil.rmtree(folder, ignore_errors=True)
        self._worker.submit(shutil.rmtree, folder, ignore_errors=True)
        self._worker.submit(then)

    def close(self) -> None:
        """Cancel everything and wait for what is being done."""
        for job in self._jobs:
            job.cancel()
        self._worker.shutdown(wait=True, cancel_futures=True)


def plain_problem(text: str, root: Path) -> str:
    """An error's text on one line, with files named as their owners call them, without the folders below `root`."""
    return " ".join(re.sub(rf"{re.escape(str(root))}/\w+/\w+/", "", text).split())
