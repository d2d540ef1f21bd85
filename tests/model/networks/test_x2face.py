from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.batch import ReenactmentBatch
from model.config import LossConfig, ModelConfig
from model.designs.registry import build_networks
from model.designs.x2face import X2Face
from model.landmarks.geometry import PartSizes
from model.networks.bundle import Networks
from model.networks.warping import warp
from tests.model.conftest import make_batch, make_trainer


@pytest.fixture
def x2face(config: ModelConfig, part_sizes: PartSizes) -> Networks:
    return build_networks(replace(config, network="x2face", generator_channels=8), part_sizes, seed=0)


def _forward(networks: Networks, batch: ReenactmentBatch) -> torch.Tensor:
    return networks.generator(batch.generator_inputs()).image_NCHW


def test_training_starts_from_copying_the_source(x2face: Networks) -> None:
    batch = make_batch(0)
    torch.testing.assert_close(_forward(x2face, batch), batch.source_NCHW, atol=1e-5, rtol=0)


def test_only_its_generator_travels(x2face: Networks) -> None:
    assert {name.split(".")[0] for name in x2face.travelling_tensors()} == {"generator"}


def test_a_step_has_the_photometric_term_alone(x2face: Networks) -> None:
    before = x2face.travelling_tensors()
    means = make_trainer(x2face, LossConfig(perceptual_backbone="none")).train_step(make_batch(0))
    assert set(means) == {"l1_image"}
    assert any(not np.array_equal(before[name], array) for name, array in x2face.travelling_tensors().items())


@pytest.mark.integration
def test_steps_teach_it_a_shift(x2face: Networks) -> None:
    batch = make_batch(0, num_pairs=4)
    smooth = torch.nn.functional.interpolate(torch.rand(4, 3, 5, 5), (32, 32), mode="bicubic") * 2 - 1
    flow = torch.zeros(4, 2, 32, 32)
    flow[:, 0] = 0.2
    batch = replace(batch, source_NCHW=smooth, driving_NCHW=warp(smooth, flow))
    trainer = make_trainer(x2face, LossConfig(perceptual_backbone="none"))
    losses = [trainer.train_step(batch)["l1_image"].value for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]


def test_landmarks_change_nothing(x2face: Networks) -> None:
    torch.nn.init.normal_(x2face.generator.driving.to_flow.weight, std=0.1)  # type: ignore[union-attr]
    batch, other = make_batch(0), make_batch(1)
    moved = replace(batch, driving_landmarks_NKC=other.driving_landmarks_NKC, heatmap_NCHW=other.heatmap_NCHW)
    assert torch.equal(_forward(x2face, batch), _forward(x2face, moved))
    driven = replace(batch, driving_NCHW=other.driving_NCHW)
    assert not torch.equal(_forward(x2face, batch), _forward(x2face, driven))


@pytest.mark.integration
@pytest.mark.parametrize(
    ("size_px", "channels", "millions"), [(64, 24, (2.0, 4.0)), (128, 32, (5, 12)), (224, 64, (20, 45))]
)
def test_every_presets_frame_size_fits(size_px: int, channels: int, millions: tuple[float, float]) -> None:
    network = X2Face(
        ModelConfig(image_size_px=size_px, flow_seed_px=size_px // 8, patch_size_px=4, generator_channels=channels)
    )
    assert millions[0] * 1e6 < sum(parameter.numel() for parameter in network.parameters()) < millions[1] * 1e6
    image = torch.zeros(1, 3, size_px, size_px)
    with torch.inference_mode():
        assert network.driving(image).shape == network.embedding(image).shape == (1, 2, size_px, size_px)
