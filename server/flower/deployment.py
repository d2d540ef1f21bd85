"""A federated run on a deployed federation: submitted, followed, and submitted again when its server app dies."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path

from federation.settings import Settings, differences, to_toml
from model.errors import CheckpointError, ConfigError, DataError, FederationError, WeightsError
from server.flower.commands import FlowerCommands, UnfinishedRun
from server.rounds.stopping import NoProgressError
from server.run_folder.folder import find_checkpoint
from server.run_folder.history import RowListener, read_history
from server.run_folder.live_status import Live
from server.run_folder.result import RESULT_NAME, RunResult, RunState

_log = logging.getLogger(__name__)

_MAX_WORDS_CHARACTERS = 200
_USERS_ERRORS = tuple(
    error.__name__ for error in (CheckpointError, ConfigError, DataError, NoProgressError, WeightsError)
)
"""What somebody has to mend. Any other error is like the death of the server app, also one that nobody foresaw: the run
goes on from its checkpoint, and the number of attempts in a row without a new round is limited."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long a supervisor waits for what, in seconds."""

    poll_s: float = 2.0
    """Between two looks into the run folder."""
    ask_s: float = 20.0
    """Between two questions to the SuperLink, which may be far away."""
    start_s: float = 600.0
    """For a submitted run to start."""
    silence_s: float = 900.0
    """For a sign of life from a server app that runs, or an answer from the SuperLink."""
    retry_s: float = 15.0
    """Before a run is submitted again."""
    max_attempts: int = 5
    """Submissions in a row without a new round."""


class _AttemptError(FederationError):
    """This submission came to nothing; another may fare better."""


class Supervisor:
    """Sees a run through to its end."""

    def __init__(
        self, settings: Settings, flower: FlowerCommands, on_round: RowListener, patience: Patience | None = None
    ) -> None:
        """Nothing happens yet.

        Args:
            settings: of the run; output-dir is where the server app writes, and must be readable here under the same
                path. The run goes on from what is there.
            flower: connected to the SuperLink.
            on_round: called with every new row of the history.
            patience: waiting times.
        """
        self._settings = settings.replaced({"resume": True})
        self._folder = Path(settings.run.output_dir)
        self._flower = flower
        self._on_round = on_round
        self._patience = patience or Patience()
        self._num_seen = len(read_history(self._folder))

    def run(self) -> str:
        """Submit the run, or take over one of this folder that has not ended, and wait for its end.

        One that was submitted with other settings is stopped first, and goes on from its checkpoint with these.

        Returns:
            Why training ended.

        Raises:
            ConfigError: if the settings do not fit the run folder.
            CheckpointError: if the run folder has checkpoints and none is intact.
            FederationError: if the run cannot be brought to its end; it says what was tried. A run of another folder
                is left alone: while it has not ended, this one is not submitted.
        """
        find_checkpoint(self._settings)
        reasons: list[str] = []
        while True:
            seen_before = self._num_seen
            try:
                return self._attempt()
            except _AttemptError as error:
                if self._num_seen > seen_before:
                    reasons = []
                reasons.append(str(error))
                _log.warning("%s", error)
                if len(reasons) >= self._patience.max_attempts:
                    tried = "; ".join(dict.fromkeys(reasons))
                    raise FederationError(
                        f"gave up after {len(reasons)} attempts without a new round: {tried}"
                    ) from None
                time.sleep(self._patience.retry_s)

    def _attempt(self) -> str:
        result_before = self._result_stamp()
        try:
            own = self._unfinished()
            run_id = own.run_id if own else self._submit()
        except FederationError as error:
            raise _AttemptError(str(error)) from error
        if own:
            self._take_over(own)
        return self._follow(run_id, result_before, own.submitted if own else math.inf)

    def _take_over(self, own: UnfinishedRun) -> None:
        """Go on with a run that was submitted before; one with other settings is told to end, to be submitted anew."""
        changed = differences(own.settings, self._settings.to_flat())
        if not changed:
            _log.warning("taking over run %s, which has not ended", own.run_id)
            return
        words = "; ".join(changed.values())
        _log.warning("run %s has other settings and is stopped, to go on with these: %s", own.run_id, words)
        self._flower.stop(own.run_id)

    def _unfinished(self) -> UnfinishedRun | None:
        """The run of this folder that has not ended, if there is one.

        Runs of something else, which the sites refuse, keep nobody waiting.

        Raises:
            FederationError: if another folder's has not, or if Flower does not tell.
        """
        unfinished = self._flower.unfinished()
        own = [run for run in unfinished if Path(run.output_dir) == self._folder]
        if own:
            return own[-1]
        others = [run for run in unfinished if run.output_dir]
        if others:
            other = others[-1]
            raise FederationError(
                f"run {other.run_id} of {other.output_dir} has not ended; wait for its end, or stop it first"
            )
        return None

    def _submit(self) -> str:
        run_config = self._flower.home / "run.toml"
        run_config.write_text(to_toml(self._settings.to_flat()), encoding="utf-8")
        run_id = self._flower.submit(run_config)
        _log.warning("submitted as run %s", run_id)
        return run_id

    def _follow(self, run_id: str, result_before: int | None, submitted_s: float = math.inf) -> str:
        """Until the run has a result.

        Args:
            run_id: Flower's.
            result_before: stamp of the result that is there already: another run's, or else the run is about to end.
            submitted_s: when the run was submitted; once it is finished, a result that is newer is its own.
        """
        submitted = heard = time.monotonic()
        sign, status, next_question = self._sign_of_life(), "pending", submitted
        while True:
            self._pass_rows_on()
            if self._result_stamp() not in (None, result_before):
                return self._conclude()
            now = time.monotonic()
            if now >= next_question:
                status, next_question = self._status(run_id), now + self._patience.ask_s
            if self._sign_of_life() != sign:
                sign, heard = self._sign_of_life(), now
            if status.startswith("finished"):
                time.sleep(self._patience.poll_s)  # its last words may be on their way to the disk
                if (stamp := self._result_stamp()) is not None and stamp > submitted_s * 1e9:
                    return self._conclude()
                if stamp in (None, result_before):
                    raise _AttemptError(f"run {run_id} ended as {status} without a result: {self._last_words(run_id)}")
            elif status.startswith(("running", "unknown")):
                if now - heard > self._patience.silence_s:
                    self._flower.stop(run_id)
                    raise _AttemptError(
                        f"run {run_id} is {status} and silent for {self._patience.silence_s:g} s; stopped"
                    )
            elif now - submitted > self._patience.start_s:
                self._flower.stop(run_id)
                raise _AttemptError(
                    f"run {run_id} is {status} after {self._patience.start_s:g} s; is the server app's service up?"
                )
            time.sleep(self._patience.poll_s)

    def _status(self, run_id: str) -> str:
        try:
            return self._flower.status(run_id)
        except FederationError as error:
            return f"unknown ({error})"

    def _conclude(self) -> str:
        self._pass_rows_on()
        result = RunResult.read(self._folder)
        assert result is not None
        if result.state is RunState.COMPLETED:
            return result.reason
        if result.error in _USERS_ERRORS:  # another attempt would end as this one
            raise FederationError(result.reason)
        raise _AttemptError(result.reason)

    def _last_words(self, run_id: str) -> str:
        """The last line of the run's log."""
        lines = [line.strip() for line in self._flower.log(run_id).splitlines() if line.strip()]
        return lines[-1][:_MAX_WORDS_CHARACTERS] if lines else "its log is empty"

    def _pass_rows_on(self) -> None:
        rows = read_history(self._folder)
        for row in rows[self._num_seen :]:
            self._on_round(row)
        self._num_seen = len(rows)

    def _result_stamp(self) -> int | None:
        """When the result was written, in nanoseconds since 1970."""
        try:
            return (self._folder / RESULT_NAME).stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def _sign_of_life(self) -> object:
        """Changes while the server app works."""
        live = Live.read(self._folder)
        return live.time if live else None, self._num_seen
