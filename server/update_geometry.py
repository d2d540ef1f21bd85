"""How far each site moved the networks in a round, and whether it went the way of the others."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save_file

Arrays = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One site's update, seen as a step away from the global networks of the round."""

    norm: float
    """Euclidean length over all travelling tensors."""
    cosine_to_mean: float
    """Cosine of the angle to the mean step of the round, -1 to 1; 0 if one of the two is no step at all."""


class UpdateGeometry:
    """Keeps the updates of one round on disk until their mean is known, so that memory does not grow with the sites.

    The folder is emptied when the round is measured, and when the next one begins.
    """

    def __init__(self, current: Arrays, folder: Path) -> None:
        """Begin a round.

        Args:
            current: the global tensors that the sites started from.
            folder: for the updates; made anew.
        """
        self._current = current
        self._folder = folder
        self._clients: list[int] = []
        shutil.rmtree(folder, ignore_errors=True)

    def add(self, client: int, tensors: Arrays) -> None:
        """Keep one validated update: names and shapes of the global tensors."""
        self._folder.mkdir(parents=True, exist_ok=True)
        save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, self._path(client))
        self._clients.append(client)

    def measure(self, mean: Arrays) -> dict[int, Step]:
        """Each client's step against the mean step, which leads from the old global tensors to `mean`.

        One tensor of one client is in memory at a time.
        """
        steps = {}
        mean_square = sum(_dot(mean[n] - self._current[n], mean[n] - self._current[n]) for n in self._current)
        for client in self._clients:
            square = product = 0.0
            with safe_open(self._path(client), framework="numpy") as update:
                for name, current in self._current.items():
                    step = update.get_tensor(name) - current
                    square += _dot(step, step)
                    product += _dot(step, mean[name] - current)
            lengths = math.sqrt(square) * math.sqrt(mean_square)
            steps[client] = Step(norm=math.sqrt(square), cosine_to_mean=product / lengths if lengths else 0.0)
        shutil.rmtree(self._folder, ignore_errors=True)
        return steps

    def _path(self, client: int) -> Path:
        return self._folder / f"client-{client}.safetensors"


def _dot(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """Inner product with a float64 sum."""
    return float(np.sum(np.multiply(a, b, dtype=np.float64)))
