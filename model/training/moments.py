"""Optimiser moments on disk: in federated training they stay with the client, between rounds and across restarts."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from model.errors import TensorMismatchError
from model.training.trainer import GANTrainer

_log = logging.getLogger(__name__)

_FILE = re.compile(r"moments-round-(\d{6,})\.safetensors")
_MAX_RUNS = 4
"""Runs of which a folder keeps moments: those that were trained last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MomentStore:
    """Files `run-0123456789abcdef/moments-round-000007.safetensors`, one for each of the last rounds of one run.

    Runs have folders of their own, so that two of them at one site do not overwrite each other's moments. The moments
    at the end of round r are those that round r + 1 starts from. More than one round is kept because a server may
    resume from an older checkpoint than the last round this client trained. A file carries the SHA-256 of its tensors.
    """

    folder: Path
    """Of the client."""
    run_id: str
    """Name of the run, which names no path: it may come from a server. Moments of another run are never used."""
    num_kept: int
    """Rounds kept besides the one just trained, which the server may not have recorded, >= 1: with the run's
    keep-checkpoints any of its last checkpoints can be resumed exactly."""

    def restore(self, trainer: GANTrainer, round_number: int) -> bool:
        """Give the trainer the moments with which a round starts.

        Returns:
            Whether they were there. If not, the optimisers start fresh, as in round 1, and the log says why.
        """
        if round_number == 1:
            return False
        try:
            trainer.load_optimizer_tensors(self.load(round_number - 1))
        except (LookupError, TensorMismatchError) as error:
            _log.warning("round %d: the optimisers start fresh: %s", round_number, error, extra={"round": round_number})
            return False
        return True

    def load(self, round_number: int) -> dict[str, Tensor]:
        """The moments at the end of a round.

        Raises:
            LookupError: saying in words why there are none: no file, a damaged file, or another run's.
        """
        path = self._path(round_number)
        if not path.is_file():
            raise LookupError(f"no optimiser moments of round {round_number} of this run in {self.folder}")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise LookupError(f"{path} cannot be read ({error})") from error
        if metadata.get("run-id") != self.run_id:
            raise LookupError(f"{path} belongs to another run")
        if metadata.get("sha256") != _sha256(tensors):
            raise LookupError(f"{path} is damaged: its SHA-256 is not the recorded one")
        return tensors

    def save(self, round_number: int, tensors: Mapping[str, Tensor]) -> Path:
        """Write the moments at the end of a round (complete or not at all) and drop old ones, and runs of long ago.

        Returns:
            The file written.
        """
        self._run_folder.mkdir(parents=True, exist_ok=True)
        path = self._path(round_number)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(save(dict(tensors), metadata={"run-id": self.run_id, "sha256": _sha256(tensors)}))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        for old_round, old_path in self._rounds().items():
            if not round_number - self.num_kept <= old_round <= round_number:
                old_path.unlink(missing_ok=True)
        for old_run in self._runs_of_long_ago():
            shutil.rmtree(old_run, ignore_errors=True)
        return path

    @property
    def _run_folder(self) -> Path:
        return self.folder / f"run-{hashlib.sha256(self.run_id.encode()).hexdigest()[:16]}"

    def _path(self, round_number: int) -> Path:
        return self._run_folder / f"moments-round-{round_number:06d}.safetensors"

    def _rounds(self) -> dict[int, Path]:
        matches = ((_FILE.fullmatch(path.name), path) for path in self._run_folder.iterdir())
        return {int(match.group(1)): path for match, path in matches if match}

    def _runs_of_long_ago(self) -> list[Path]:
        others = [path for path in self.folder.glob("run-*") if path != self._run_folder]
        return sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[_MAX_RUNS - 1 :]


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    """Of names and values, whatever their order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
