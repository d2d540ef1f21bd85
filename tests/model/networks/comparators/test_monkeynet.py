from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.batch import GeneratorInputs
from model.config import LossConfig, ModelConfig
from model.designs.monkeynet import MonkeyNetNetworks, MonkeyNetObjective
from model.designs.registry import build_networks
from model.landmarks.geometry import PartSizes
from model.networks.comparators.keypoint_discriminator import KeypointDiscriminator
from model.networks.comparators.keypoints import CovarianceKeypoints, Keypoints
from model.precision import mixed_precision
from tests.model.conftest import make_batch


@pytest.fixture
def monkeynet(config: ModelConfig, part_sizes: PartSizes) -> MonkeyNetNetworks:
    networks = build_networks(replace(config, network="monkeynet"), part_sizes, seed=0)
    assert isinstance(networks, MonkeyNetNetworks)
    return networks


def inputs(**changes: torch.Tensor) -> GeneratorInputs:
    return replace(make_batch(0).generator_inputs(), **changes)


def test_untrained_it_carries_a_source_that_drives_itself_nowhere(monkeynet: MonkeyNetNetworks) -> None:
    source_NCHW = make_batch(0).source_NCHW
    drawn = monkeynet.generator(inputs(driving_NCHW=source_NCHW))
    torch.testing.assert_close(drawn.warped_source_NCHW, source_NCHW, atol=1e-5, rtol=0)


def test_the_driving_points_are_shifted_by_the_way_from_the_reference_to_the_source(
    monkeynet: MonkeyNetNetworks,
) -> None:
    batch, other = make_batch(0), make_batch(1)
    points = monkeynet.generator.keypoints
    drawn = monkeynet.generator(inputs(reference_NCHW=other.source_NCHW))
    source, driving, reference = (points(x) for x in (batch.source_NCHW, batch.driving_NCHW, other.source_NCHW))
    moved = source.points_NKC + driving.points_NKC - reference.points_NKC
    torch.testing.assert_close(drawn.driving.points_NKC, moved)
    torch.testing.assert_close(drawn.driving.matrix_NKCC, driving.matrix_NKCC)


def test_a_heatmap_without_a_direction_has_a_gradient(config: ModelConfig) -> None:
    """Of a singular value of its covariance there is none."""
    points = CovarianceKeypoints(config)
    torch.nn.init.zeros_(points.heatmaps.to_logits.weight)
    torch.nn.init.zeros_(points.heatmaps.to_logits.bias)  # type: ignore[arg-type]
    found = points(torch.zeros(1, 3, config.image_size_px, config.image_size_px))
    torch.testing.assert_close(found.matrix_NKCC, found.matrix_NKCC[0, 0, 0, 0] * torch.eye(2).expand(1, 10, 2, 2))
    found.matrix_NKCC.logdet().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in points.parameters() if p.grad is not None)


def test_the_discriminator_moves_no_points_to_be_pleased(monkeynet: MonkeyNetNetworks) -> None:
    objective, batch = MonkeyNetObjective(monkeynet, LossConfig(), None, 0), make_batch(0)
    drawn = objective.draw(batch)
    fixed = replace(drawn, image_NCHW=drawn.image_NCHW.detach())
    terms = objective.generator_terms(batch, fixed, 0)
    terms["adversarial"].backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in monkeynet.generator.parameters())


def test_logits_are_float32_in_mixed_precision_too(monkeynet: MonkeyNetNetworks) -> None:
    points = Keypoints(torch.zeros(2, 10, 2), torch.eye(2).expand(2, 10, 2, 2) / 100)
    with mixed_precision(torch.device("cpu"), is_on=True):
        logits, _ = monkeynet.discriminator(make_batch(0).driving_NCHW, points)
    assert logits.dtype == torch.float32


def test_the_discriminator_is_told_the_points(monkeynet: MonkeyNetNetworks) -> None:
    batch = make_batch(0)
    points = monkeynet.generator.keypoints(batch.driving_NCHW)
    elsewhere = Keypoints(points.points_NKC + 0.5, points.matrix_NKCC)
    logits, _ = monkeynet.discriminator(batch.driving_NCHW, points)
    assert not torch.allclose(logits, monkeynet.discriminator(batch.driving_NCHW, elsewhere)[0])


@pytest.mark.parametrize(("size_px", "num_layers"), [(32, 2), (64, 3), (128, 4), (256, 4)])
def test_no_layer_of_the_discriminator_sees_one_pixel(config: ModelConfig, size_px: int, num_layers: int) -> None:
    assert len(KeypointDiscriminator(replace(config, image_size_px=size_px)).layers) == num_layers
