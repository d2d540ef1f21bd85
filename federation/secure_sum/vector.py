"""What a secure sum adds up: a site's weighted step, its weights and its losses as one vector of fixed-point numbers.

The vector of a site with weight w (its training frames) and, for every identity, weight w_i:

    [ w | w_i for I identities | w * loss, w * (1 if sent else 0) for M losses | w * step of every tensor ]

Rows of the identity embeddings are multiplied by w_i in place of w. The sum over sites holds everything that the plain
average needs, and every value is held modulo 2^64 with `FRACTION_BITS` bits after the binary point. Steps and losses
are limited to +-`LIMIT`, weights to `MAX_WEIGHT` and sites to 2^6 (`num_sites.MAX_SITES`): sums reach
2^12 * 2^20 * 2^6 * 2^24 = 2^62 and cannot overflow 2^63. A value is off by at most half a step of 2^-24, so a mean over
n sites with weights that sum to W is off by at most n * 2^-25 / W.

With an `update-codec` the steps of the tensors that all sites share are a second part, modulo 2^32, in units of each
tensor: 2^31 of them are as far as a round carries a value (`federation.reach`), times the most frames that all sites
may have, so no sum overflows. Units follow from approved settings alone. A server that could choose them could choose
such as round the steps of all sites away but the largest one's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from federation.identity_rows import by_row
from federation.reach import reach
from federation.secure_sum.num_sites import MAX_SITES
from federation.secure_sum.primitives import SecureSumError, Vector
from federation.settings import Settings
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Coarse:
    """Steps that are summed modulo 2^32."""

    limits: Mapping[str, float]
    """Name of each tensor to the largest size of its values' steps; larger ones are clipped by the site."""
    most_frames: int
    """That all sites together may have."""

    @classmethod
    def of_run(cls, current: NamedArrays, settings: Settings) -> Coarse:
        """Of all tensors but the rows of identities, which are few, and of one site's frames each."""
        shared = {name: array.size for name, array in current.items() if name not in IDENTITY_ROWS}
        limits = {name: reach(name, size, settings, 1).largest for name, size in shared.items()}
        max_weight = 1 if settings.privacy.dp_noise_multiplier > 0 else MAX_WEIGHT
        return cls(limits=limits, most_frames=settings.rounds.num_clients * max_weight)

    def unit(self, name: str) -> float:
        """The weighted step that is 1 in the sum; the sites' halves of a unit that rounding may add fit in too."""
        return self.limits[name] * self.most_frames / (2.0**31 - MAX_SITES)


class SumLayout:
    """Where what is in the vector; the same for all sites and the server of a run."""

    def __init__(
        self,
        current: NamedArrays,
        num_identities: int,
        losses: Sequence[str],
        *,
        coarse: Coarse | None = None,
    ) -> None:
        """For the global tensors of a round.

        Args:
            current: in their fixed order.
            num_identities: I.
            losses: M names, in any order.
            coarse: how steps are summed modulo 2^32; None if none are.
        """
        self._current = current
        self._losses = sorted(losses)
        self._num_identities = num_identities
        self._num_scalars = 1 + num_identities + 2 * len(self._losses)
        self._coarse = coarse or Coarse(limits={}, most_frames=0)
        self._fine_names = [name for name in current if name not in self._coarse.limits]
        self._coarse_names = [name for name in current if name in self._coarse.limits]

    @classmethod
    def of_run(cls, current: NamedArrays, settings: Settings) -> SumLayout:
        """For the global tensors of a round of a run."""
        model = settings.model
        is_coarse = settings.rounds.update_codec != "float32"
        coarse = Coarse.of_run(current, settings) if is_coarse else None
        return cls(current, model.num_identities, design_of(model.network).reported(), coarse=coarse)

    def zero(self) -> Vector:
        """[L] uint64, and [K] uint32 of coarse steps if there are such."""
        fine = np.zeros(self._num_scalars + self._num_values(self._fine_names), np.uint64)
        return [fine, np.zeros(self._num_values(self._coarse_names), np.uint32)] if self._coarse_names else [fine]

    def pack(
        self,
        tensors: NamedArrays,
        *,
        weight: int,
        identity_weights_I: npt.NDArray[np.int64],
        losses: Mapping[str, float],
    ) -> Vector:
        """The vector of one site, of the form of `zero`.

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
        if identity_weights_I.shape != (self._num_identities,):
            raise SecureSumError(
                f"got {identity_weights_I.shape} frames of identities, wanted ({self._num_identities},)"
            )
        if (identity_weights_I > weight).any():
            raise SecureSumError(
                f"got {identity_weights_I.max()} frames of an identity, wanted at most {weight} of all"
            )
        vector = self.zero()
        scalars = self._scalars(weight, identity_weights_I, losses)
        vector[0].view(np.int64)[: self._num_scalars] = np.rint(scalars * _SCALE)
        for name, whole in self._parts(vector):
            limit = self._coarse.limits.get(name, LIMIT)
            step = np.clip(np.subtract(tensors[name], self._current[name], dtype=np.float64), -limit, limit)
            whole[...] = np.rint(step * self._weights(name, weight, identity_weights_I) / self._unit(name))
        return vector

    def num_clipped(self, tensors: NamedArrays, losses: Mapping[str, float]) -> int:
        """Values whose step is beyond what the sum holds of a site, and losses of the layout that are."""
        num_values = 0
        for name, old in self._current.items():
            limit = self._coarse.limits.get(name, LIMIT)
            num_values += int((np.abs(np.subtract(tensors[name], old, dtype=np.float64)) > limit).sum())
        return num_values + sum(abs(losses[name]) > LIMIT for name in self._losses if name in losses)

    def mean(self, total: Vector, num_sites: int) -> Mean:
        """The averages in an unmasked sum.

        Identity rows that nobody trained keep the global values.

        Raises:
            SecureSumError: if a value is beyond what that many sites can sum to: a site did not keep to the layout.
        """
        scalars = total[0].view(np.int64)[: self._num_scalars] / _SCALE
        weight, weights_I = float(scalars[0]), scalars[1 : 1 + self._num_identities]
        self._require_weights(scalars[: 1 + self._num_identities], num_sites)
        bound = weight * LIMIT + num_sites
        _require_within(total[0].view(np.int64), 1 / _SCALE, bound, num_sites)
        pairs = scalars[1 + self._num_identities :].reshape(-1, 2)
        metrics = {n: float(s / w) for n, (s, w) in zip(self._losses, pairs, strict=True) if w > 0}
        tensors = {}
        for name, whole in self._parts(total):
            old, unit = self._current[name], self._unit(name)
            if name in self._coarse.limits:
                _require_within(whole, unit, weight * self._coarse.limits[name] + num_sites * unit, num_sites)
            divisor = np.maximum(self._weights(name, weight, weights_I), 1.0)
            tensors[name] = np.asarray(old + whole * unit / divisor, old.dtype)
        return Mean(tensors={name: tensors[name] for name in self._current}, metrics=metrics, weight=int(weight))

    def _num_values(self, names: Sequence[str]) -> int:
        return sum(self._current[name].size for name in names)

    def _parts(self, vector: Vector) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """Name of each tensor, and its own whole numbers of a vector, as a view in its shape."""
        parts: list[tuple[list[str], npt.NDArray[Any]]] = [
            (self._fine_names, vector[0].view(np.int64)[self._num_scalars :]),
            (self._coarse_names, vector[-1].view(np.int32)),
        ]
        for names, whole in parts:
            begin = 0
            for name in names:
                old = self._current[name]
                yield name, whole[begin : begin + old.size].reshape(old.shape)
                begin += old.size

    def _unit(self, name: str) -> float:
        """The weighted step of a tensor that is 1 in the sum."""
        return self._coarse.unit(name) if name in self._coarse.limits else 1 / _SCALE

    def _weights(self, name: str, weight: float, identity_weights_I: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """What a tensor's step is multiplied by: the weight, or one for each row."""
        is_by_row = name in IDENTITY_ROWS
        return np.asarray(by_row(identity_weights_I, self._current[name].ndim) if is_by_row else weight, np.float64)

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


def _require_within(whole: npt.NDArray[Any], unit: float, bound: float, num_sites: int) -> None:
    if max(whole.max(initial=0) * unit, -(whole.min(initial=0) * unit)) > bound:
        raise SecureSumError(f"a sum over {num_sites} sites is beyond {bound:g}: a masked update was not of this run")
