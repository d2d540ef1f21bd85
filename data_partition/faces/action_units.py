"""Facial action units (AUs) estimated from MediaPipe blendshapes: proxies, not a validated FACS coder.

Each AU takes the mean of a few blendshape coefficients (0 to 1). Intensity is five times that, on the 0 to 5
scale of FACS coders; presence is the coefficient above a threshold chosen by eye. AU9 has no source (its
blendshape, noseSneer, never fires), so it is always absent with unknown intensity. AU14 and AU15 are weak.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model.batch import AU_ORDER
from model.landmarks.geometry import INNER_LIP_PAIRS, eye_distance, pair_distances

SILENT_AUS: tuple[int, ...] = (9,)
"""Action units that this estimator can never report."""

_BLENDSHAPES: dict[int, tuple[str, ...]] = {
    1: ("browInnerUp",),
    2: ("browOuterUpLeft", "browOuterUpRight"),
    4: ("browDownLeft", "browDownRight"),
    5: ("eyeWideLeft", "eyeWideRight"),
    7: ("eyeSquintLeft", "eyeSquintRight"),
    10: ("mouthUpperUpLeft", "mouthUpperUpRight"),
    12: ("mouthSmileLeft", "mouthSmileRight"),
    14: ("mouthDimpleLeft", "mouthDimpleRight"),
    15: ("mouthFrownLeft", "mouthFrownRight"),
    17: ("mouthShrugLower",),
    20: ("mouthStretchLeft", "mouthStretchRight"),
    23: ("mouthPressLeft", "mouthPressRight"),
    26: ("jawOpen",),
    45: ("eyeBlinkLeft", "eyeBlinkRight"),
}
_THRESHOLDS: dict[int, float] = {
    1: 0.5,
    2: 0.5,
    4: 0.3,
    5: 0.25,
    6: 0.5,
    7: 0.6,
    10: 0.35,
    12: 0.5,
    14: 0.2,
    15: 0.1,
    17: 0.2,
    20: 0.2,
    23: 0.25,
    25: 0.2,
    26: 0.25,
    28: 0.3,
    45: 0.5,
}
_FULL_LIP_GAP = 0.15
"""Inner-lip gap, in outer-eye distances, that counts as AU25 at full strength."""


def estimate_action_units(
    blendshapes: Mapping[str, float], landmarks_KC: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Presence and intensity of the 18 action units of one face.

    Args:
        blendshapes: MediaPipe category name to coefficient in [0, 1].
        landmarks_KC: [68, 2] (x, y) pixels.

    Returns:
        presence [18] float32, 0 or 1, and intensity [18] float32, 0 to 5 or NaN; both in AU_ORDER.
    """
    strength = {au: float(np.mean([blendshapes[n] for n in names])) for au, names in _BLENDSHAPES.items()}
    strength[6] = min(1.0, 2 * strength[12] * strength[7])
    strength[25] = min(1.0, lip_gap(landmarks_KC) / _FULL_LIP_GAP)
    strength[28] = min(blendshapes["mouthRollLower"], blendshapes["mouthRollUpper"])
    known = [au in strength for au in AU_ORDER]
    presence = [float(au in strength and strength[au] >= _THRESHOLDS[au]) for au in AU_ORDER]
    intensity = np.array([strength.get(au, 0.0) for au in AU_ORDER], np.float32) * 5
    return np.array(presence, np.float32), np.where(known, intensity, np.float32(np.nan)).astype(np.float32)


def lip_gap(landmarks_KC: NDArray[np.float32]) -> float:
    """Mean gap of the inner lips of [68, 2] landmarks, in outer-eye distances."""
    return float(pair_distances(landmarks_KC, INNER_LIP_PAIRS).mean() / eye_distance(landmarks_KC))
