"""Lists of tensors, as tests hold them, and the vector as which they travel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from client.app import FedReenactClient
from federation.packing import pack, unpack
from model.setting import Scalar


def packed(tensors: Sequence[np.ndarray]) -> np.ndarray:
    """The vector of these tensors."""
    return pack(_named(tensors))


def unpacked(vector_L: np.ndarray, like: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The tensors of a vector, shaped as those."""
    return list(unpack(vector_L, {name: array.shape for name, array in _named(like).items()}).values())


def fit(
    client: FedReenactClient, tensors: Sequence[np.ndarray], config: Mapping[str, Scalar]
) -> tuple[list[np.ndarray], int, dict[str, Scalar]]:
    """What a client answers that is sent these tensors: tensors, number of frames, numbers."""
    (vector,), num_examples, metrics = client.fit([packed(tensors)], dict(config))
    return unpacked(vector, tensors), num_examples, metrics


def _named(tensors: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {str(index): array for index, array in enumerate(tensors)}
