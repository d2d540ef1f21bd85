"""Promises of data_partition.faces.action_units."""

import numpy as np
import pytest

from data_partition.faces.action_units import SILENT_AUS, estimate_action_units
from model.batch import AU_ORDER

PAIRED = (
    "browOuterUp",
    "browDown",
    "eyeWide",
    "eyeSquint",
    "eyeBlink",
    "mouthUpperUp",
    "mouthSmile",
    "mouthDimple",
    "mouthFrown",
    "mouthStretch",
    "mouthPress",
    "noseSneer",
)
SINGLE = ("browInnerUp", "mouthShrugLower", "jawOpen", "mouthRollLower", "mouthRollUpper")
NAMES = [f"{name}{side}" for name in PAIRED for side in ("Left", "Right")] + list(SINGLE)


def _estimate(lip_gap_px: float = 0.0, **blendshapes: float) -> tuple[dict[int, float], dict[int, float]]:
    landmarks = np.zeros((68, 2), np.float32)
    landmarks[45] = [100, 0]  # outer eye corners 100 px apart
    landmarks[[65, 66, 67]] = [0, lip_gap_px]
    presence, intensity = estimate_action_units(dict.fromkeys(NAMES, 0.0) | blendshapes, landmarks)
    return dict(zip(AU_ORDER, presence, strict=True)), dict(zip(AU_ORDER, intensity, strict=True))


def test_a_neutral_face_has_no_action_unit() -> None:
    presence, intensity = _estimate()
    assert not any(presence.values())
    assert [au for au, value in intensity.items() if np.isnan(value)] == list(SILENT_AUS) == [9]
    assert sum(value for value in intensity.values() if not np.isnan(value)) == 0


def test_both_sides_are_averaged_and_scaled_to_five() -> None:
    presence, intensity = _estimate(mouthSmileLeft=0.9, mouthSmileRight=0.3)
    assert presence[12] == 1  # 0.6 is above 0.5
    assert intensity[12] == pytest.approx(3.0)


def test_a_squinting_smile_raises_the_cheeks() -> None:
    presence, intensity = _estimate(mouthSmileLeft=0.8, mouthSmileRight=0.8, eyeSquintLeft=0.5, eyeSquintRight=0.5)
    assert intensity[6] == pytest.approx(5 * 2 * 0.8 * 0.5)
    assert presence[6] == 1 and presence[7] == 0


def test_parted_lips_are_measured_on_the_landmarks() -> None:
    assert _estimate(lip_gap_px=6)[1][25] == pytest.approx(5 * 0.06 / 0.15)
    assert _estimate(lip_gap_px=60)[1][25] == 5
    assert _estimate(lip_gap_px=6)[0][25] == 1 and _estimate(lip_gap_px=2)[0][25] == 0


def test_lips_are_sucked_in_only_if_both_are() -> None:
    assert _estimate(mouthRollLower=0.9)[0][28] == 0
    assert _estimate(mouthRollLower=0.9, mouthRollUpper=0.4)[0][28] == 1


def test_the_silent_action_unit_never_fires() -> None:
    presence, intensity = _estimate(noseSneerLeft=1.0, noseSneerRight=1.0)
    assert presence[9] == 0 and np.isnan(intensity[9])
