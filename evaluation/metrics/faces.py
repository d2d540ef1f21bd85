"""Face metrics of two analysed pictures (thesis 4.2), one pair at a time.

Legend: A = 18 action units, C coordinates, E = 2 eyes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation.faces.analysis import FaceAnalysis
from model.batch import AU_ORDER
from model.landmarks.geometry import eye_distance
from model.landmarks.irises import gaze_EC


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
    distance_K = np.linalg.norm(driving.landmarks_KC - generated.landmarks_KC, axis=1)
    return float(100 * distance_K.mean() / eye_distance(driving.landmarks_KC))


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


def au_intensity_error(driving: FaceAnalysis, generated: FaceAnalysis, evaluated_aus: Sequence[int]) -> float:
    """Mean absolute difference of the evaluated action units' intensities.

    Args:
        driving: the driving picture.
        generated: the generated picture.
        evaluated_aus: those the analyser can report.

    Returns:
        0 to 5, lower is better; NaN if no unit's intensity is known in both pictures.
    """
    columns = [AU_ORDER.index(au) for au in evaluated_aus]
    difference = np.abs(driving.au_intensity_A - generated.au_intensity_A)[columns].astype(np.float64)
    known = difference[~np.isnan(difference)]
    return float(known.mean()) if known.size else float("nan")


def gaze_error_percent(driving: FaceAnalysis, generated: FaceAnalysis) -> float:
    """How far the irises are from where they should be in their eyes, mean of both eyes.

    An iris is where its centre lies from the middle of the eye's corners, along and across the line through them, in
    widths of that eye: head pose and the shape of the face drop out.

    Returns:
        >= 0 in percent of the eye width, lower is better; NaN if the analyser has no irises.
    """
    if driving.irises_EC is None or generated.irises_EC is None:
        return float("nan")
    difference_EC = gaze_EC(driving.landmarks_KC, driving.irises_EC) - gaze_EC(
        generated.landmarks_KC, generated.irises_EC
    )
    return float(100 * np.linalg.norm(difference_EC, axis=1).mean())
