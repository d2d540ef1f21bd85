"""Optimiser moments on disk: in federated training they stay with the client, between rounds and across restarts."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from model.errors import TensorMismatchError
from model.run_files import RunFiles
from model.training.trainer import GANTrainer

_log = logging.getLogger(__name__)

_FILE = re.compile(r"moments-round-(\d{6,})\.safetensors")


@dataclass(frozen=True, kw_only=True, slots=True)
class MomentStore:
    """Files `run-0123456789abcdef/moments-round-000007.safetensors`, one for each of the last rounds of one run.

    The moments at the end of round r are those that round r + 1 starts from. More than one round is kept because a
    server may resume from an older checkpoint than the last round this client trained.
    """

    folder: Path
    """Of the client."""
    run_id: str
    """Name of the run, as of `RunFiles`."""
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
        if not self._files.path(_name(round_number)).is_file():
            raise LookupError(f"no optimiser moments of round {round_number} of this run in {self.folder}")
        return self._files.load(_name(round_number))

    def save(self, round_number: int, tensors: Mapping[str, Tensor]) -> Path:
        """Write the moments at the end of a round (complete or not at all) and drop old ones, and runs of long ago.

        Returns:
            The file written.
        """
        path = self._files.save(_name(round_number), tensors)
        for old_round, old_path in self._rounds().items():
            if not round_number - self.num_kept <= old_round <= round_number:
                old_path.unlink(missing_ok=True)
        return path

    @property
    def _files(self) -> RunFiles:
        return RunFiles(folder=self.folder, run_id=self.run_id)

    def _rounds(self) -> dict[int, Path]:
        matches = ((_FILE.fullmatch(path.name), path) for path in self._files.run_folder.iterdir())
        return {int(match.group(1)): path for match, path in matches if match}


def _name(round_number: int) -> str:
    return f"moments-round-{round_number:06d}"
