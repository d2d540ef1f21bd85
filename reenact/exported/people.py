"""What of a federation's landmarks draws people whom it does not know: of nobody in it by himself.

Legend: I identities, K = 68 landmarks, C coordinates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.landmarks.style import recentre

FloatArray = NDArray[np.float32]


def stand_ins(mean_IKC: FloatArray, std_IKC: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Two people whose landmarks differ, and move, as much as those of a federation's do; one where it has one.

    `reenact.guidance.estimated_statistics` gives the same of them.

    Args:
        mean_IKC: [I, 68, 2] pixels.
        std_IKC: [I, 68, 2] pixels.

    Returns:
        [2 or 1, 68, 2] means, centred on 0, and standard deviations.
    """
    centred_IKC = recentre(mean_IKC, np.zeros_like(mean_IKC))
    within_KC = np.sqrt((std_IKC.astype(np.float64) ** 2).mean(axis=0))
    if len(mean_IKC) == 1:
        return centred_IKC.astype(np.float32), within_KC[None].astype(np.float32)
    spread = np.sqrt(centred_IKC.var(axis=0, ddof=1).mean() / 2)
    apart_K1 = spread * np.resize([1.0, -1.0], (mean_IKC.shape[1], 1))  # its mean is 0, so they stay centred
    middle_KC = centred_IKC.mean(axis=0)
    mean_JKC = np.stack([middle_KC - apart_K1, middle_KC + apart_K1])
    return mean_JKC.astype(np.float32), np.stack([within_KC] * 2).astype(np.float32)
