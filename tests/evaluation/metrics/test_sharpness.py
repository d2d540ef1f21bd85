import numpy as np
import pytest

from evaluation.metrics.sharpness import fine_power, laplacian_energy


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2).round().astype(np.uint8)


def wave(cycles_per_px: float, angle_deg: float = 0) -> np.ndarray:
    """Amplitude 100 about grey 128."""
    y, x = np.mgrid[:64, :64]
    along = x * np.cos(np.deg2rad(angle_deg)) + y * np.sin(np.deg2rad(angle_deg))
    return grey(128 + 100 * np.cos(2 * np.pi * cycles_per_px * along))


def test_laplacian_energy_of_one_bright_pixel_is_counted_by_hand():
    values = np.zeros((5, 5))
    values[2, 2] = 10
    assert laplacian_energy(grey(values)) == pytest.approx((40**2 + 4 * 10**2) / 9, rel=1e-4)


def test_a_slope_has_no_laplacian_energy():
    assert laplacian_energy(grey(np.add.outer(3 * np.arange(8), 2 * np.arange(8)))) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("angle_deg", [0, 30, 90])
def test_power_of_a_wave_counts_above_a_quarter_of_the_sampling_rate_in_any_direction(angle_deg):
    assert fine_power(wave(0.35, angle_deg)) == pytest.approx(100**2 / 2, rel=0.02)
    assert fine_power(wave(0.15, angle_deg)) < 5


def test_flat_pictures_have_neither():
    flat = np.full((9, 7, 3), 99, np.uint8)
    assert laplacian_energy(flat) == fine_power(flat) == 0
