"""How much fine detail a picture has. A blurred picture has less than a real one, a noisy or torn one more."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from model.frames import Frame

_QUARTER = 0.25
"""Cycles per pixel: half of the highest frequency that pixels can show."""


def laplacian_energy(frame_HWC: Frame) -> float:
    """Mean square of the five-point Laplacian of the grey picture, border pixels left out.

    Args:
        frame_HWC: uint8 [H, W, 3] RGB, H and W >= 3.

    Returns:
        >= 0, in squared grey levels of 0 to 255.
    """
    grey_HW = _grey(frame_HWC)
    laplacian_HW = (
        grey_HW[:-2, 1:-1] + grey_HW[2:, 1:-1] + grey_HW[1:-1, :-2] + grey_HW[1:-1, 2:] - 4 * grey_HW[1:-1, 1:-1]
    )
    return float(np.mean(laplacian_HW**2))


def fine_power(frame_HWC: Frame) -> float:
    """Mean power of the grey picture at frequencies above a quarter of the sampling rate, in any direction.

    A Hann window keeps the picture's border from counting as detail; the power is as if there were none.

    Args:
        frame_HWC: uint8 [H, W, 3] RGB, H and W >= 3.

    Returns:
        >= 0, in squared grey levels of 0 to 255.
    """
    grey_HW = _grey(frame_HWC)
    height, width = grey_HW.shape
    window_HW = np.outer(_hann(height), _hann(width))
    spectrum_HW = np.abs(np.fft.fft2((grey_HW - grey_HW.mean()) * window_HW)) ** 2
    is_fine_HW = np.hypot(*np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")) > _QUARTER
    return float(spectrum_HW[is_fine_HW].sum() / (height * width * (window_HW**2).sum()))


def _grey(frame_HWC: Frame) -> NDArray[np.float64]:
    """[H, W] luma, 0 to 255."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame_HWC, np.float32), cv2.COLOR_RGB2GRAY), np.float64)


def _hann(length: int) -> NDArray[np.float64]:
    """[length] a raised cosine whose zeros lie just outside."""
    return np.hanning(length + 2)[1:-1]
