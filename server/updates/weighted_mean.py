"""Example-weighted averaging of updates that arrive one at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from federation.identity_rows import by_row

Arrays = Mapping[str, npt.NDArray[np.float32]]


class StreamingMean:
    """Weighted mean of named tensors that holds float64 sums, never the updates themselves.

    Sums of floats depend on their order in the last bit, so the caller adds the clients in one fixed order (by
    partition id); the server gets that order by fetching replies in it, not by keeping replies in memory.
    """

    def __init__(self, current: Arrays, *, identity_rows: Collection[str] = ()) -> None:
        """Start with nothing added.

        Args:
            current: the global tensors of the round; rows and tensors that nobody trained keep these values.
            identity_rows: names of tensors [I, ...] whose row i is averaged over the clients that own identity i.
        """
        self._current = current
        self._identity_rows = frozenset(identity_rows)
        self._sums = {name: np.zeros(array.shape, np.float64) for name, array in current.items()}
        self._weight = 0.0
        self._identity_weights: npt.NDArray[np.float64] | float = 0.0

    def add(self, tensors: Arrays, *, weight: int, identity_weights_I: npt.NDArray[np.int64]) -> None:
        """Add one validated update.

        Args:
            tensors: names and shapes of `current`.
            weight: the client's number of training frames, > 0.
            identity_weights_I: [I] the client's training frames of each identity.

        Raises:
            ValueError: if weight is not positive or a shape differs (broadcasting would hide it).
        """
        if weight <= 0:
            raise ValueError(f"got weight {weight}, wanted > 0")
        for name, total in self._sums.items():
            if tensors[name].shape != total.shape:
                raise ValueError(f"{name} has shape {tensors[name].shape}, wanted {total.shape}")
        for name, total in self._sums.items():
            factor = by_row(identity_weights_I, total.ndim) if name in self._identity_rows else weight
            total += np.multiply(tensors[name], factor, dtype=np.float64)
        self._weight += weight
        self._identity_weights = self._identity_weights + identity_weights_I.astype(np.float64)

    def result(self) -> dict[str, npt.NDArray[np.float32]]:
        """The means, in the dtype and order of `current`.

        Raises:
            ValueError: if nothing was added.
        """
        if not self._weight:
            raise ValueError("no update was added")
        return {name: np.asarray(self._mean(name), array.dtype) for name, array in self._current.items()}

    def _mean(self, name: str) -> npt.NDArray[np.float64]:
        if name not in self._identity_rows:
            return self._sums[name] / self._weight
        weights = by_row(np.asarray(self._identity_weights), self._sums[name].ndim)
        trained = self._sums[name] / np.maximum(weights, 1.0)
        return np.where(weights > 0, trained, self._current[name])
