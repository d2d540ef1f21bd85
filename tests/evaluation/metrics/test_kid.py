import cv2
import numpy as np
import pytest

from evaluation.metrics.kid import KidFeatures, kid, kid_of_halves
from evaluation.metrics.vgg_levels import vgg16_levels
from model.errors import WeightsError


def test_distance_of_two_pairs_of_pictures_is_the_unbiased_estimate_by_hand():
    real = np.array([[1.0, 0.0], [-1.0, 2.0]], np.float32)  # means 0 and 1, standard deviation 1 of both features
    other = np.array([[3.0, 1.0], [1.0, -1.0]], np.float32)
    kernel = lambda x, y: (np.dot(x - [0, 1], y - [0, 1]) / 2 + 1) ** 3  # noqa: E731
    within = kernel(real[0], real[1]) + kernel(other[0], other[1])
    between = np.mean([kernel(x, y) for x in real for y in other])
    mean, sd = kid(real, other, seed=0)
    assert mean == pytest.approx(within - 2 * between)
    assert sd == pytest.approx(0, abs=1e-6)


def test_sets_of_one_distribution_are_about_nothing_apart_and_others_are_not():
    rng = np.random.default_rng(0)
    real, same = rng.normal(2, 1, (2, 400, 8)).astype(np.float32)
    mean, sd = kid(real, same, seed=0)
    assert abs(mean) < 2 * sd
    assert abs(kid_of_halves(real, seed=0)[0]) < 2 * sd
    near, far = (kid(real, same + np.float32(shift), seed=0)[0] for shift in (0.2, 0.6))
    assert 3 * sd < near < far


def test_features_are_taken_in_units_of_their_spread_over_real_pictures():
    real, other = np.random.default_rng(0).normal(0, 1, (2, 9, 3)).astype(np.float32)
    plain = kid(real, other, seed=0)
    scaled = kid(real * [1, 2, 4], other * [1, 2, 4], seed=0)
    assert scaled == pytest.approx(plain, rel=1e-4)


def test_a_feature_that_hardly_varies_counts_by_a_tenth_of_the_usual_spread():
    """Spreads are 2, 2, 2 and 0, their root mean square is the square root of 3: the last feature's unit is .1732."""
    real = np.array([[2, 2, -2, 1], [-2, -2, 2, 1]], np.float32)
    other = np.array([[2, 0, 0, 2], [0, -2, 0, 1]], np.float32)
    units = np.array([2, 2, 2, 0.1 * np.sqrt(3)])
    centred = lambda x: (x - [0, 0, 0, 1]) / units  # noqa: E731
    kernel = lambda x, y: (np.dot(centred(x), centred(y)) / 4 + 1) ** 3  # noqa: E731
    within = kernel(real[0], real[1]) + kernel(other[0], other[1])
    between = np.mean([kernel(x, y) for x in real for y in other])
    assert kid(real, other, seed=0)[0] == pytest.approx(within - 2 * between, rel=1e-5)


def test_too_few_or_equal_pictures_have_no_distance():
    one, three = np.zeros((1, 4), np.float32), np.zeros((3, 4), np.float32)
    for found in (kid(one, three, seed=0), kid(three, three, seed=0), kid_of_halves(three, seed=0)):
        assert np.isnan(found).all()


def test_a_blurred_picture_has_other_features_than_a_sharp_one():
    try:
        features = KidFeatures(vgg16_levels())
    except WeightsError as error:
        pytest.skip(str(error))
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    frame = cv2.resize(noise, (32, 32), interpolation=cv2.INTER_NEAREST)
    sharp, blurred = features(frame), features(cv2.GaussianBlur(frame, (0, 0), 2))
    assert sharp.shape == (256 + 512,) and sharp.min() >= 0
    assert np.linalg.norm(sharp - blurred) > 0.1 * np.linalg.norm(sharp)
    assert features(frame.copy()) is sharp
