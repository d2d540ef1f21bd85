"""What a secure sum adds up: a site's weighted step, its weights and its losses as one vector of fixed-point numbers.

The vector of a site with weight w (its training frames) and, for every identity, weight w_i:

    [ w | w_i for I identities | w * loss, w * (1 if sent else 0) for M losses | w * step of every tensor ]

Rows of the identity embeddings are multiplied by w_i in place of w. The sum over sites holds everything that the plain
average needs, and every value is held modulo 2^64 with `FRACTION_BITS` bits after the binary point. Steps and losses
are limited to +-`LIMIT`, weights to `MAX_WEIGHT` and sites to 2^6 (`num_sites.MAX_SITES`): sums reach
2^12 * 2^20 * 2^6 * 2^24 = 2^62 and cannot overflow 2^63. A value is off by at most half a step of 2^-24, so a mean over
n sites with weights that sum to W is off by at most n * 2^-25 / W.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from federation.identity_rows import by_row
from federation.secure_sum.primitives import SecureSumError
from model.config import ModelConfig
from model.designs.registry import IDENTITY_ROWS, design_of
from model.errors import NonFiniteLossError
from model.networks.bundle import NamedArrays, validate_tensors

FRACTION_BITS = 24
LIMIT = 2.0**12
"""Largest size of a weight's step in a round, and of a loss; larger ones are clipped by the site."""
MAX_WEIGHT = 2**20
"""Most training frames of a site."""

_SCALE = 2.0**FRACTION_BITS


@dataclass(frozen=True, kw_only=True, slots=True)
class Mean:
    """What the sum says about all sites together."""

    tensors: dict[str, npt.NDArray[np.float32]]
    """The new global tensors."""
    metrics: dict[str, float]
    """Weighted mean of every loss that a site sent."""
    weight: int
    """Training frames of all sites in the sum; the number of sites if all weigh the same."""


class SumLayout:
    """Where what is in the vector; the same for all sites and the server of a run."""

    def __init__(self, current: NamedArrays, num_identities: int, losses: Sequence[str]) -> None:
        """For the global tensors of a round.

        Args:
            current: in their fixed order.
            num_identities: I.
            losses: M names, in any order.
        """
        self._current = current
        self._losses = sorted(losses)
        self._num_identities = num_identities
        self._num_scalars = 1 + num_identities + 2 * len(self._losses)
        self.length = self._num_scalars + sum(array.size for array in current.values())
        """L."""

    @classmethod
    def of_run(cls, current: NamedArrays, model: ModelConfig) -> SumLayout:
        """For the global tensors of a round of a run that trains this network."""
        return cls(current, model.num_identities, design_of(model.network).reported())

    def pack(
        self,
        tensors: NamedArrays,
        *,
        weight: int,
        identity_weights_I: npt.NDArray[np.int64],
        losses: Mapping[str, float],
    ) -> npt.NDArray[np.uint64]:
        """[L] uint64 of one site.

        Args:
            tensors: what the site trained; names, shapes and dtypes of the global ones.
            weight: w, 1 to `MAX_WEIGHT`.
            identity_weights_I: [I] w_i, 0 to w.
            losses: any of the layout's names; others are left out of the sum.

        Raises:
            TensorMismatchError: if a tensor does not fit or is not finite: nobody can see that after masking.
            NonFiniteLossError: if a loss is not finite.
            SecureSumError: if a weight is out of range.
        """
        validate_tensors(tensors, self._current, where="own update")
        if not 1 <= weight <= MAX_WEIGHT or not (identity_weights_I >= 0).all():
            raise SecureSumError(f"got {weight} training frames, wanted 1 to {MAX_WEIGHT} in a secure sum")
        if identity_weights_I.shape != (self._num_identities,) or (identity_weights_I > weight).any():
            raise SecureSumError(
                f"got {identity_weights_I.shape} frames of identities, wanted ({self._num_identities},)"
            )
        vector = np.empty(self.length, np.int64)
        vector[: self._num_scalars] = _fixed(self._scalars(weight, identity_weights_I, losses))
        begin = self._num_scalars
        for name, old in self._current.items():
            step = np.clip(np.subtract(tensors[name], old, dtype=np.float64), -LIMIT, LIMIT)
            factor = by_row(identity_weights_I, step.ndim) if name in IDENTITY_ROWS else weight
            vector[begin : begin + old.size] = _fixed(step * factor).reshape(-1)
            begin += old.size
        return vector.view(np.uint64)

    def num_clipped(self, tensors: NamedArrays, losses: Mapping[str, float]) -> int:
        """Values whose step is beyond `LIMIT`, and losses of the layout that are."""
        steps = (np.subtract(tensors[n], old, dtype=np.float64) for n, old in self._current.items())
        num_losses = sum(abs(losses[name]) > LIMIT for name in self._losses if name in losses)
        return sum(int((np.abs(step) > LIMIT).sum()) for step in steps) + num_losses

    def mean(self, total_L: npt.NDArray[np.uint64], num_sites: int) -> Mean:
        """The averages in an unmasked sum.

        Identity rows that nobody trained keep the global values.

        Raises:
            SecureSumError: if a value is beyond what that many sites can sum to: a site did not keep to the layout.
        """
        total = total_L.view(np.int64)
        scalars = total[: self._num_scalars] / _SCALE
        weight, weights_I = float(scalars[0]), scalars[1 : 1 + self._num_identities]
        self._require_weights(scalars[: 1 + self._num_identities], num_sites)
        bound = weight * LIMIT + num_sites
        if np.abs(scalars).max() > bound or max(total.max() / _SCALE, -(total.min() / _SCALE)) > bound:
            raise SecureSumError(
                f"a sum over {num_sites} sites is beyond {bound:g}: a masked update was not of this run"
            )
        pairs = scalars[1 + self._num_identities :].reshape(-1, 2)
        metrics = {n: float(s / w) for n, (s, w) in zip(self._losses, pairs, strict=True) if w > 0}
        tensors, begin = {}, self._num_scalars
        for name, old in self._current.items():
            steps = (total[begin : begin + old.size] / _SCALE).reshape(old.shape)
            begin += old.size
            divisor = np.maximum(by_row(weights_I, old.ndim), 1.0) if name in IDENTITY_ROWS else weight
            tensors[name] = np.asarray(old + steps / divisor, old.dtype)
        return Mean(tensors=tensors, metrics=metrics, weight=int(weight))

    def _scalars(
        self, weight: int, identity_weights_I: npt.NDArray[np.int64], losses: Mapping[str, float]
    ) -> npt.NDArray[np.float64]:
        pairs: list[float] = []
        for name in self._losses:
            value = losses.get(name)
            if value is not None and not math.isfinite(value):
                raise NonFiniteLossError(f"{name} is {value}, wanted a finite number")
            pairs += [0.0, 0.0] if value is None else [weight * max(-LIMIT, min(value, LIMIT)), weight]
        return np.array([weight, *identity_weights_I, *pairs], np.float64)

    def _require_weights(self, weights: npt.NDArray[np.float64], num_sites: int) -> None:
        """Whole numbers, of frames at least one and at most what the sites may have."""
        is_whole = (weights == np.rint(weights)).all() and (weights >= 0).all()
        if not is_whole or not num_sites <= weights[0] <= num_sites * MAX_WEIGHT or weights.max() > weights[0]:
            raise SecureSumError(
                f"the sum over {num_sites} sites has weights that are no numbers of frames: a masked update was not of "
                "this run"
            )


def _fixed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The nearest fixed-point numbers."""
    return np.rint(values * _SCALE).astype(np.int64)
