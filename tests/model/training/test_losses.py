from __future__ import annotations

import math

import pytest
import torch

from model.training import losses


def test_l1_by_hand_and_no_broadcasting() -> None:
    assert losses.l1_loss(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]])) == 2.5
    with pytest.raises(ValueError, match="shapes differ"):
        losses.l1_loss(torch.zeros(2, 3), torch.zeros(1, 3))


def test_adversarial_losses_are_eq_3_7_on_logits() -> None:
    real, fake = torch.tensor([0.5, -1.0]), torch.tensor([2.0])

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    eq_3_7 = (math.log(sigmoid(0.5)) + math.log(sigmoid(-1.0))) / 2 + math.log(1 - sigmoid(2.0))
    assert losses.discriminator_loss(real, fake).item() == pytest.approx(-eq_3_7 / 2, rel=1e-5)
    assert losses.generator_adversarial_loss(fake).item() == pytest.approx(-math.log(sigmoid(2.0)), rel=1e-5)


def test_feature_matching_sums_layer_means_and_trains_only_the_fake_side() -> None:
    real = [torch.ones(1, 2, 2, 2, requires_grad=True), torch.zeros(1, 4, requires_grad=True)]
    fake = [torch.zeros(1, 2, 2, 2, requires_grad=True), torch.full((1, 4), 3.0, requires_grad=True)]
    value = losses.feature_matching_loss(real, fake)
    assert value.item() == 4.0
    value.backward()
    assert real[0].grad is None and fake[0].grad is not None


def test_flow_landmark_loss_is_zero_for_the_true_motion_and_in_normalised_units() -> None:
    driving = torch.full((1, 68, 2), 8.0)
    source = driving + torch.tensor([2.0, 0.0])
    flow = torch.zeros(1, 2, 16, 16)
    assert losses.flow_landmark_loss(flow, source, driving).item() == pytest.approx(2 * 2 / 16 / 2)
    flow[:, 0] = 2 * 2 / 16
    assert losses.flow_landmark_loss(flow, source, driving).item() == pytest.approx(0)


def test_flow_smoothness_is_zero_for_affine_flow_and_counts_a_kink_in_pixels() -> None:
    ramp = torch.linspace(-1, 1, 8).expand(1, 2, 8, 8)
    assert losses.flow_smoothness_loss(ramp).item() == pytest.approx(0, abs=1e-5)
    kink = torch.zeros(1, 2, 8, 8)
    kink[..., 4] = 2 / 8  # one pixel: second differences 1, 2, 1 of the 6 along x
    assert losses.flow_smoothness_loss(kink).item() == pytest.approx(4 / 6)


def test_least_squares_pull_real_to_one_and_generated_to_zero_or_for_the_generator_to_one() -> None:
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 2.0])
    assert losses.least_squares_discriminator_loss(real, fake) == 2 + 2  # (0 + 4) / 2 + (0 + 4) / 2
    assert losses.least_squares_generator_loss(fake) == 1  # (1 + 1) / 2


def test_hinge_counts_what_is_within_the_margin_or_on_the_wrong_side() -> None:
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 1.0])
    assert losses.hinge_discriminator_loss(real, fake) == 0.5 + 1  # (0 + 1) / 2 + (0 + 2) / 2
    assert losses.hinge_generator_loss(fake) == 1
