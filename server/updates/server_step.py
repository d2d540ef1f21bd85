"""The server's step: how far the global weights go towards what a round's updates give."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from federation.reach import goes_further
from federation.settings import Settings

Arrays = Mapping[str, npt.NDArray[np.float32]]


def stepped(before: Arrays, aggregated: Arrays, settings: Settings) -> dict[str, npt.NDArray[np.float32]]:
    """The new global weights: `before + rate * (aggregated - before)` for what generates, computed in float64.

    Sites that go the same number of local steps as one model with all their frames go a shorter way, since what is
    random in their steps falls out of the mean. Discriminators that go further run ahead of what they judge, and rows
    of identity embeddings are of one site alone: both are as aggregated.

    Args:
        before: the global weights of the round.
        aggregated: of the same names and shapes.
        settings: of the run; with `server-learning-rate` 1 what was aggregated comes back bit for bit.
    """
    rate = settings.rounds.server_learning_rate
    if rate == 1:
        return dict(aggregated)
    return {
        name: _moved(before[name], mean, rate) if goes_further(name, settings) else mean
        for name, mean in aggregated.items()
    }


def _moved(start: npt.NDArray[np.float32], end: npt.NDArray[np.float32], rate: float) -> npt.NDArray[np.float32]:
    way = np.subtract(end, start, dtype=np.float64)
    return np.asarray(start + rate * way, dtype=np.float32)
