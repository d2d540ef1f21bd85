"""Optimiser moments on disk: in federated training they stay with the client, between rounds and across restarts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from model.errors import TensorMismatchError
from model.run_files import RoundFiles, RunFiles
from model.training.trainer import GANTrainer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class MomentStore:
    """Files `run-0123456789abcdef/moments-round-000007.safetensors`, as `RoundFiles` keeps them."""

    folder: Path
    """Of the client."""
    run_id: str
    """Name of the run, as of `RunFiles`."""
    num_kept: int
    """Rounds kept besides the one just trained, as of `RoundFiles`."""

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
            LookupError: as `RoundFiles.load`.
        """
        return self._rounds.load(round_number)

    def save(self, round_number: int, tensors: Mapping[str, Tensor]) -> Path:
        """Write the moments at the end of a round and drop old ones; gives the file written."""
        return self._rounds.save(round_number, tensors)

    @property
    def _rounds(self) -> RoundFiles:
        files = RunFiles(folder=self.folder, run_id=self.run_id)
        return RoundFiles(files=files, name="moments", what="optimiser moments", num_kept=self.num_kept)
