import math

import numpy as np
import pytest

from evaluation.metrics.pixels import l1, psnr_db, ssim


def random_frame(seed: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def naive_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Wang et al. 2004 written out window by window."""
    offsets = np.arange(11) - 5
    row = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(row, row) / np.outer(row, row).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for y in range(first.shape[0] - 10):
        for x in range(first.shape[1] - 10):
            for channel in range(3):
                a = first[y : y + 11, x : x + 11, channel].astype(float)
                b = second[y : y + 11, x : x + 11, channel].astype(float)
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                var_a = (window * (a - mean_a) ** 2).sum()
                var_b = (window * (b - mean_b) ** 2).sum()
                cov = (window * (a - mean_a) * (b - mean_b)).sum()
                values.append(
                    (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
                )
    return float(np.mean(values))


def test_identical_frames_give_the_best_value_of_every_metric():
    frame = random_frame(0)
    assert psnr_db(frame, frame) == math.inf
    assert l1(frame, frame) == 0
    assert ssim(frame, frame) == pytest.approx(1)


def test_black_against_white_is_zero_decibels_and_l1_one():
    black = np.zeros((16, 16, 3), np.uint8)
    white = np.full((16, 16, 3), 255, np.uint8)
    assert psnr_db(black, white) == pytest.approx(0)
    assert l1(black, white) == pytest.approx(1)


def test_psnr_of_a_constant_offset_follows_equation_4_2():
    frame = np.full((16, 16, 3), 100, np.uint8)
    assert psnr_db(frame, frame + np.uint8(10)) == pytest.approx(10 * math.log10(255**2 / 100))
    assert l1(frame, frame + np.uint8(10)) == pytest.approx(10 / 255)


def test_differences_do_not_wrap_around_in_uint8():
    low, high = np.full((16, 16, 3), 5, np.uint8), np.full((16, 16, 3), 250, np.uint8)
    assert l1(low, high) == pytest.approx(l1(high, low)) == pytest.approx(245 / 255)


def test_ssim_equals_the_formula_written_out_window_by_window():
    first, second = random_frame(1), random_frame(2)
    blend = ((first.astype(int) + second) // 2).astype(np.uint8)
    assert ssim(first, blend) == pytest.approx(naive_ssim(first, blend), abs=1e-9)


def test_more_noise_is_worse_in_every_metric():
    frame = np.full((32, 32, 3), 128, np.uint8)
    frame[8:24, 8:24] = 60
    noise = np.random.default_rng(0).normal(0, 1, frame.shape)
    little, much = ((frame + noise * s).clip(0, 255).astype(np.uint8) for s in (5, 40))
    assert psnr_db(frame, little) > psnr_db(frame, much)
    assert ssim(frame, little) > ssim(frame, much)
    assert l1(frame, little) < l1(frame, much)


@pytest.mark.parametrize("metric", [psnr_db, l1, ssim])
def test_frames_of_other_shape_or_type_are_refused(metric):
    with pytest.raises(ValueError, match="shape"):
        metric(random_frame(0, 16), random_frame(0, 20))
    with pytest.raises(ValueError, match="uint8"):
        metric(random_frame(0), random_frame(0).astype(np.float32))


def test_ssim_names_the_size_it_needs():
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(random_frame(0, 8), random_frame(1, 8))
