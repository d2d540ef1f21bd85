"""The tensors of a network as they travel: one vector.

Flower moves a message array by array, each with requests of its own that are signed and checked: a network of 222
tensors takes 222 times as many of them as its values in one array.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from model.errors import TensorMismatchError
from model.networks.bundle import NamedArrays

Shapes = Mapping[str, tuple[int, ...]]
Vector = npt.NDArray[np.float32]


def pack(tensors: NamedArrays) -> Vector:
    """The values of all tensors, one after another in their order, as [L] float32."""
    return np.concatenate([array.reshape(-1) for array in tensors.values()]).astype(np.float32, copy=False)


def unpack(vector_L: Vector, shapes: Shapes) -> dict[str, npt.NDArray[np.float32]]:
    """The tensors of a vector by name, as views of it.

    Args:
        vector_L: [L] float32, as `pack` made it.
        shapes: of the tensors, in the same order.

    Raises:
        TensorMismatchError: if this is no vector of these tensors.
    """
    sizes = [math.prod(shape) for shape in shapes.values()]
    if vector_L.shape != (sum(sizes),) or vector_L.dtype != np.float32:
        raise TensorMismatchError(
            f"got weights of shape {vector_L.shape} and dtype {vector_L.dtype}, expected [{sum(sizes)}] float32; do "
            "both run the same version and preset?"
        )
    parts = np.split(vector_L, np.cumsum(sizes)[:-1])
    return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
