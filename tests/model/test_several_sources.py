from dataclasses import replace

import numpy as np
import pytest
import torch

from model.batch import FurtherSources, ReenactmentBatch
from model.config import ModelConfig
from model.designs.registry import build_networks
from model.errors import ConfigError
from model.networks.bundle import Networks
from tests.model.conftest import SIZE_PX, make_batch, make_trainer

CONFIDENCE = ("generator.flow_head.mixer.unet.out.weight", "generator.flow_head.mixer.unet.out.bias")
"""Its last channel."""


@pytest.fixture
def several(config) -> ModelConfig:
    return replace(config, num_sources=4, use_landmark_flow=True, use_appearance_skip=True)


def with_sources(batch: ReenactmentBatch, num_sources: int) -> ReenactmentBatch:
    if num_sources == 1:
        return batch
    rng, shape = torch.Generator().manual_seed(5), (len(batch), num_sources - 1)
    return replace(
        batch,
        further=FurtherSources(
            image_NRCHW=torch.rand(*shape, 3, SIZE_PX, SIZE_PX, generator=rng) * 2 - 1,
            landmarks_NRKC=torch.rand(*shape, 68, 2, generator=rng) * SIZE_PX,
            heatmap_NRCHW=torch.rand(*shape, 1, SIZE_PX, SIZE_PX, generator=rng),
        ),
    )


def trained(config, part_sizes, loss) -> Networks:
    networks = build_networks(config, part_sizes, seed=1)
    trainer = make_trainer(networks, loss)
    for step, num_sources in enumerate((4, 1, 3, 2)):
        trainer.train_step(with_sources(make_batch(step), num_sources))
    return networks.eval()


@torch.no_grad()
def drawn(networks: Networks, batch: ReenactmentBatch) -> torch.Tensor:
    return networks.generator(batch.generator_inputs()).image_NCHW


def test_a_network_trained_with_up_to_four_sources_draws_from_one_two_and_eight(several, part_sizes, loss):
    networks = trained(several, part_sizes, loss)
    pictures = [drawn(networks, with_sources(make_batch(9), num)) for num in (1, 2, 8)]
    for picture in pictures:
        assert picture.shape == (2, 3, SIZE_PX, SIZE_PX) and picture.isfinite().all()
    assert (pictures[0] - pictures[1]).abs().max() > 0.01
    assert (pictures[1] - pictures[2]).abs().max() > 0.01


def test_with_one_source_it_is_the_network_of_one_source_bit_for_bit(several, part_sizes, loss):
    networks = trained(several, part_sizes, loss)
    single = build_networks(replace(several, num_sources=1), part_sizes, seed=0).eval()
    tensors = dict(networks.travelling_tensors())
    single.load_tensors(tensors | {name: tensors[name][:-1] for name in CONFIDENCE})
    assert torch.equal(drawn(networks, make_batch(9)), drawn(single, make_batch(9)))


def test_only_the_confidence_is_new_in_a_network_of_several_sources(several, part_sizes):
    one, many = (
        build_networks(replace(several, num_sources=num), part_sizes, seed=0).travelling_tensors() for num in (1, 4)
    )
    assert list(one) == list(many)
    assert tuple(name for name in one if one[name].shape != many[name].shape) == CONFIDENCE


def test_a_result_does_not_depend_on_the_order_of_the_further_sources(several, part_sizes, loss):
    networks, batch = trained(several, part_sizes, loss), with_sources(make_batch(9), 4)
    turned = FurtherSources(
        image_NRCHW=batch.further.image_NRCHW.flip(1),
        landmarks_NRKC=batch.further.landmarks_NRKC.flip(1),
        heatmap_NRCHW=batch.further.heatmap_NRCHW.flip(1),
    )
    torch.testing.assert_close(drawn(networks, batch), drawn(networks, replace(batch, further=turned)))


def test_each_pair_is_drawn_from_its_own_sources(several, part_sizes, loss):
    networks, batch = trained(several, part_sizes, loss), with_sources(make_batch(9), 3)
    other = replace(batch.further, image_NRCHW=batch.further.image_NRCHW.clone())
    other.image_NRCHW[1] *= -1
    before, after = drawn(networks, batch), drawn(networks, replace(batch, further=other))
    torch.testing.assert_close(before[0], after[0])
    assert (before[1] - after[1]).abs().max() > 0.01


@pytest.mark.integration
def test_training_learns_which_source_to_trust(several, part_sizes, loss):
    """The first source is noise, the second is the driving frame itself, with the same landmarks."""
    networks = build_networks(several, part_sizes, seed=1)
    trainer = make_trainer(networks, replace(loss, weight_adversarial=0.0))
    batch = make_batch(3)
    batch = replace(
        batch,
        source_landmarks_NKC=batch.driving_landmarks_NKC,
        further=FurtherSources(
            image_NRCHW=batch.driving_NCHW[:, None],
            landmarks_NRKC=batch.driving_landmarks_NKC[:, None],
            heatmap_NRCHW=batch.heatmap_NCHW[:, None],
        ),
    )

    def error() -> float:
        with torch.no_grad():
            warped = networks.generator(batch.generator_inputs()).warped_source_NCHW
        return float((warped - batch.driving_NCHW).abs().mean())

    before = error()
    for _ in range(30):
        trainer.train_step(batch)
    assert error() < 0.7 * before


def test_several_sources_without_landmark_flow_are_refused(config):
    with pytest.raises(ConfigError, match="num-sources: got 2, wanted 1 where use-flow or use-landmark-flow is off"):
        replace(config, num_sources=2)


def test_all_sources_are_the_nearest_of_every_pair_then_the_next():
    batch = with_sources(make_batch(0), 3)
    images, landmarks = batch.generator_inputs().all_sources()
    assert images.shape == (6, 3, SIZE_PX, SIZE_PX) and landmarks.shape == (6, 68, 2)
    np.testing.assert_array_equal(images[:2], batch.source_NCHW)
    np.testing.assert_array_equal(images[2:4], batch.further.image_NRCHW[:, 0])
    np.testing.assert_array_equal(landmarks[5], batch.further.landmarks_NRKC[1, 1])
    heatmaps = batch.generator_inputs().all_source_heatmaps()
    assert heatmaps.shape == (6, 1, SIZE_PX, SIZE_PX)
    np.testing.assert_array_equal(heatmaps[:2], batch.source_heatmap_NCHW)
    np.testing.assert_array_equal(heatmaps[3], batch.further.heatmap_NRCHW[1, 0])
