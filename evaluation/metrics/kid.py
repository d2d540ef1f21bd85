"""Kernel distance of two sets of pictures (KID; Binkowski et al. 2018), in features of VGG-16 (HED), not Inception's.

Values are on a scale of their own: compare them with those of the same name alone, and with real against real.

Legend: N real pictures, M generated ones, D features, m pictures of each kind in a subset.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.faces.analysis import frame_key
from evaluation.metrics.vgg_levels import KID_LEVELS, VggLevels
from model.frames import Frame

FloatArray = NDArray[np.float32]
Picks = NDArray[np.int64]

_NUM_SUBSETS = 100
_MAX_SUBSET = 200
_LEAST_SPREAD = 0.1
"""Of a feature, in units of the root mean square of all spreads: one that is nearly constant over the real pictures
would count for thousands of others as soon as a generated picture moves it."""


class KidFeatures:
    """Means over the picture of the channels of relu3_3 and relu4_3; those of every picture are kept."""

    def __init__(self, vgg16: VggLevels) -> None:
        """Look with VGG-16; a picture takes 3 KB."""
        self._vgg16 = vgg16
        self._known: dict[str, FloatArray] = {}

    def __call__(self, frame_HWC: Frame) -> FloatArray:
        """[768] of a uint8 [H, W, 3] RGB frame."""
        key = frame_key(frame_HWC)
        if key not in self._known:
            self._known[key] = self._features(frame_HWC)
        return self._known[key]

    @torch.inference_mode()
    def _features(self, frame_HWC: Frame) -> FloatArray:
        levels = self._vgg16(frame_HWC)
        return torch.cat([levels[name].mean(dim=(2, 3)) for name in KID_LEVELS], dim=1)[0].numpy()


def kid(real_ND: FloatArray, generated_MD: FloatArray, *, seed: int) -> tuple[float, float]:
    """Mean and standard deviation over 100 random subsets of the unbiased squared kernel distance.

    k(x, y) = (x . y / D + 1)^3, every feature measured from its mean over the real pictures in units of its standard
    deviation there, or of a tenth of the root mean square of all deviations if that is more: the cube of what all
    pictures have in common would hide, and scatter, what tells them apart. A subset has m = min(N, M, 200) pictures of
    each kind.

    Args:
        real_ND: [N, D] features of different real pictures.
        generated_MD: [M, D] features of generated pictures.
        seed: of the subsets.

    Returns:
        (mean, standard deviation). The mean is about 0 for sets of one distribution, and below 0 where both sets hold
        the same pictures; the deviation is 0 where every subset is the whole set. NaN if a set has fewer than two
        pictures.
    """
    size = min(len(real_ND), len(generated_MD), _MAX_SUBSET)
    rng = np.random.default_rng(seed)
    picks = [
        (rng.permutation(len(real_ND))[:size], rng.permutation(len(generated_MD))[:size]) for _ in range(_NUM_SUBSETS)
    ]
    return _over_subsets(real_ND, generated_MD, picks)


def kid_of_halves(real_ND: FloatArray, *, seed: int) -> tuple[float, float]:
    """Real against real: the same of random halves of one set, with m = min(N / 2, 200)."""
    size = min(len(real_ND) // 2, _MAX_SUBSET)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(real_ND)) for _ in range(_NUM_SUBSETS)]
    return _over_subsets(real_ND, real_ND, [(order[:size], order[size : 2 * size]) for order in orders])


def _over_subsets(
    real_ND: FloatArray, other_MD: FloatArray, picks: Sequence[tuple[Picks, Picks]]
) -> tuple[float, float]:
    """(mean, standard deviation) of the distance between the picked pictures of two sets."""
    spread_D = real_ND.std(axis=0, dtype=np.float64)
    if len(picks[0][0]) < 2 or not spread_D.any():
        return float("nan"), float("nan")
    spread_D = spread_D.clip(min=_LEAST_SPREAD * np.sqrt(np.square(spread_D).mean()))
    mean_D = real_ND.mean(axis=0, dtype=np.float64)
    real, other = ((features - mean_D) / spread_D for features in (real_ND, other_MD))
    values = [_unbiased(real[chosen], other[also]) for chosen, also in picks]
    return float(np.mean(values)), float(np.std(values))


def _unbiased(real_mD: NDArray[np.float64], other_mD: NDArray[np.float64]) -> float:
    """The squared kernel distance of as many pictures of each kind, none compared with itself."""
    size = len(real_mD)
    within = sum(kernel.sum() - kernel.trace() for kernel in (_kernel(real_mD, real_mD), _kernel(other_mD, other_mD)))
    return float(within / (size * (size - 1)) - 2 * _kernel(real_mD, other_mD).mean())


def _kernel(one_mD: NDArray[np.float64], other_mD: NDArray[np.float64]) -> NDArray[np.float64]:
    """[m, m] of (x . y / D + 1)^3."""
    base_mm = one_mD @ other_mD.T / one_mD.shape[1] + 1
    return np.asarray(base_mm * base_mm * base_mm)
