"""A network and faces small enough for unit tests, and a checkpoint of them."""

import numpy as np
import pytest
import torch

from federation.settings import Settings
from model.checkpoint import Checkpoint
from model.config import ModelConfig
from model.designs.registry import build_networks
from model.landmarks.geometry import PartSizes
from reenact.face_frame import FaceFrame

SMALL = ModelConfig(
    image_size_px=32,
    patch_size_px=8,
    embed_dim=16,
    num_vit_layers=1,
    flow_seed_px=8,
    flow_channels=16,
    generator_channels=8,
    num_intermediate_blocks=1,
    style_dim=16,
    part_channels=4,
    discriminator_channels=8,
    num_discriminator_layers=2,
    lgan_dim=16,
    num_identities=2,
)
PART_SIZES = PartSizes((8, 8, 12, 8), (8, 8, 8, 16))


def small_face(seed: int, identity: str = "") -> FaceFrame:
    rng = np.random.default_rng(seed)
    return FaceFrame(
        image_HWC=rng.integers(0, 256, (32, 32, 3), dtype=np.uint8),
        landmarks_KC=rng.uniform(8, 24, (68, 2)).astype(np.float32),
        pose_C=rng.uniform(-20, 20, 3).astype(np.float32),
        au_presence_A=rng.integers(0, 2, 18).astype(np.float32),
        au_intensity_A=rng.uniform(0, 5, 18).astype(np.float32),
        identity=identity,
    )


@pytest.fixture
def checkpoint() -> Checkpoint:
    """As `small_checkpoint`."""
    return small_checkpoint()


def small_checkpoint(config: ModelConfig = SMALL) -> Checkpoint:
    """Untrained networks that know the identities ana and ben."""
    rng = np.random.default_rng(0)
    settings = Settings(model=config).to_flat()
    landmark_mean_IKC = rng.uniform(8, 24, (2, 68, 2)).astype(np.float32)
    networks = build_networks(config, PART_SIZES, seed=0)
    networks.landmark_generator.start_from(torch.from_numpy(landmark_mean_IKC))  # as the server does before round 1
    return Checkpoint(
        round=1,
        settings=settings,
        identities=["ana", "ben"],
        part_sizes=PART_SIZES,
        landmark_mean_IKC=landmark_mean_IKC,
        landmark_std_IKC=rng.uniform(1, 3, (2, 68, 2)).astype(np.float32),
        tensors=networks.travelling_tensors(),
    )
