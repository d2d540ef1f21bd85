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


def test_relativistic_pairs_compare_each_place_with_its_own() -> None:
    real, fake = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 3.0]])
    by_hand = (math.log(1 + math.exp(-1.0)) + math.log(1 + math.exp(3.0))) / 2
    pair = losses.ADVERSARIAL["relativistic"]
    assert pair.discriminator(real, fake).item() == pytest.approx(by_hand, rel=1e-5)
    assert pair.discriminator(real + 9, fake + 9).item() == pytest.approx(by_hand, rel=1e-5)
    by_hand = (math.log(1 + math.exp(1.0)) + math.log(1 + math.exp(-3.0))) / 2
    assert pair.generator(real, fake).item() == pytest.approx(by_hand, rel=1e-5)
    assert pair.generator(real, real).item() == pytest.approx(math.log(2), rel=1e-5)
    with pytest.raises(ValueError, match="relativistic_loss: shapes differ"):
        pair.discriminator(real, fake[:, :1])


def test_gan_gives_the_generator_the_drawn_side_alone() -> None:
    real, fake = torch.tensor([7.0]), torch.tensor([2.0])
    assert losses.ADVERSARIAL["gan"].generator(real, fake) == losses.generator_adversarial_loss(fake)
    assert losses.ADVERSARIAL["gan"].discriminator(real, fake) == losses.discriminator_loss(real, fake)


def test_a_limit_shortens_the_gradient_of_each_image_to_that_of_an_l1_term() -> None:
    image = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (5.0 * losses.l1_loss(image, torch.zeros(2, 3, 4, 4))).backward()
    l1_length = image.grad[0].norm().item()  # type: ignore[index]
    steep, flat = torch.full((3, 4, 4), 7.0), torch.full((3, 4, 4), 1e-3)
    image.grad = None
    drawn = losses.limited(image, 5.0)
    assert torch.equal(drawn, image)
    (drawn * torch.stack([steep, flat])).sum().backward()
    assert image.grad is not None
    assert image.grad[0].norm().item() == pytest.approx(l1_length, rel=1e-5)
    assert torch.allclose(image.grad[0] / image.grad[0].norm(), steep / steep.norm())
    assert torch.allclose(image.grad[1], flat)


def test_ranking_share_counts_places_where_the_real_is_above_its_own_fake() -> None:
    real, fake = torch.tensor([[3.0, 0.0], [-1.0, 5.0]]), torch.tensor([[2.0, 1.0], [-9.0, 5.5]])
    assert losses.ranking_share(real, fake).item() == 0.5
    assert losses.ranking_share(real - 100, fake - 100).item() == 0.5
    assert losses.ranking_share(real, fake - 2).item() == 1.0
    with pytest.raises(ValueError, match="ranking_share: shapes differ"):
        losses.ranking_share(real, fake[:1])


def test_gram_is_blind_to_where_and_sees_how_much() -> None:
    real = torch.tensor([[1.0, 3.0], [2.0, 2.0]]).view(1, 2, 1, 2)  # Gram matrix ((5, 4), (4, 4)), squares 73
    assert losses.gram_loss([real], [real.flip(-1)]).item() == pytest.approx(0, abs=1e-6)
    flat = torch.full_like(real, 2.0)  # all four 4
    assert losses.gram_loss([real], [flat]).item() == pytest.approx(1 / 73)
    assert losses.gram_loss([real, 5 * real], [flat, 5 * flat]).item() == pytest.approx(2 / 73)
    assert losses.gram_loss([real], [0 * real]).item() == pytest.approx(1)


def test_gram_trains_only_the_fake_side() -> None:
    real, fake = (torch.rand(2, 3, 4, 4, requires_grad=True) for _ in range(2))
    losses.gram_loss([real], [fake]).backward()
    assert real.grad is None and fake.grad is not None and fake.grad.abs().sum() > 0


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
