"""What a secure sum over statistics adds up: each site's means as fixed-point numbers, every site of the same weight.

The vector of a site, with lengths in sides of the frame:

    [ 1 | mean (height, width) of 4 parts | mean of 68 landmarks (x, y) | their variance within a person | base ]

The base is there in runs that agree on one: what `model.landmarks.closed_form.to_vector` gives.

Numbers of frames and persons are not in it: the mean over sites needs none. Values are limited to +-`LIMIT` and sites
to 2^6 (`num_sites.MAX_SITES`): with 40 bits after the binary point sums reach 2^2 * 2^6 * 2^40 = 2^48 and cannot
overflow 2^63.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from federation.secure_sum.primitives import SecureSumError, Vector
from model.batch import NUM_LANDMARKS
from model.landmarks.closed_form import VECTOR_LENGTH, from_vector
from model.landmarks.geometry import PARTS

FRACTION_BITS = 40
LIMIT = 4.0
"""Largest value: landmarks may lie outside of the frame."""

NUM_PARTS = 2 * len(PARTS)
NUM_COORDINATES = 2 * NUM_LANDMARKS
NUM_VALUES = NUM_PARTS + 2 * NUM_COORDINATES
"""V, of a site's statistics without a base."""
LENGTH = 1 + NUM_VALUES
"""Of the vector without a base."""

_SCALE = 2.0**FRACTION_BITS


@dataclass(frozen=True, kw_only=True, slots=True)
class PooledStatistics:
    """Means over the sites, in sides of the frame."""

    part_mean_P2: npt.NDArray[np.float64]
    """[4, 2] (height, width) of each part."""
    landmark_mean_KC: npt.NDArray[np.float64]
    """[68, 2] of the sites' mean faces."""
    landmark_variance_KC: npt.NDArray[np.float64]
    """[68, 2] of the variances within a person."""
    base_V: npt.NDArray[np.float64] | None = None
    """[`VECTOR_LENGTH`] of what a base is fitted to, in runs with one."""


def zero_statistics(*, has_base: bool) -> Vector:
    """[L] uint64 zeros: the form of the vector."""
    return [np.zeros(LENGTH + (VECTOR_LENGTH if has_base else 0), np.uint64)]


def pack_statistics(values_V: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    """[L] fixed-point numbers modulo 2^64.

    Args:
        values_V: [V] in the order of the module's vector, without the leading 1; clipped to +-`LIMIT`.

    Raises:
        SecureSumError: if a value is not finite.
    """
    if not np.isfinite(values_V).all():
        raise SecureSumError("statistics are not finite; check the shard with fedreenact doctor")
    limited = np.clip(np.concatenate([[1.0], values_V]), -LIMIT, LIMIT)
    fixed: npt.NDArray[np.int64] = np.rint(limited * _SCALE).astype(np.int64)
    return fixed.view(np.uint64)


def mean_statistics(total_L: npt.NDArray[np.uint64], num_sites: int) -> PooledStatistics:
    """The means in an unmasked sum.

    Raises:
        SecureSumError: if it is none of statistics of that many sites.
    """
    total = total_L.view(np.int64) / _SCALE
    mean = total[1:] / num_sites
    parts, landmarks, variances, base = np.split(mean, [NUM_PARTS, NUM_PARTS + NUM_COORDINATES, NUM_VALUES])
    has_squares = not base.size or all(one.has_squares(form) for form, one in from_vector(base, 1).items())
    is_positive = min(parts.min(), variances.min()) >= 0 and has_squares
    if total[0] != num_sites or np.abs(mean).max() > LIMIT or not is_positive:
        raise SecureSumError(
            f"the sum over {num_sites} sites is none of landmark statistics: masked statistics were not of this run"
        )
    return PooledStatistics(
        part_mean_P2=parts.reshape(-1, 2),
        landmark_mean_KC=landmarks.reshape(-1, 2),
        landmark_variance_KC=variances.reshape(-1, 2),
        base_V=base if base.size else None,
    )
