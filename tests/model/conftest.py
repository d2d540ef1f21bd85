"""A network small enough to train in milliseconds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from model.batch import FaceMeshes, ReenactmentBatch
from model.config import LossConfig, ModelConfig, OptimizerConfig
from model.designs.registry import build_networks
from model.landmarks.canonical_face import vertices_cm
from model.landmarks.geometry import PartSizes
from model.networks.bundle import Networks
from model.training.perceptual import PerceptualLoss
from model.training.trainer import GANTrainer

SIZE_PX = 32


@pytest.fixture
def config() -> ModelConfig:
    return ModelConfig(
        image_size_px=SIZE_PX,
        patch_size_px=8,
        embed_dim=16,
        num_vit_layers=1,
        flow_seed_px=8,
        flow_channels=16,
        generator_channels=4,
        num_intermediate_blocks=1,
        style_dim=8,
        part_channels=4,
        discriminator_channels=4,
        num_discriminator_layers=2,
        lgan_dim=8,
        num_identities=3,
    )


@pytest.fixture
def part_sizes() -> PartSizes:
    return PartSizes((8, 8, 8, 8), (8, 8, 8, 12))


@pytest.fixture
def networks(config: ModelConfig, part_sizes: PartSizes) -> Networks:
    return build_networks(config, part_sizes, seed=1)


@pytest.fixture
def with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mixed precision on any CPU; those without instructions for it are slow, and compute the same."""
    monkeypatch.setattr("model.training.trainer.is_quick_in_bfloat16", lambda device: True)


@pytest.fixture
def loss() -> LossConfig:
    return LossConfig(perceptual_backbone="none", weight_flow_landmarks=1.0, weight_flow_smoothness=0.1)


def make_batch(seed: int, num_pairs: int = 2, size_px: int = SIZE_PX) -> ReenactmentBatch:
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    return ReenactmentBatch(
        source_NCHW=uniform(num_pairs, 3, size_px, size_px) * 2 - 1,
        driving_NCHW=uniform(num_pairs, 3, size_px, size_px) * 2 - 1,
        source_landmarks_NKC=uniform(num_pairs, 68, 2) * size_px,
        driving_landmarks_NKC=uniform(num_pairs, 68, 2) * size_px,
        heatmap_NCHW=uniform(num_pairs, 1, size_px, size_px),
        pose_NC=uniform(num_pairs, 3) * 20,
        au_NA=(uniform(num_pairs, 18) > 0.5).float(),
        au_intensity_NA=uniform(num_pairs, 18) * 5,
        identity_N=torch.zeros(num_pairs, dtype=torch.int64),
        source_heatmap_NCHW=uniform(num_pairs, 1, size_px, size_px),
        meshes=FaceMeshes(
            source_NVC=held_meshes(num_pairs, generator),
            driving_NVC=held_meshes(num_pairs, generator),
            source_NB=uniform(num_pairs, 52),
            driving_NB=uniform(num_pairs, 52),
        ),
    )


def held_meshes(num: int, generator: torch.Generator) -> torch.Tensor:
    """[num, 468, 3] in half sides of a frame: the canonical face, upright and facing the camera, a little changed."""
    canonical_VC = torch.from_numpy(vertices_cm()) * torch.tensor([0.08, -0.08, -0.08])
    return (
        canonical_VC
        + 0.05 * torch.randn(num, 1, 3, generator=generator)
        + 0.01 * torch.randn(num, *canonical_VC.shape, generator=generator)
    )


def small_perceptual() -> PerceptualLoss:
    """On pixels and on their means, in place of pretrained features."""
    mean, std = torch.zeros(3), torch.ones(3)
    return PerceptualLoss([nn.Identity(), nn.AvgPool2d(2)], mean=mean, std=std, flip_channels=False, relative=True)


def make_trainer(
    networks: Networks,
    loss: LossConfig,
    step: int = 0,
    perceptual: PerceptualLoss | None = None,
    *,
    use_amp: bool = False,
) -> GANTrainer:
    optimizer = OptimizerConfig(learning_rate_generator=1e-3, learning_rate_discriminator=1e-3, use_amp=use_amp)
    return GANTrainer(
        networks, loss=loss, optimizer=optimizer, perceptual=perceptual, device=torch.device("cpu"), step=step
    )
