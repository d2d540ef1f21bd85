import cv2
import numpy as np
import pytest

from evaluation.metrics.perceptual_distance import PerceptualDistance
from evaluation.metrics.vgg_levels import vgg16_levels
from model.errors import WeightsError


@pytest.fixture(scope="module")
def distance() -> PerceptualDistance:
    try:
        return PerceptualDistance(vgg16_levels())
    except WeightsError as error:
        pytest.skip(str(error))


def test_blur_costs_more_than_a_shift_of_a_pixel_and_nothing_costs_nothing(distance):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    frame = cv2.resize(noise, (64, 64), interpolation=cv2.INTER_NEAREST)
    assert distance(frame, frame) == 0
    shifted, blurred = np.roll(frame, 1, axis=1), cv2.GaussianBlur(frame, (0, 0), 3)
    assert 0 < distance(frame, shifted) < distance(frame, blurred)


def test_distance_names_its_network(distance):
    assert distance.name in ("VGG-19", "VGG-16 HED")
