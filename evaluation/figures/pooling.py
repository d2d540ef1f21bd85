"""How values of single pairs become one figure: functions of means over pairs, so that all are resampled alike.

Legend: N pairs, V = 1 or 2 values of a pair, Q means that a rule needs.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Pooling(StrEnum):
    """A rule; the last two take two values of a pair, (real, generated)."""

    MEAN = "mean"
    ROOT_MEAN_SQUARE = "root of the mean of squares"
    RATIO = "mean of generated over mean of real"
    SLOPE = "least squares slope of generated against real"

    @property
    def num_values(self) -> int:
        """V, how many values a pair has."""
        return 2 if self in (Pooling.RATIO, Pooling.SLOPE) else 1

    def moments(self, values_VN: FloatArray) -> FloatArray:
        """[Q, N]: what the rule takes the means of."""
        if self is Pooling.ROOT_MEAN_SQUARE:
            return np.square(values_VN)
        if self is Pooling.SLOPE:
            real_N, generated_N = values_VN
            return np.stack([real_N, generated_N, real_N**2, real_N * generated_N])
        return values_VN

    def figure(self, means_QX: FloatArray) -> FloatArray:
        """[X] figures from [Q, X] means of the moments; NaN or infinite where real values leave none."""
        if self is Pooling.MEAN:
            return np.asarray(means_QX[0])
        if self is Pooling.ROOT_MEAN_SQUARE:
            return np.asarray(np.sqrt(means_QX[0]))
        with np.errstate(divide="ignore", invalid="ignore"):
            if self is Pooling.RATIO:
                return np.asarray(means_QX[1] / means_QX[0])
            real_X, generated_X, square_X, product_X = means_QX
            variance_X = _without_rounding(square_X - real_X**2, square_X)
            return np.asarray((product_X - real_X * generated_X) / variance_X)


def _without_rounding(variance_X: FloatArray, square_X: FloatArray) -> FloatArray:
    """The variances, 0 where they are what rounding leaves of equal values."""
    return np.where(variance_X > 1e-12 * square_X, variance_X, 0.0)
