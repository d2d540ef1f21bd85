from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.batch import FurtherSources, GeneratorInputs
from model.config import LossConfig, ModelConfig
from model.designs.marionette import MarioNETteNetworks
from model.designs.registry import build_networks
from model.landmarks.geometry import PartSizes
from model.networks.comparators.blender import ImageAttention, positions
from model.networks.comparators.residual import ResidualUp
from model.networks.comparators.target_encoder import TargetEncoder
from model.networks.warping import warp
from tests.model.conftest import make_batch, make_trainer
from tests.model.test_designs import shifted_batch


@pytest.fixture
def marionette(config: ModelConfig, part_sizes: PartSizes) -> MarioNETteNetworks:
    networks = build_networks(replace(config, network="marionette"), part_sizes, seed=0)
    assert isinstance(networks, MarioNETteNetworks)
    return networks


def inputs(seed: int = 0) -> GeneratorInputs:
    return make_batch(seed).generator_inputs()


def several(*seeds: int) -> GeneratorInputs:
    """The first batch's targets, drawn from the sources of all batches."""
    first, *others = [inputs(seed) for seed in seeds]
    further = FurtherSources(
        image_NRCHW=torch.stack([one.source_NCHW for one in others], dim=1),
        landmarks_NRKC=torch.stack([one.source_landmarks_NKC for one in others], dim=1),
        heatmap_NRCHW=torch.stack([one.source_heatmap_NCHW for one in others], dim=1),
    )
    return replace(first, further=further)


@torch.no_grad()
def drawn(networks: MarioNETteNetworks, of: GeneratorInputs) -> torch.Tensor:
    return networks.generator(of).image_NCHW


@pytest.mark.parametrize("what", ["source_NCHW", "source_heatmap_NCHW", "heatmap_NCHW"])
def test_the_source_with_its_landmarks_and_the_target_landmarks_decide_what_is_drawn(
    marionette: MarioNETteNetworks, what: str
) -> None:
    changed = replace(inputs(), **{what: getattr(inputs(1), what)})
    assert not torch.allclose(drawn(marionette, changed), drawn(marionette, inputs()))


def test_the_driving_frame_decides_nothing(marionette: MarioNETteNetworks) -> None:
    driven = replace(inputs(), driving_NCHW=inputs(1).driving_NCHW)
    assert torch.equal(drawn(marionette, driven), drawn(marionette, inputs()))


def test_untrained_it_carries_the_source_nowhere(marionette: MarioNETteNetworks) -> None:
    output = marionette.generator(inputs())
    torch.testing.assert_close(output.warped_source_NCHW, inputs().source_NCHW, atol=1e-5, rtol=0)
    assert not output.flow_NCHW.any()


def test_every_source_counts_and_their_order_does_not(marionette: MarioNETteNetworks) -> None:
    pictures = [drawn(marionette, several(*seeds)) for seeds in ((0, 1, 2), (0, 2, 1), (0, 1, 3))]
    torch.testing.assert_close(pictures[0], pictures[1])
    assert not torch.allclose(pictures[0], pictures[2], atol=1e-3)
    heard = several(0, 1, 2)
    assert heard.further is not None
    other = replace(heard, further=replace(heard.further, heatmap_NRCHW=1 - heard.further.heatmap_NRCHW))
    assert not torch.allclose(drawn(marionette, other), pictures[0], atol=1e-3)


def test_a_source_given_three_times_is_that_source(marionette: MarioNETteNetworks) -> None:
    torch.testing.assert_close(drawn(marionette, several(0, 0, 0)), drawn(marionette, inputs()), atol=1e-5, rtol=1e-4)


def test_each_pair_is_drawn_from_its_own_sources(marionette: MarioNETteNetworks) -> None:
    before = several(0, 1, 2)
    assert before.further is not None
    images = before.further.image_NRCHW.clone()
    images[1] *= -1
    after = drawn(marionette, replace(before, further=replace(before.further, image_NRCHW=images)))
    torch.testing.assert_close(after[0], drawn(marionette, before)[0])
    assert not torch.allclose(after[1], drawn(marionette, before)[1], atol=1e-3)


def test_the_flow_that_is_told_is_that_of_the_largest_maps(marionette: MarioNETteNetworks) -> None:
    """To the common pose by the decoder's last flow, on to the source by the target encoder's: here both constant."""
    last, first = marionette.generator.decode.to_flow[-1], marionette.generator.encode_target.to_flow
    with torch.no_grad():
        last.conv.bias.copy_(torch.atanh(torch.tensor([0.25, 0.0])))
        first.conv.bias.copy_(torch.atanh(torch.tensor([0.125, -0.5])))
        flow_NCHW = marionette.generator(inputs()).flow_NCHW
    torch.testing.assert_close(flow_NCHW, torch.tensor([0.375, -0.5]).view(1, 2, 1, 1).expand(2, 2, 32, 32))


def test_the_target_encoder_takes_all_maps_along_its_flow() -> None:
    torch.manual_seed(0)
    encode = TargetEncoder([4, 8, 16, 16])
    image, heatmap = inputs().source_NCHW, inputs().source_heatmap_NCHW
    plain = encode(image, heatmap)
    with torch.no_grad():
        encode.to_flow.conv.bias.copy_(torch.atanh(torch.tensor([0.5, -0.25])))
    carried = encode(image, heatmap)
    assert [map_.shape[1:] for map_ in carried.maps_MCHW] == [(8, 16, 16), (16, 8, 8)]
    assert torch.equal(carried.code_MCHW, plain.code_MCHW) and carried.code_MCHW.shape[1:] == (16, 4, 4)
    flow = torch.tensor([0.5, -0.25]).view(1, 2, 1, 1).expand(2, 2, 16, 16)
    for got, map_ in zip(carried.maps_MCHW, plain.maps_MCHW, strict=True):
        torch.testing.assert_close(got, warp(map_, flow))


def test_attention_by_place_alone_finds_what_the_sources_have_at_that_place() -> None:
    """Told apart by its value at each place: no axis of batch, place and channel may be taken for another."""
    attend = ImageAttention(6, query_dim=64)
    with torch.no_grad():
        for linear in (attend.to_query, attend.to_key):
            linear.weight.zero_()
        attend.to_query_place.weight.copy_(1000 * torch.eye(64))
        attend.to_key_place.weight.copy_(torch.eye(64))
        attend.to_value.weight.copy_(torch.eye(6))
        attend.conv.weight.zero_()
    sources_KNDHW = torch.rand(2, 3, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    drawing_NDHW = torch.rand(3, 6, 8, 8, generator=torch.Generator().manual_seed(1))
    both = (drawing_NDHW + sources_KNDHW.mean(dim=0)).numpy()
    wanted = (both - both.mean(axis=(2, 3), keepdims=True)) / both.std(axis=(2, 3), keepdims=True)
    got = attend(drawing_NDHW, sources_KNDHW).detach().numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-3)


def test_places_are_told_by_sines_and_cosines_of_sixteenths_of_the_frame() -> None:
    table_PF = positions(4, 2, like=torch.zeros(1)).numpy()
    x, y = 12.0, 10.0  # of the second pixel of two, the third of four
    frequency = 10_000.0 ** (-np.arange(16) / 16)
    wanted = np.concatenate(
        [np.sin(x * frequency), np.cos(x * frequency), np.sin(y * frequency), np.cos(y * frequency)]
    )
    np.testing.assert_allclose(table_PF[2 * 2 + 1], wanted, atol=1e-5)


def test_an_enlargement_repeats_pixels_where_nothing_is_added() -> None:
    up = ResidualUp(1, 1)
    torch.nn.init.zeros_(up.second.weight)
    torch.nn.init.ones_(up.skip.weight)
    wanted = [[1.0, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    torch.testing.assert_close(up(torch.tensor([[[[1.0, 2], [3, 4]]]])), torch.tensor([[wanted]]))


def test_the_discriminator_judges_each_patch_by_what_is_about_it(marionette: MarioNETteNetworks) -> None:
    judge, batch = marionette.discriminator, make_batch(0)
    other = batch.driving_NCHW.clone()
    other[:, :, -8:, -8:] *= -1
    before, after = (
        judge(image, batch.heatmap_NCHW, batch.identity_N)[0].view(2, 8, 8) for image in (batch.driving_NCHW, other)
    )
    assert torch.equal(before[:, :3, :3], after[:, :3, :3])
    assert not torch.isclose(before[:, -1, -1], after[:, -1, -1]).any()


@pytest.mark.parametrize(("size_px", "patch_px", "flow_px"), [(36, 9, 9), (44, 11, 11), (50, 10, 25), (224, 14, 7)])
def test_it_draws_pictures_of_sides_that_are_no_power_of_two(
    config: ModelConfig, size_px: int, patch_px: int, flow_px: int
) -> None:
    sized = replace(config, network="marionette", image_size_px=size_px, patch_size_px=patch_px, flow_seed_px=flow_px)
    networks = build_networks(sized, PartSizes((8, 8, 8, 8), (8, 8, 8, 12)), seed=0)
    output = networks.generator(make_batch(0, size_px=size_px).generator_inputs())
    assert output.image_NCHW.shape == (2, 3, size_px, size_px)


@pytest.mark.integration
def test_training_finds_the_flow_to_where_the_source_has_it(config: ModelConfig, part_sizes: PartSizes) -> None:
    """The driving pictures are the sources shifted by a tenth of the side, so a flow of .2 in x carries them."""
    wider = replace(config, network="marionette", generator_channels=8, discriminator_channels=8)
    networks, batch = build_networks(wider, part_sizes, seed=0), shifted_batch()
    trainer = make_trainer(networks, LossConfig(perceptual_backbone="none"))
    for _ in range(60):
        trainer.train_step(batch)
    x, y = networks.generator(batch.generator_inputs()).flow_NCHW.mean(dim=(0, 2, 3)).tolist()
    assert 0.1 < x < 0.3 and abs(y) < 0.1
