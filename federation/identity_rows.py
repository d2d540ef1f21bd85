"""Rows of an array that belong to identities, weighted each by its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def by_row(weights_I: npt.NDArray[np.int64] | npt.NDArray[np.float64], ndim: int) -> npt.NDArray[np.float64]:
    """[I] weights as float64 that broadcast along axis 0 of an array of `ndim` axes."""
    return weights_I.astype(np.float64).reshape(-1, *[1] * (ndim - 1))
