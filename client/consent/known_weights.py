"""A deployed site trains only from weights that the run's own training can have made. Knows no Flower.

In round 1 the site computes the initial weights itself. Afterwards it knows the weights from which it trained last, and
how far the rounds since then can have carried them (`federation.reach`). No frame is looked at for this.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch

from federation.packing import Shapes
from federation.reach import check_initial, check_reach, initial_networks
from federation.settings import Settings
from model.errors import UnknownWeightsError
from model.landmarks.geometry import PartSizes
from model.networks.bundle import NamedArrays
from model.run_files import RunFiles

_log = logging.getLogger(__name__)

_NAME, _ROUND = "known-weights", "round"


class KnownWeights:
    """The weights from which a site trained last in one run: `known-weights.safetensors` beside the run's moments."""

    def __init__(self, folder: Path, run_id: str, *, max_missed_rounds: float) -> None:
        """The file need not be there.

        Args:
            folder: for the site's state.
            run_id: the server's name of the run.
            max_missed_rounds: the site's limit; 0 for none.
        """
        self._files = RunFiles(folder=folder, run_id=run_id)
        self._max_missed_rounds = max_missed_rounds

    def accept(self, tensors: NamedArrays, *, settings: Settings, part_sizes: PartSizes, round_number: int) -> None:
        """Keep the weights as known, on disk when this returns, if training of this run can have made them.

        Args:
            tensors: of the right names, shapes and types, finite.
            settings: of the run.
            part_sizes: of the run.
            round_number: that starts from them, from 1.

        Raises:
            UnknownWeightsError: naming round, tensor, what was got, the limit, and what to do.
        """
        initial = initial_networks(settings, part_sizes).travelling_tensors()
        known = self.last({name: array.shape for name, array in initial.items()})
        self._check_missed(known[0] if known else 0, round_number)
        if known is not None:
            known_round, start = known
            num_rounds = max(1, abs(round_number - known_round))  # a resumed run may go back, and on otherwise
            words = f"the weights of round {known_round}, which this site knows"
            check_reach(tensors, start, settings, round_number, num_rounds=num_rounds, known=words)
        check_initial(tensors, initial, settings, round_number)
        self.keep(tensors, round_number)

    def keep(self, tensors: NamedArrays, round_number: int) -> None:
        """Take the weights with which a round starts for known; they are on disk when this returns."""
        kept = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in tensors.items()}
        self._files.save(_NAME, kept | {_ROUND: torch.tensor(round_number)})

    def last(self, shapes: Shapes) -> tuple[int, NamedArrays] | None:
        """The round that was trained last and its weights, in the order of the shapes; None if it has none."""
        if not self._files.path(_NAME).is_file():
            return None
        try:
            tensors = self._files.load(_NAME)
        except LookupError as error:
            _log.warning("the weights of the last round are not known any more: %s", error)
            return None
        known_round = int(tensors.pop(_ROUND))
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        if {name: array.shape for name, array in arrays.items()} != dict(shapes):
            _log.warning("the weights of round %d are of another network: not known any more", known_round)
            return None
        return known_round, {name: arrays[name] for name in shapes}

    def _check_missed(self, known_round: int, round_number: int) -> None:
        """Between a known round, or the initial weights (0), and this one."""
        missed = abs(round_number - known_round) - 1
        if 0 < self._max_missed_rounds < missed:
            seen = (
                f"this site took part last in round {known_round}" if known_round else "this site has seen none of it"
            )
            raise UnknownWeightsError(
                f"round {round_number}: {seen}, so {missed} rounds lie between the weights it knows and these; site "
                f"policy: this site wants at most max-missed-rounds = {self._max_missed_rounds:g}. Where that is as it "
                "should be (a site that joins late, or was away for long), its operator raises max-missed-rounds in "
                "the node config for the time being"
            )
