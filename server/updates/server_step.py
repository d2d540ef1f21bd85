"""The server's step: how far the global weights go towards what a round's updates give."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from model.designs.registry import IDENTITY_ROWS

Arrays = Mapping[str, npt.NDArray[np.float32]]


def stepped(before: Arrays, aggregated: Arrays, rate: float) -> dict[str, npt.NDArray[np.float32]]:
    """The new global weights: `before + rate * (aggregated - before)`, computed in float64.

    Sites that go the same number of local steps as one model with all their frames go a shorter way, since what is
    random in their steps falls out of the mean. Rows of identity embeddings are of one site alone, and as it sent them.

    Args:
        before: the global weights of the round.
        aggregated: of the same names and shapes.
        rate: `server-learning-rate`, > 0; 1 gives back what was aggregated, bit for bit.
    """
    if rate == 1:
        return dict(aggregated)
    return {
        name: mean if name in IDENTITY_ROWS else _moved(before[name], mean, rate) for name, mean in aggregated.items()
    }


def _moved(start: npt.NDArray[np.float32], end: npt.NDArray[np.float32], rate: float) -> npt.NDArray[np.float32]:
    way = np.subtract(end, start, dtype=np.float64)
    return np.asarray(start + rate * way, dtype=np.float32)
