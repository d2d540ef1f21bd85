"""How much differential privacy Gaussian noise gives: the accountant.

Adding N(0, sigma^2) to every coordinate of a vector that lies within a ball of radius C, T times and adaptively, is
exactly as private as doing it once with sigma / sqrt(T) (Dong, Roth and Su 2022, Gaussian Differential Privacy, on
composition). For one release the exact relation of epsilon and delta is known (Balle and Wang 2018, Improving the
Gaussian Mechanism for Differential Privacy, Theorem 8). So there is no bound to optimise here, and no sampling: every
site takes part in every round.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

DELTA = 1e-5
"""The delta of every statement."""

RELEASES = "dp_releases"
"""Name of the number of noised updates that were made of a person's frames, over all runs."""

MU = "dp_mu"
"""Name of the mu of all of them together, as `composed_mu` gives it."""


def composed_mu(releases: Iterable[tuple[float, int]]) -> float:
    """The mu of the one Gaussian mechanism that is as private as all releases together: squares add up.

    A site's frames may be replaced by any others (local model; Kasiviswanathan et al. 2011): two clipped updates are at
    most 2 C apart, so one release with noise z C has mu = 2 / z, whatever C is. Accountants that compare an update with
    none at all, whose sensitivity is C, give the same number for half of this noise multiplier.

    Args:
        releases: (noise multiplier z > 0, number of releases with it >= 0); the noise may differ from run to run.
    """
    return 2.0 * math.hypot(*(math.sqrt(count) / noise for noise, count in releases))


def epsilon_of(mu: float, *, delta: float = DELTA) -> float:
    """Smallest epsilon for which releases of that mu are (epsilon, delta) differentially private.

    Args:
        mu: of all releases together, >= 0.
        delta: between 0 and 1.

    Returns:
        Epsilon, rounded up in its tenth digit; 0 without releases, infinity from mu = 1e100 on.
    """
    if mu >= 1e100:  # its square, which epsilon grows with, is soon no number any more
        return math.inf
    if not mu or delta_of(0.0, mu) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while delta_of(high, mu) > delta:
        low, high = high, 2 * high
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of(middle, mu) > delta else (low, middle)
    return high


def delta_of(epsilon: float, mu: float) -> float:
    """Delta of a Gaussian mechanism: Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu).

    Balle and Wang 2018, Theorem 8.

    Args:
        epsilon: >= 0.
        mu: sensitivity in units of the noise's standard deviation, > 0.
    """
    tail = mu / 2 + epsilon / mu
    return _normal_cdf(mu / 2 - epsilon / mu) - math.exp(epsilon + _log_normal_tail(tail))


def _normal_cdf(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


def _log_normal_tail(x: float) -> float:
    """Logarithm of Phi(-x); far out its lower bound x / (1 + x^2) phi(x) (Gordon 1941): delta is never too small."""
    if x < 20:
        return math.log(math.erfc(x / math.sqrt(2)) / 2)
    return -x * x / 2 - math.log(2 * math.pi) / 2 + math.log(x / (1 + x * x))
