from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.config import LossConfig, ModelConfig
from model.designs.registry import build_networks
from model.landmarks.geometry import PartSizes
from model.networks.bundle import Networks
from model.networks.comparators.keypoints import Keypoints, moved
from tests.model.conftest import make_batch, make_trainer, small_perceptual


@pytest.fixture
def fomm(config: ModelConfig, part_sizes: PartSizes) -> Networks:
    return build_networks(replace(config, network="fomm"), part_sizes, seed=0)


def test_points_moved_against_the_source_itself_are_the_driving_ones() -> None:
    source, driving = keypoints(0), keypoints(1)
    relative = moved(source, driving, reference=source)
    torch.testing.assert_close(relative.points_NKC, driving.points_NKC)
    torch.testing.assert_close(relative.matrix_NKCC, driving.matrix_NKCC)


def test_a_driver_at_its_reference_leaves_the_source_as_it_is() -> None:
    source, driving = keypoints(0), keypoints(1)
    still = moved(source, driving, reference=driving)
    torch.testing.assert_close(still.points_NKC, source.points_NKC)
    torch.testing.assert_close(still.matrix_NKCC, source.matrix_NKCC)


def test_the_driving_frame_drives_and_landmarks_change_nothing(fomm: Networks) -> None:
    batch, other = make_batch(0), make_batch(1)
    drawn = fomm.generator(batch.generator_inputs()).image_NCHW
    guided = replace(batch, driving_landmarks_NKC=other.driving_landmarks_NKC, heatmap_NCHW=other.heatmap_NCHW)
    driven = replace(batch, driving_NCHW=other.driving_NCHW)
    assert torch.equal(fomm.generator(guided.generator_inputs()).image_NCHW, drawn)
    assert not torch.equal(fomm.generator(driven.generator_inputs()).image_NCHW, drawn)


def test_without_a_perceptual_network_it_is_trained_on_pixels(fomm: Networks) -> None:
    means = make_trainer(fomm, LossConfig(perceptual_backbone="none")).train_step(make_batch(0))
    assert set(means) == {"l1_image", "equivariance_points", "equivariance_jacobians"}


def test_what_is_drawn_at_random_is_of_seed_and_step(config: ModelConfig, part_sizes: PartSizes) -> None:
    """So a training that goes on in a new process goes on with the warps that it would have had."""

    def term(step: int) -> float:
        networks = build_networks(replace(config, network="fomm"), part_sizes, seed=0)
        trainer = make_trainer(networks, LossConfig(), step=step, perceptual=small_perceptual())
        return trainer.train_step(make_batch(0))["equivariance_points"].value

    assert term(3) == term(3) != term(4)


def keypoints(seed: int) -> Keypoints:
    rng = torch.Generator().manual_seed(seed)
    matrix = torch.eye(2) + 0.2 * torch.randn(2, 10, 2, 2, generator=rng)
    return Keypoints(torch.rand(2, 10, 2, generator=rng) - 0.5, matrix)
