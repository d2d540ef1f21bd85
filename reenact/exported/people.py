"""What of a federation's landmarks draws people whom it does not know: of nobody in it by himself.

Legend: I identities, K = 68 landmarks, C coordinates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.landmarks.style import recentre

FloatArray = NDArray[np.float32]


def stand_ins(mean_IKC: FloatArray, std_IKC: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Two people who are as alike, and move as much, as those of a federation; one where it has one.

    `reenact.guidance.estimated_statistics` gives the same of them.

    Args:
        mean_IKC: [I, 68, 2] pixels.
        std_IKC: [I, 68, 2] pixels.

    Returns:
        [2 or 1, 68, 2] means, centred on 0, and standard deviations.
    """
    centred_IKC = recentre(mean_IKC, np.zeros_like(mean_IKC))
    middle_KC, signs = centred_IKC.mean(axis=0), np.zeros(1)
    spread_KC = np.zeros_like(middle_KC)
    if len(mean_IKC) > 1:
        spread_KC, signs = centred_IKC.std(axis=0, ddof=1) / np.sqrt(2), np.array([-1, 1])
    within_KC = np.sqrt((std_IKC.astype(np.float64) ** 2).mean(axis=0))
    mean_JKC = middle_KC + signs[:, None, None] * spread_KC
    return mean_JKC.astype(np.float32), np.stack([within_KC] * len(signs)).astype(np.float32)
