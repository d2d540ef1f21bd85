"""Face metrics of two analysed pictures (thesis 4.2), one pair at a time.

Legend: A = 18 action units, K = 68 landmarks, C coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation.faces.analysis import FaceAnalysis
from model.batch import AU_ORDER

_OUTER_EYE_CORNERS = (36, 45)


def csim(source: FaceAnalysis, generated: FaceAnalysis) -> float:
    """Cosine of the angle between the identity embeddings of source and generated picture (Eq 4.1).

    Returns:
        -1 to 1; higher is better.
    """
    first, second = source.embedding_D.astype(np.float64), generated.embedding_D.astype(np.float64)
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


def prmse_deg(driving: FaceAnalysis, generated: FaceAnalysis) -> float:
    """Root mean square error over the three head pose angles, degrees.

    Each difference is taken the short way round. The error of many pairs is the root of the mean of squares of
    this value, which is the root mean square over all pairs and angles.

    Returns:
        0 to 180; lower is better.
    """
    difference_C = driving.pose_C.astype(np.float64) - generated.pose_C
    difference_C = (difference_C + 180) % 360 - 180
    return float(np.sqrt(np.mean(difference_C**2)))


def landmark_error_percent(driving: FaceAnalysis, generated: FaceAnalysis) -> float:
    """Mean distance of the 68 landmarks, in percent of the driving face's outer eye distance; lower is better."""
    eye_distance = np.linalg.norm(np.subtract(*driving.landmarks_KC[list(_OUTER_EYE_CORNERS)]))
    distance_K = np.linalg.norm(driving.landmarks_KC - generated.landmarks_KC, axis=1)
    return float(100 * distance_K.mean() / max(float(eye_distance), 1e-6))


def aucon(driving: FaceAnalysis, generated: FaceAnalysis, evaluated_aus: Sequence[int]) -> float:
    """Share of the evaluated action units that agree, (TP + TN) / number of evaluated AUs (Eq 4.4).

    Args:
        driving: the driving picture.
        generated: the generated picture.
        evaluated_aus: those the analyser can report; the thesis has 18.

    Returns:
        0 to 1; higher is better. Most units are off most of the time, so even unrelated faces agree in most.
    """
    columns = [AU_ORDER.index(au) for au in evaluated_aus]
    return float(np.mean(driving.au_presence_A[columns] == generated.au_presence_A[columns]))
