"""Colours of high dynamic range on an ordinary screen: PQ and HLG (ITU-R BT.2100) to sRGB.

What an ordinary screen shows at most, 100 cd/m2, is taken for white, as converters do; brighter light is pressed into
the last quarter below white, in which paper white of phones (203 cd/m2, ITU-R BT.2408) is almost white.
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Transfer = Literal["pq", "hlg"]

WHITE_CD_M2 = 100.0
_HLG_PEAK_CD_M2, _HLG_GAMMA = 1000.0, 1.2
_KNEE = 0.75
"""Of white: what is darker stays as it is."""
_BITS = 12
_TO_709 = np.array([(1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)], np.float32)
"""Linear BT.2020 to linear BT.709 primaries (ITU-R BT.2087)."""
_LUMA = np.array((0.2627, 0.6780, 0.0593), np.float32)


def tone_mapped(image_HWC: NDArray[np.uint16], transfer: Transfer) -> NDArray[np.uint8]:
    """A frame of BT.2020 in PQ or HLG as an sRGB picture.

    Args:
        image_HWC: [H, W, 3] uint16 RGB, full range.
        transfer: how light became numbers.

    Returns:
        [H, W, 3] uint8 RGB.
    """
    light_HWC = _linear(transfer)[image_HWC >> (16 - _BITS)]
    if transfer == "hlg":  # the screen's own curve, of the brightness and not of each colour
        luma_HW1 = (light_HWC @ _LUMA)[..., None]
        light_HWC = light_HWC * np.maximum(luma_HW1, 1e-6) ** (_HLG_GAMMA - 1) * (_HLG_PEAK_CD_M2 / WHITE_CD_M2)
    light_HWC = np.maximum(light_HWC @ _TO_709.T, 0)
    brightest_HW1 = light_HWC.max(axis=2, keepdims=True)
    excess_HW1 = np.maximum(brightest_HW1 - _KNEE, 0) / (1 - _KNEE)
    pressed_HW1 = _KNEE + (1 - _KNEE) * excess_HW1 / (1 + excess_HW1)
    light_HWC *= np.where(brightest_HW1 > _KNEE, pressed_HW1 / np.maximum(brightest_HW1, _KNEE), 1)
    steps = (np.clip(light_HWC, 0, 1) * ((1 << _BITS) - 1)).astype(np.uint16)
    return np.asarray(_screen()[steps], np.uint8)


@functools.cache
def _linear(transfer: Transfer) -> NDArray[np.float32]:
    """[4096] light of each number: of white for PQ, of the scene's peak for HLG."""
    signal = np.linspace(0, 1, 1 << _BITS)
    if transfer == "pq":
        power = signal ** (1 / 78.84375)
        light = (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)
        return np.asarray(light * 10_000 / WHITE_CD_M2, np.float32)
    light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    return np.asarray(light, np.float32)


@functools.cache
def _screen() -> NDArray[np.uint8]:
    """[4096] sRGB's number of each step of light."""
    light = np.linspace(0, 1, 1 << _BITS)
    signal = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(255 * signal), np.uint8)
