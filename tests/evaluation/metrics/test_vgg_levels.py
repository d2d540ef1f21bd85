import numpy as np
import pytest
import torch
from torch import nn

from evaluation.metrics.vgg_levels import VggLevels
from model.training.perceptual import PerceptualLoss

LEVEL_BYTES = 4 * 3 * 8 * 8
"""Of each of two levels of a picture of 8 pixels."""


class CountedPool(nn.MaxPool2d):
    def __init__(self) -> None:
        super().__init__(kernel_size=1)
        self.num_pictures = 0

    def forward(self, image_NCHW: torch.Tensor) -> torch.Tensor:
        self.num_pictures += len(image_NCHW)
        return super().forward(image_NCHW)


@pytest.fixture
def pool() -> CountedPool:
    return CountedPool()


def levels_of(pool: CountedPool, held_bytes: int) -> VggLevels:
    network = PerceptualLoss(
        [pool, nn.ReLU()], mean=torch.zeros(3), std=torch.ones(3), flip_channels=False, relative=False
    )
    return VggLevels(network, ("first", "second"), held_bytes=held_bytes)


def frame(value: int) -> np.ndarray:
    return np.full((8, 8, 3), value, np.uint8)


def test_a_picture_that_is_held_is_not_looked_at_again(pool):
    levels = levels_of(pool, held_bytes=10 * LEVEL_BYTES)
    assert list(levels(frame(255))) == ["first", "second"]
    assert float(levels(frame(255))["second"].mean()) == 1
    assert pool.num_pictures == 1


def test_of_more_pictures_than_fit_those_asked_for_last_are_held(pool):
    levels = levels_of(pool, held_bytes=4 * LEVEL_BYTES)
    for value in (1, 2, 1, 3):
        levels(frame(value))
    assert pool.num_pictures == 3
    levels(frame(1))
    assert pool.num_pictures == 3
    levels(frame(2))
    assert pool.num_pictures == 4


def test_features_of_one_picture_are_given_however_large_they_are(pool):
    levels = levels_of(pool, held_bytes=1)
    assert levels(frame(0))["first"].shape == (1, 3, 8, 8)
