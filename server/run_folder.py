"""The run folder: settings, history, result and the run's name; checkpoints lie beside them."""

from __future__ import annotations

import dataclasses
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model.checkpoint import Checkpoint, load_checkpoint, round_folders
from model.config import Scalar, Settings
from model.errors import CheckpointError, ConfigError
from model.networks import build_networks, validate_tensors

SETTINGS_NAME = "settings.toml"
HISTORY_NAME = "history.jsonl"
LOG_NAME = "server.log"
RESULT_NAME = "result.json"
RUN_NAME = "run.json"

_MAY_CHANGE = frozenset(
    {
        "data-dir",
        "output-dir",
        "resume",
        "tau",
        "max-rounds",
        "min-fit-clients",
        "round-timeout-s",
        "keep-checkpoints",
        "device",
        "num-threads",
        "client-num-cpus",
        "client-num-gpus",
        "eval-data-dir",
        "eval-every",
    }
)
"""Settings that a resumed run may have other than the run before; all others are part of what is being trained."""


class RunFolder:
    """Files of one run; each is written to a temporary name and renamed."""

    def __init__(self, path: Path, run_id: str) -> None:
        self.path = path
        self.run_id = run_id
        """Survives a resume, so that clients recognise their optimiser moments."""

    @classmethod
    def open(cls, settings: Settings) -> tuple[RunFolder, Checkpoint | None]:
        """The folder of a run, and the checkpoint to go on from if it is to be resumed and has one.

        Raises:
            ConfigError: if output-dir is not absolute, holds a run and resume is off, or was trained otherwise.
            CheckpointError: if it has checkpoints and none is intact.
        """
        path, checkpoint = find_checkpoint(settings)
        path.mkdir(parents=True, exist_ok=True)
        folder = cls(path, read_run_id(path) if checkpoint is not None else uuid.uuid4().hex)
        write_atomically(path / RUN_NAME, json.dumps({"run-id": folder.run_id}) + "\n")
        write_settings(settings)
        (path / RESULT_NAME).unlink(missing_ok=True)
        folder._keep_history(checkpoint.round if checkpoint is not None else 0)
        return folder, checkpoint

    def append_history(self, row: Mapping[str, Any]) -> None:
        """One more line of history.jsonl, on disk when this returns."""
        with (self.path / HISTORY_NAME).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def write_completed(self, reason: str) -> None:
        """The run ended as it should."""
        self._write_result({"status": "completed", "reason": reason})

    def write_failed(self, error: Exception) -> None:
        """The run ended with an error."""
        name = type(error).__name__
        self._write_result({"status": "failed", "reason": f"{error}" or name, "error": name})

    def _write_result(self, result: Mapping[str, str]) -> None:
        write_atomically(self.path / RESULT_NAME, json.dumps(result) + "\n")

    def _keep_history(self, num_rounds: int) -> None:
        """Drop lines of rounds that the run to come will write again."""
        kept = [row for row in read_history(self.path) if row["round"] <= num_rounds]
        write_atomically(self.path / HISTORY_NAME, "".join(json.dumps(row) + "\n" for row in kept))


def find_checkpoint(settings: Settings) -> tuple[Path, Checkpoint | None]:
    """The absolute output-dir, and the checkpoint in it that these settings go on from; nothing is changed.

    Raises:
        ConfigError: if output-dir is not absolute, holds a run and resume is off, or was trained otherwise.
        CheckpointError: if it has checkpoints and none is intact.
    """
    path = Path(settings.federation.output_dir)
    if not path.is_absolute():
        raise ConfigError(f"setting output-dir: got {str(path)!r}, wanted an absolute path")
    if round_folders(path) and not settings.federation.resume:
        raise ConfigError(
            f"{path} already holds a run; choose another output-dir, or set resume to go on with this one"
        )
    return path, _load(path, settings) if round_folders(path) else None


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows of a run folder's history.jsonl; a last line that is still being written is left out."""
    try:
        text = (path / HISTORY_NAME).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def spent(history: Sequence[Mapping[str, Any]], settings: Settings) -> tuple[int, int]:
    """Optimiser steps and samples seen in a history, over all clients whose work was used."""
    num_steps = sum(len(row["clients"]) for row in history) * settings.federation.local_steps
    return num_steps, num_steps * settings.optimizer.batch_size


def read_result(path: Path) -> dict[str, str] | None:
    """How the run in a folder ended (`status`, `reason`), or None while it has not."""
    try:
        result: dict[str, str] = json.loads((path / RESULT_NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return result


def write_settings(settings: Settings) -> Path:
    """All settings as TOML in the run folder; the file can be given to `flwr run --run-config`."""
    path = Path(settings.federation.output_dir) / SETTINGS_NAME
    write_atomically(path, to_toml(settings))
    return path


def to_toml(settings: Settings) -> str:
    """All settings as TOML, one a line."""
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in settings.to_flat().items())


def write_atomically(path: Path, text: str) -> None:
    """Write a UTF-8 text file completely or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _load(path: Path, settings: Settings) -> Checkpoint:
    """The newest intact checkpoint, its tensors in the order in which they travel (files sort them)."""
    checkpoint = load_checkpoint(path)
    _require_same_training(Settings.from_flat(checkpoint.settings).to_flat(), settings.to_flat())
    fresh = build_networks(settings.model, checkpoint.part_sizes, seed=0).travelling_tensors()
    validate_tensors(checkpoint.tensors, fresh, where=f"{path}, round {checkpoint.round}")
    return dataclasses.replace(checkpoint, tensors={name: checkpoint.tensors[name] for name in fresh})


def read_run_id(path: Path) -> str:
    """The name of the run in a folder.

    Raises:
        CheckpointError: if the folder does not say.
    """
    try:
        return str(json.loads((path / RUN_NAME).read_text(encoding="utf-8"))["run-id"])
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path / RUN_NAME} cannot be read ({error}); restore it or train in another folder"
        ) from error


def _require_same_training(before: Mapping[str, Scalar], now: Mapping[str, Scalar]) -> None:
    changed = [
        f"{key} was {before[key]!r}, now {now[key]!r}"
        for key in sorted(now)
        if before[key] != now[key] and key not in _MAY_CHANGE
    ]
    if changed:
        raise ConfigError(
            "cannot resume with other settings: " + "; ".join(changed) + "; put them back or use another output-dir"
        )
