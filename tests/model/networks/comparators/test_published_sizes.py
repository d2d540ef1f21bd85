"""Parameters of the comparators, in millions, as their authors' code has them at 256 pixels, and at our presets.

MarioNETte has no authors' code: its numbers are those of the paper's layers with the channels that others gave them.
"""

from __future__ import annotations

import math

import pytest

from model.config import ModelConfig
from model.designs.registry import travelling_shapes


def millions(network: str, part: str, size_px: int, width: int) -> float:
    config = ModelConfig(
        network=network, image_size_px=size_px, patch_size_px=size_px // 8, flow_seed_px=8, generator_channels=width
    )
    return sum(math.prod(shape) for name, shape in travelling_shapes(config).items() if name.startswith(part)) / 1e6


@pytest.mark.parametrize(
    ("network", "part", "count"),
    [
        ("fomm", "generator.keypoints.", 14.2),
        ("fomm", "generator.motion.", 37.7),
        ("fomm", "generator.image.", 7.8),
        ("monkeynet", "generator.keypoints.", 14.1),
        ("monkeynet", "generator.motion.", 14.2),
        ("monkeynet", "generator.image.encode.", 25.2),
        ("monkeynet", "generator.image.decode.", 41.2),
        ("monkeynet", "discriminator.", 1.7),
        ("neuralhead", "generator.embed.", 14.8),
        ("neuralhead", "generator.draw.", 37.9),
        ("neuralhead", "discriminator.", 19.5),
        ("marionette", "generator.encode_driver.", 4.9),
        ("marionette", "generator.blend.", 8.3),
        ("marionette", "generator.decode.", 11.8),
        ("marionette", "discriminator.", 9.8),
    ],
)
def test_at_the_published_width_every_part_has_the_published_size(network: str, part: str, count: float) -> None:
    assert millions(network, part, 256, 64) == pytest.approx(count, abs=0.06)


@pytest.mark.parametrize(
    ("network", "size_px", "width", "count"),
    [
        ("fomm", 64, 24, 3.7),
        ("fomm", 128, 32, 15.0),
        ("monkeynet", 64, 24, 3.1),
        ("monkeynet", 128, 32, 16.7),
        ("neuralhead", 64, 24, 2.2),
        ("neuralhead", 128, 32, 12.0),
        ("marionette", 64, 24, 4.3),
        ("marionette", 128, 32, 12.4),
    ],
)
def test_presets_have_smaller_ones(network: str, size_px: int, width: int, count: float) -> None:
    assert millions(network, "generator.", size_px, width) == pytest.approx(count, abs=0.06)
