"""The base inside the landmark GAN."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.config import ModelConfig
from model.designs.registry import DESIGNS, build_networks, has_base
from model.errors import ConfigError
from model.landmarks.closed_form import LINEAR, ROTATED, still
from model.landmarks.geometry import PartSizes
from model.networks.landmark_base import LandmarkBase, form_features
from model.networks.landmark_gan import LandmarkGenerator, action_units
from model.precision import mixed_precision
from tests.model.conftest import make_batch, make_trainer


def test_a_turned_shape_by_hand() -> None:
    """Own features are the shape's x and y, the first shared one its z; then offsets of the action units."""
    pose = torch.tensor([[0.0, 0.0, 0.0], [90.0, 0.0, 0.0], [0.0, 90.0, 0.0], [0.0, 0.0, 90.0]])
    strength = torch.zeros(4, 18)
    strength[:, 1] = 0.5
    features = form_features(ROTATED, pose, strength)
    assert features.shape == (4, 2, ROTATED.num_own + ROTATED.num_shared)
    first_two_rows = [
        [[1, 0, 0], [0, 1, 0]],
        [[1, 0, 0], [0, 0, -1]],  # nodding: y follows z
        [[0, 0, 1], [0, 1, 0]],  # turning: x follows z
        [[0, -1, 0], [1, 0, 0]],  # tilting clockwise: x becomes y
    ]
    np.testing.assert_allclose(features[..., :3], first_two_rows, atol=1e-6)
    np.testing.assert_allclose(features[..., 6:9], 0.5 * features[..., :3], atol=1e-7)
    assert not features[..., 3:6].any() and not features[..., 9:].any()


def test_base_in_mixed_precision_is_that_in_full_precision_to_the_bit() -> None:
    base = LandmarkBase(3)
    generator = torch.Generator().manual_seed(0)
    for buffer in base.buffers():
        buffer.copy_(torch.randn(buffer.shape, generator=generator))
    asked = (torch.tensor([0, 3]), torch.tensor([[10.0, -20.0, 5.0]] * 2), torch.rand(2, 18, generator=generator))
    with mixed_precision(torch.device("cpu"), is_on=True):
        mixed = base(*asked)
    assert torch.equal(mixed, base(*asked))


def test_linear_features_by_hand_are_limited() -> None:
    pose, strength = torch.tensor([[-45.0, 22.5, 1e30]]), torch.linspace(0, 1, 18)[None]
    features = form_features(LINEAR, pose, strength)
    assert features.shape == (1, 1, LINEAR.num_own + LINEAR.num_shared)
    np.testing.assert_allclose(features[0, 0], [1, -1, 0.5, 2, *strength[0].tolist()])


@pytest.fixture
def closed(config: ModelConfig) -> ModelConfig:
    return replace(config, lgan_base="closed")


def test_before_training_the_landmark_gan_draws_the_base(closed: ModelConfig) -> None:
    face_KC = np.random.default_rng(0).uniform(0.2, 0.8, (68, 2))
    generator = LandmarkGenerator(closed)
    assert generator.base is not None
    generator.base.take(still(face_KC, closed.num_identities))
    generator.start_from(torch.full((closed.num_identities, 68, 2), 20.0))
    drawn = generator(torch.tensor([0, 2]), torch.tensor([[0.0, 30, 0], [5, 0, 9]]), torch.rand(2, 18))
    wanted = (face_KC - face_KC.mean(axis=0)) * 32 + 15.5
    np.testing.assert_allclose(drawn.detach(), np.repeat([wanted], 2, axis=0), atol=1e-4)


def test_training_moves_all_but_the_base(closed: ModelConfig, part_sizes: PartSizes, loss: object) -> None:
    networks = build_networks(closed, part_sizes, seed=0)
    networks.start_from(np.zeros((3, 68, 2), np.float32), still(np.random.default_rng(1).random((68, 2)), 3))
    before = networks.travelling_tensors()
    trainer = make_trainer(networks, loss)  # type: ignore[arg-type]
    trainer.train_step(make_batch(0))
    after = networks.travelling_tensors()
    untrained = DESIGNS["glr"].untrained
    assert len(untrained) == 4
    assert [name for name in untrained if not np.array_equal(before[name], after[name])] == []
    assert not np.array_equal(before["landmark_generator.shape.weight"], after["landmark_generator.shape.weight"])


def test_with_a_base_action_units_have_a_strength(config: ModelConfig, closed: ModelConfig) -> None:
    presence, intensity = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 5.0]])
    assert torch.equal(action_units(config, presence, intensity), presence)
    assert torch.equal(action_units(closed, presence, intensity), torch.tensor([[0.2, 1.0]]))


def test_only_a_design_that_draws_with_a_base_agrees_on_one(config: ModelConfig, closed: ModelConfig) -> None:
    assert has_base(closed) and not has_base(config)
    assert not has_base(replace(closed, network="x2face"))


def test_landmarks_by_a_base_that_is_not_there_are_refused(config: ModelConfig) -> None:
    with pytest.raises(ConfigError, match="setting landmarks: got 'base', wanted driving, lst or lgan"):
        replace(config, landmarks="base")
