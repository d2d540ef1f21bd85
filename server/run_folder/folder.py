"""The run folder: settings, record, history and result; checkpoints lie beside them."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from safetensors import SafetensorError

from data_partition.consent.withdrawal import refuse_withdrawn
from federation.settings import MEANINGS, Settings, differences, to_toml
from model.checkpoint import Checkpoint, load_checkpoint, round_folders, round_number_of, unnamed
from model.designs.registry import build_networks
from model.errors import ConfigError, FederationError
from model.files import write_bytes, write_json, write_text
from model.networks.bundle import validate_tensors
from model.setting import Scalar
from model.version import own_version
from server.run_folder.history import HISTORY_NAME, RoundRow, append_row, finished_lines, readable_lines
from server.run_folder.lock import RunLock
from server.run_folder.record import People, RunRecord
from server.run_folder.result import RESULT_NAME, RunResult, RunState
from server.termination import TerminatedError

_log = logging.getLogger(__name__)

SETTINGS_NAME = "settings.toml"
LOG_NAME = "server.log"

_FULL = (errno.ENOSPC, errno.EDQUOT)


class RunFolder:
    """Files of one run; each but the growing history is written whole or not at all.

    A context manager: the folder is this process's alone until the `with` block ends.
    """

    def __init__(self, path: Path, record: RunRecord, lock: RunLock) -> None:
        self.path = path
        self._record = record
        self._lock = lock

    @classmethod
    def open(cls, settings: Settings, people: People | None = None) -> tuple[RunFolder, Checkpoint | None]:
        """The folder of a run, and the checkpoint to go on from if it is to be resumed and has one.

        Args:
            settings: of the run.
            people: in its dataset; None where the server does not see it, or not yet.

        Raises:
            ConfigError: as `find_checkpoint`; the folder is as it was then.
            CheckpointError: if it has checkpoints and none is intact.
            FederationError: if another process writes to the folder.
        """
        lock = RunLock.take(_absolute_path(settings))
        try:
            path, checkpoint = find_checkpoint(settings, people)
            before = RunRecord(run_id=uuid.uuid4().hex) if checkpoint is None else RunRecord.read(path)
            folder = cls(path, before, lock)
            folder._note(version=own_version(), people=people or before.people)
            write_settings(settings)
            (path / RESULT_NAME).unlink(missing_ok=True)
            folder._keep_history(checkpoint.round if checkpoint is not None else 0)
        except BaseException:
            lock.release()
            raise
        return folder, checkpoint

    @property
    def run_id(self) -> str:
        """Survives a resume, so that clients recognise their optimiser moments."""
        return self._record.run_id

    def __enter__(self) -> RunFolder:
        """Nothing more: the folder is locked since it was opened."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let others write to the folder."""
        self._lock.release()

    def note_people(self, people: People) -> None:
        """Whom a simulation's clients train on, which its server learns when it has met them.

        Raises:
            ConfigError: if they are not those that the run began with.
        """
        self._record.require_same(self.path, people)
        self._note(people=people)

    def note_sites(self, site_frames: Mapping[int, int]) -> None:
        """How many training frames real sites say they have: what differs from before is logged, and no error.

        Args:
            site_frames: partition to frames, of the sites that are here; the others stay in the record.
        """
        self._record.say_other_sites(self.path, site_frames)
        self._note(site_frames={**self._record.site_frames, **site_frames})

    def append_history(self, row: RoundRow) -> None:
        """One more line of history.jsonl, on disk when this returns."""
        append_row(self.path, row)

    def write_completed(self, reason: str) -> None:
        """The run ended as it should."""
        _write_result(self.path, RunResult(state=RunState.COMPLETED, reason=reason))

    def write_failed(self, error: Exception) -> None:
        """The run ended with an error, or because it was told to: `failed` or `stopped`."""
        if isinstance(error, TerminatedError):
            write_stopped(self.path, error)
            return
        name = type(error).__name__
        _write_unless_full(self.path, RunResult(state=RunState.FAILED, reason=f"{error}" or name, error=name))

    def _note(self, **changes: Any) -> None:
        self._record = dataclasses.replace(self._record, **changes)
        self._record.write(self.path)

    def _keep_history(self, num_rounds: int) -> None:
        """Drop lines of rounds that the run to come will write again, and lines that cannot be read."""
        lines = list(readable_lines(self.path))
        num_damaged = len(finished_lines(self.path)) - len(lines)
        if num_damaged:
            _log.warning("%s: %d damaged lines are dropped", self.path / HISTORY_NAME, num_damaged)
        kept = b"".join(line for line, row in lines if row.round <= num_rounds)
        write_bytes(self.path / HISTORY_NAME, kept)


def write_stopped(path: Path, error: TerminatedError) -> None:
    """The run in this folder ended because it was told to; resume goes on after its last checkpoint."""
    completed = [round_number_of(folder) for folder in round_folders(path)]
    after = f"after round {completed[-1]}" if completed else "before the end of round 1"
    reason = f"{error} {after}; resume goes on"
    _write_unless_full(path, RunResult(state=RunState.STOPPED, reason=reason, error=type(error).__name__))


def _write_result(path: Path, result: RunResult) -> None:
    write_json(path / RESULT_NAME, result.to_json())


def _write_unless_full(path: Path, result: RunResult) -> None:
    """Why a run ended early; where it cannot be written the log alone has it, and the error that is told goes on."""
    try:
        _write_result(path, result)
    except OSError as error:
        _log.error("%s could not be written (%s): %s", path / RESULT_NAME, error, result.reason)


@contextlib.contextmanager
def explaining_full_disks(path: Path) -> Iterator[None]:
    """Within it, an error that a full disk causes becomes one that says where and what to do.

    Args:
        path: of the run folder.

    Raises:
        FederationError: in the place of the other.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = error.errno if isinstance(error, OSError) else None
        if number not in _FULL and not any(f"os error {full})" in str(error) for full in _FULL):
            raise
        raise FederationError(
            f"the disk of {path} is full; make room, then go on with resume: every completed round is kept"
        ) from error


def find_checkpoint(settings: Settings, people: People | None = None) -> tuple[Path, Checkpoint | None]:
    """The absolute output-dir, and the checkpoint in it that these settings go on from; nothing is changed.

    Args:
        settings: of the run.
        people: in its dataset; None where the server does not see it, or not yet.

    Raises:
        ConfigError: if output-dir is not absolute, holds a run and resume is off, or was trained otherwise: with other
            settings, on other data, or by another version.
        CheckpointError: if it has checkpoints and none is intact, or its record is not, or if somebody withdrew whom it
            learnt.
    """
    path = _absolute_path(settings)
    if round_folders(path) and not settings.run.resume:
        raise ConfigError(
            f"{path} already holds a run; choose another output-dir, or set resume to go on with this one"
        )
    refuse_withdrawn(path)
    if not round_folders(path):
        return path, None
    RunRecord.read(path).require_same(path, people)  # before the settings, of which the people set some
    return path, _load(path, settings)


def require_same_people(before: Sequence[str], now: Sequence[str]) -> None:
    """That a run goes on with the people it began with, in their places, by the names that the server knows.

    Args:
        before: [I] names in the checkpoint.
        now: [I] names that the sites or the dataset give; `identity-<index>` is no name and fits any.

    Raises:
        ConfigError: with the differences.
    """
    changed = [
        f"{index} was {old}, now {new}"
        for index, (old, new) in enumerate(zip(before, now, strict=False))
        if old != new and unnamed(index) not in (old, new)
    ]
    if changed:
        raise ConfigError(
            "cannot resume with other people: " + "; ".join(changed) + "; use the run's dataset or another output-dir"
        )


def _absolute_path(settings: Settings) -> Path:
    path = Path(settings.run.output_dir)
    if not path.is_absolute():
        raise ConfigError(f"setting output-dir: got {str(path)!r}, wanted an absolute path")
    return path


def write_settings(settings: Settings) -> Path:
    """All settings as TOML in the run folder; the file can be given to `flwr run --run-config`."""
    path = Path(settings.run.output_dir) / SETTINGS_NAME
    write_text(path, to_toml(settings.to_flat()))
    return path


def _load(path: Path, settings: Settings) -> Checkpoint:
    """The newest intact checkpoint, its tensors in the order in which they travel (files sort them)."""
    checkpoint = load_checkpoint(path)
    _require_same_training(Settings.from_flat(checkpoint.settings).to_flat(), settings.to_flat())
    fresh = build_networks(settings.model, checkpoint.part_sizes, seed=0).travelling_tensors()
    validate_tensors(checkpoint.tensors, fresh, where=f"{path}, round {checkpoint.round}")
    return dataclasses.replace(checkpoint, tensors={name: checkpoint.tensors[name] for name in fresh})


def _require_same_training(before: Mapping[str, Scalar], now: Mapping[str, Scalar]) -> None:
    changed = [words for key, words in differences(before, now).items() if not MEANINGS[key].may_change]
    if changed:
        raise ConfigError(
            "cannot resume with other settings: " + "; ".join(changed) + "; put them back or use another output-dir"
        )
