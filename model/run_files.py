"""Files of tensors that a client keeps between rounds, apart by run: whole, checked, for its user alone."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from model.files import write_bytes

_MAX_RUNS = 4
"""Runs of which a folder keeps files: those that were written last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFiles:
    """Files `run-0123456789abcdef/<name>.safetensors` (0600 in a folder of 0700), each with the SHA-256 of its tensors.

    Runs have folders of their own, so that two of them at one site do not overwrite each other's.
    """

    folder: Path
    """Of the client."""
    run_id: str
    """Name of the run, which names no path: it may come from a server. Files of another run are never used."""

    @property
    def run_folder(self) -> Path:
        """Where the files of this run are; need not exist."""
        return self.folder / f"run-{hashlib.sha256(self.run_id.encode()).hexdigest()[:16]}"

    def path(self, name: str) -> Path:
        """Of one file."""
        return self.run_folder / f"{name}.safetensors"

    def load(self, name: str) -> dict[str, Tensor]:
        """The tensors of one file.

        Raises:
            LookupError: saying in words why there are none: no file, a damaged file, or another run's.
        """
        path = self.path(name)
        if not path.is_file():
            raise LookupError(f"no {path.name} of this run in {self.folder}")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise LookupError(f"{path} cannot be read ({error})") from error
        if metadata.get("run-id") != self.run_id:
            raise LookupError(f"{path} belongs to another run")
        if metadata.get("sha256") != _sha256(tensors):
            raise LookupError(f"{path} is damaged: its SHA-256 is not the recorded one")
        return tensors

    def save(self, name: str, tensors: Mapping[str, Tensor]) -> Path:
        """Write one file, complete or not at all, and drop the files of runs of long ago.

        Returns:
            The file written.
        """
        path = self.path(name)
        content = save(dict(tensors), metadata={"run-id": self.run_id, "sha256": _sha256(tensors)})
        write_bytes(path, content, is_private=True)
        others = [other for other in self.folder.glob("run-*") if other != self.run_folder]
        for old in sorted(others, key=lambda other: other.stat().st_mtime, reverse=True)[_MAX_RUNS - 1 :]:
            shutil.rmtree(old, ignore_errors=True)
        return path


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundFiles:
    """Files `<name>-round-000007.safetensors` of one run, one for each of its last rounds.

    What is there at the end of round r is what round r + 1 starts from. More than one round is kept because a server
    may resume from an older checkpoint than the last round this client trained.
    """

    files: RunFiles
    """Of the run."""
    name: str
    """What they hold, in a file's name."""
    what: str
    """The same in words."""
    num_kept: int
    """Rounds kept besides the one just trained, which the server may not have recorded, >= 1: with the run's
    keep-checkpoints any of its last checkpoints can be resumed exactly."""

    def load(self, round_number: int) -> dict[str, Tensor]:
        """The tensors at the end of a round.

        Raises:
            LookupError: saying in words why there are none: no file, a damaged file, or another run's.
        """
        if not self.files.path(self._name(round_number)).is_file():
            raise LookupError(f"no {self.what} of round {round_number} of this run in {self.files.folder}")
        return self.files.load(self._name(round_number))

    def save(self, round_number: int, tensors: Mapping[str, Tensor]) -> Path:
        """Write the tensors at the end of a round (complete or not at all) and drop old ones, and runs of long ago.

        Returns:
            The file written.
        """
        path = self.files.save(self._name(round_number), tensors)
        for old_path in self.files.run_folder.iterdir():
            match = re.fullmatch(rf"{self.name}-round-(\d{{6,}})\.safetensors", old_path.name)
            if match and not round_number - self.num_kept <= int(match[1]) <= round_number:
                old_path.unlink(missing_ok=True)
        return path

    def _name(self, round_number: int) -> str:
        return f"{self.name}-round-{round_number:06d}"


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    """Of names and values, whatever their order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
