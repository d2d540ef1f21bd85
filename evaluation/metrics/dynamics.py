"""How much lips, head and brows move over a clip (THEval, 2025, its parts that need no speech).

Legend: F frames of one clip in their order, K = 68 landmarks, C coordinates or angles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.landmarks.geometry import INNER_LIP_PAIRS, OUTER_EYE_CORNERS, pair_distances

FloatArray = NDArray[np.float64]

# fmt: off
_LIP_PAIRS = ((50, 58), (51, 57), (52, 56), *INNER_LIP_PAIRS)  # upper and lower, the outer ones first
_BROW_PAIRS = ((18, 37), (19, 37), (20, 38), (23, 43), (24, 44), (25, 44))  # brow, upper lid
# fmt: on
_EYE_CORNERS = (36, 39, 42, 45)


def lip_motion(landmarks_FKC: FloatArray) -> float:
    """Standard deviation over time of the distance of upper and lower lip, mean of six pairs of points.

    Args:
        landmarks_FKC: [F, 68, 2] pixels.

    Returns:
        >= 0, in outer-eye distances.
    """
    return float(_distances_FP(landmarks_FKC, _LIP_PAIRS).std(axis=0).mean())


def brow_motion(landmarks_FKC: FloatArray) -> float:
    """The same of brows and upper lids."""
    return float(_distances_FP(landmarks_FKC, _BROW_PAIRS).std(axis=0).mean())


def head_motion(landmarks_FKC: FloatArray, pose_FC: FloatArray) -> float:
    """sqrt(mean sd of the angles x mean variance of their steps + mean variance of the steps of the eyes' middle).

    Args:
        landmarks_FKC: [F, 68, 2] pixels.
        pose_FC: [F, 3] degrees.

    Returns:
        >= 0; angles are taken in degrees, steps in percent of the outer-eye distance.
    """
    middle_FC = 100 * landmarks_FKC[:, _EYE_CORNERS].mean(axis=1) / _eye_distance_F(landmarks_FKC).mean()
    turning = pose_FC.std(axis=0).mean() * np.diff(pose_FC, axis=0).var(axis=0).mean()
    return float(np.sqrt(turning + np.diff(middle_FC, axis=0).var(axis=0).mean()))


def agreement(driving: float, generated: float) -> float:
    """1 - |generated - driving| / driving of two such amounts.

    Returns:
        1 for equal amounts, 0 for a result that does not move or moves twice as much, below 0 for more; NaN where the
        driving clip does not move.
    """
    return 1 - abs(generated - driving) / driving if driving > 0 else float("nan")


def _distances_FP(landmarks_FKC: FloatArray, pairs: tuple[tuple[int, int], ...]) -> FloatArray:
    """[F, P] distances of pairs of landmarks, in the clip's mean outer-eye distance."""
    return np.asarray(pair_distances(landmarks_FKC, pairs) / _eye_distance_F(landmarks_FKC).mean(), np.float64)


def _eye_distance_F(landmarks_FKC: FloatArray) -> FloatArray:
    return np.asarray(np.maximum(pair_distances(landmarks_FKC, [OUTER_EYE_CORNERS])[:, 0], 1e-6))
