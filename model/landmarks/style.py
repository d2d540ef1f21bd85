"""Landmark style transfer, LSt (thesis 3.3.1)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_MIN_STD_PX = 1e-3


def transfer_landmarks(
    driving_NKC: npt.NDArray[np.float32],
    *,
    driving_mean_KC: npt.NDArray[np.float32],
    driving_std_KC: npt.NDArray[np.float32],
    source_mean_KC: npt.NDArray[np.float32],
    source_std_KC: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """Driving landmarks restyled to the source person (Eq 3.3) and shifted to the driving centre.

    L = (L_driving - mu_driving) / sigma_driving * sigma_source + mu_source, per coordinate; then each frame's
    mean point is moved onto the mean point of its driving landmarks.

    Args:
        driving_NKC: [N, 68, 2] pixels.
        driving_mean_KC: [68, 2] mean of the driving person's landmarks, pixels.
        driving_std_KC: [68, 2] standard deviation, pixels; values below 0.001 count as 0.001.
        source_mean_KC: [68, 2], of the source person.
        source_std_KC: [68, 2], of the source person.

    Returns:
        [N, 68, 2] float32 pixels.
    """
    normalised = (driving_NKC - driving_mean_KC) / np.maximum(driving_std_KC, _MIN_STD_PX)
    restyled = normalised * source_std_KC + source_mean_KC
    return recentre(restyled.astype(np.float32), driving_NKC)


def recentre(landmarks_NKC: npt.NDArray[np.float32], reference_NKC: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """`landmarks_NKC` moved so that each frame's mean point is that of `reference_NKC` ([N, 68, 2] pixels)."""
    shift = reference_NKC.mean(axis=1, keepdims=True) - landmarks_NKC.mean(axis=1, keepdims=True)
    moved: npt.NDArray[np.float32] = landmarks_NKC + shift
    return moved
