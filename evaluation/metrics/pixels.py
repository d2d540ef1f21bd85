"""Pixel metrics of a generated frame against its ground truth (thesis 4.2), one pair of frames at a time.

Every function takes two uint8 [H, W, 3] RGB frames, that is, frames as they are written to disk, so a value
can be checked against the files. Because pairs never meet inside a metric, no value depends on a batch size.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from model.frames import Frame

_MAX_VALUE = 255.0
_WINDOW_PX = 11
_WINDOW_SIGMA_PX = 1.5
_C1, _C2 = (0.01 * _MAX_VALUE) ** 2, (0.03 * _MAX_VALUE) ** 2


def psnr_db(truth_HWC: Frame, generated_HWC: Frame) -> float:
    """Peak signal-to-noise ratio in decibels, 10 log10(255^2 / MSE) over all pixels and channels (Eq 4.2).

    Returns:
        Higher is better; infinity for identical frames.

    Raises:
        ValueError: if the frames differ in shape or are not uint8.
    """
    truth, generated = _in_double(truth_HWC, generated_HWC)
    mean_square = float(np.square(truth - generated).mean())
    return 10 * math.log10(_MAX_VALUE**2 / mean_square) if mean_square else math.inf


def finite_psnr_db(truth_HWC: Frame, generated_HWC: Frame) -> float:
    """The same where a mean is taken: of identical frames `largest_psnr_db`; errors as there."""
    return min(psnr_db(truth_HWC, generated_HWC), largest_psnr_db(truth_HWC))


def largest_psnr_db(frame_HWC: Frame) -> float:
    """The largest PSNR that two different frames of this shape can have: one value off by one level."""
    return float(10 * np.log10(_MAX_VALUE**2 * frame_HWC.size))


def l1(truth_HWC: Frame, generated_HWC: Frame) -> float:
    """Mean absolute difference over all pixels and channels, as a fraction of 255.

    Returns:
        0 (identical) to 1; lower is better.

    Raises:
        ValueError: if the frames differ in shape or are not uint8.
    """
    truth, generated = _in_double(truth_HWC, generated_HWC)
    return float(np.abs(truth - generated).mean() / _MAX_VALUE)


def ssim(truth_HWC: Frame, generated_HWC: Frame) -> float:
    """Windowed structural similarity (Eq 4.3; Wang et al. 2004), mean over windows and RGB channels.

    Gaussian window of 11 x 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03; only windows inside the frame count.

    Returns:
        -1 to 1, 1 for identical frames; higher is better.

    Raises:
        ValueError: if the frames differ in shape, are not uint8, or are smaller than the window.
    """
    truth, generated = _in_double(truth_HWC, generated_HWC)
    if min(truth.shape[:2]) < _WINDOW_PX:
        wanted = f"{_WINDOW_PX} x {_WINDOW_PX} pixels"
        raise ValueError(f"SSIM needs frames of at least {wanted}, got {truth.shape[:2]}")
    truth_mean, generated_mean = _window_means(truth), _window_means(generated)
    truth_variance = _window_means(truth**2) - truth_mean**2
    generated_variance = _window_means(generated**2) - generated_mean**2
    covariance = _window_means(truth * generated) - truth_mean * generated_mean
    lightness = (2 * truth_mean * generated_mean + _C1) / (truth_mean**2 + generated_mean**2 + _C1)
    structure = (2 * covariance + _C2) / (truth_variance + generated_variance + _C2)
    return float((lightness * structure).mean())


def _window_means(values_HWC: NDArray[np.float64]) -> NDArray[np.float64]:
    """[H - 10, W - 10, 3] Gaussian means over the windows inside the frame, by rows and then columns."""
    border, gauss = _WINDOW_PX // 2, cv2.getGaussianKernel(_WINDOW_PX, _WINDOW_SIGMA_PX)
    return np.asarray(cv2.sepFilter2D(values_HWC, -1, gauss, gauss))[border:-border, border:-border]


def _in_double(truth: Frame, generated: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both frames as [H, W, 3] float64 in 0..255."""
    if truth.shape != generated.shape:
        raise ValueError(f"frames differ in shape: truth {truth.shape}, generated {generated.shape}")
    if truth.dtype != np.uint8 or generated.dtype != np.uint8:
        raise ValueError(f"frames must be uint8 in 0..255, got {truth.dtype} and {generated.dtype}")
    return truth.astype(np.float64), generated.astype(np.float64)
