"""Aggregation that one bad update cannot steer: coordinate-wise median and trimmed mean, Krum.

All clients weigh the same: a number of frames is what a site says of itself. The same rules as Flower's FedMedian,
FedTrimmedAvg and Krum, on updates that lie on disk (`store.UpdateStore`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TRIMMED_SHARE = 0.2
"""Of the clients, left out at each end of every coordinate; at least one."""

Array = npt.NDArray[np.float32]


def median(stack_nX: Array) -> Array:
    """Median of every coordinate (Yin et al. 2018). Shapes [n, ...] to [...]."""
    return np.asarray(np.median(stack_nX, axis=0), np.float32)


def trimmed_mean(stack_nX: Array) -> Array:
    """Mean of every coordinate without its smallest and largest values (Yin et al. 2018). Shapes [n, ...] to [...].

    Raises:
        ValueError: if n < 3, when nothing would be left.
    """
    num_clients = len(stack_nX)
    num_cut = max(1, int(TRIMMED_SHARE * num_clients))
    if num_clients <= 2 * num_cut:
        raise ValueError(f"got {num_clients} clients, wanted at least {2 * num_cut + 1}")
    kept = np.sort(stack_nX, axis=0)[num_cut : num_clients - num_cut]
    return np.asarray(kept.mean(axis=0, dtype=np.float64), np.float32)


def krum(products_nn: npt.NDArray[np.float64]) -> int:
    """Row of the update that is nearest to its n - f - 2 nearest ones (Blanchard et al. 2017), f = (n - 3) // 2.

    Args:
        products_nn: [n, n] inner products of the updates, or of their steps from one point. n >= 3.
    """
    num_clients = len(products_nn)
    num_near = num_clients - (num_clients - 3) // 2 - 2
    squares_n = np.diag(products_nn)
    distances_nn = squares_n[:, None] + squares_n[None, :] - 2 * products_nn
    np.fill_diagonal(distances_nn, np.inf)
    return int(np.argmin(np.sort(distances_nn, axis=1)[:, :num_near].sum(axis=1)))
