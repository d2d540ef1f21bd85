"""What happens after every round, federated or centralized: small objects, called in the order of `hooks_of`."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from federation.resources import ResourceUse
from model.checkpoint import Checkpoint, round_folders, round_number_of, save_checkpoint
from server.rounds.central_evaluation import CentralEvaluation
from server.rounds.loop import RoundHook
from server.rounds.privacy_ledger import PrivacyLedger
from server.rounds.stopping import first_whole_round
from server.run_folder.best_round import best_round
from server.run_folder.folder import RunFolder
from server.run_folder.history import RoundRow, RowListener, read_history
from server.run_folder.life import Run

_log = logging.getLogger(__name__)


def hooks_of(run: Run, on_round: RowListener | None) -> list[RoundHook]:
    """The hooks of a run: first those that add to the row, then those that write it down and pass it on.

    Args:
        run: federated or centralized.
        on_round: called last, with every new row, or None.

    Raises:
        DataError: if eval-data-dir cannot be used.
    """
    settings = run.settings
    central: list[RoundHook] = [CentralEvaluation(settings)] if settings.run.eval_data_dir else []
    told: list[RoundHook] = [Told(on_round)] if on_round is not None else []
    ledger = PrivacyLedger(settings.privacy)
    ledger.go_on_after(read_history(run.folder.path))
    return [
        ledger,
        *central,
        ServerUse(),
        HistoryLine(run.folder),  # before the checkpoint: a resume drops rows without one, never misses any
        Checkpoints(
            run.folder.path, num_kept=settings.run.keep_checkpoints, first_whole_round=first_whole_round(settings)
        ),
        ProgressLog(settings.rounds.max_rounds),
        *told,
    ]


class ServerUse:
    """Adds to the row what the server app itself used since this object was made, and the time of day."""

    def __init__(self) -> None:
        self._used = ResourceUse(torch.device("cpu"))

    def after_round(self, row: RoundRow, state: Checkpoint) -> RoundRow:
        """Measure now."""
        return dataclasses.replace(row, server=self._used.until_now(), time=time.time())


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """Writes the row into the run folder's history."""

    folder: RunFolder

    def after_round(self, row: RoundRow, state: Checkpoint) -> RoundRow:
        """Append it; it is on disk when this returns."""
        self.folder.append_history(row)
        return row


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Writes the checkpoint, names the best round, and drops all others but that one and the newest."""

    run: Path
    """Run folder; its history has the round's row already."""
    num_kept: int
    """Newest checkpoints that are kept, >= 1."""
    first_whole_round: int = 1
    """Before which L_G says nothing of which round is best."""

    def after_round(self, row: RoundRow, state: Checkpoint) -> RoundRow:
        """Write it whole, then drop old ones, and later ones: the run went on from before those, which are damaged."""
        save_checkpoint(self.run, state)
        folders = {round_number_of(folder): folder for folder in round_folders(self.run)}
        best = best_round(read_history(self.run), among=folders.keys(), first_whole=self.first_whole_round)
        if best is not None:
            best.write(self.run)
        until_now = sorted(number for number in folders if number <= row.round)
        kept = {*until_now[-self.num_kept :], best.round if best else 0}
        for number in folders.keys() - kept:
            shutil.rmtree(folders[number], ignore_errors=True)
        return row


class ProgressLog:
    """Writes every round into the log as one line that a person can read."""

    def __init__(self, max_rounds: int) -> None:
        self._max_rounds = max_rounds
        self._round_seconds: list[float] = []

    def after_round(self, row: RoundRow, state: Checkpoint) -> RoundRow:
        """Log it."""
        self._round_seconds.append(row.seconds)
        _log.info("%s", self._line(row), extra={"round": row.round})
        return row

    def _line(self, row: RoundRow) -> str:
        variance = row.variance_loss_generator
        left_s = (self._max_rounds - row.round) * sum(self._round_seconds) / len(self._round_seconds)
        parts = [
            f"round {row.round}/{self._max_rounds}",
            *row.losses_in_words(),
            f"Var(L_G) {'needs more rounds' if variance is None else format(variance, '.3g')}, tau {row.tau:g}",
            f"{row.seconds:.1f} s",
            f"at most {_duration(left_s)} left",
        ]
        if row.rejected:
            parts.append("left out: " + ", ".join(map(str, row.rejected)))
        return " | ".join(parts)


@dataclass(frozen=True, slots=True)
class Told:
    """Passes the row on to whoever started the run in this process."""

    on_round: RowListener

    def after_round(self, row: RoundRow, state: Checkpoint) -> RoundRow:
        """Call it."""
        self.on_round(row)
        return row


def _duration(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
