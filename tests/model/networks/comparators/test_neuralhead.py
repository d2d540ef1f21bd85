from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deploy.files import PRESETS
from federation.settings import Settings, read_preset
from model.config import ModelConfig
from model.designs.neuralhead import NeuralHead, NeuralHeadNetworks
from model.designs.registry import build_networks
from model.landmarks.geometry import PartSizes
from model.networks.comparators.projection_discriminator import SpectralConv2d
from model.networks.comparators.residual import adapted, widths_down_to
from tests.model.conftest import make_batch


@pytest.fixture
def neuralhead(config: ModelConfig, part_sizes: PartSizes) -> NeuralHeadNetworks:
    networks = build_networks(replace(config, network="neuralhead"), part_sizes, seed=0)
    assert isinstance(networks, NeuralHeadNetworks)
    return networks


@pytest.mark.parametrize("what", ["source_NCHW", "source_heatmap_NCHW", "heatmap_NCHW"])
def test_the_source_with_its_landmarks_and_the_target_landmarks_decide_what_is_drawn(
    neuralhead: NeuralHeadNetworks, what: str
) -> None:
    inputs, others = make_batch(0).generator_inputs(), make_batch(1).generator_inputs()
    changed = replace(inputs, **{what: getattr(others, what)})
    assert not torch.allclose(neuralhead.generator(changed).image_NCHW, neuralhead.generator(inputs).image_NCHW)


def test_the_driving_frame_decides_nothing(neuralhead: NeuralHeadNetworks) -> None:
    inputs, others = make_batch(0).generator_inputs(), make_batch(1).generator_inputs()
    driven = replace(inputs, driving_NCHW=others.driving_NCHW)
    assert torch.equal(neuralhead.generator(driven).image_NCHW, neuralhead.generator(inputs).image_NCHW)


def test_the_discriminator_sees_landmarks_and_whom_it_has_met(neuralhead: NeuralHeadNetworks) -> None:
    judge, batch = neuralhead.discriminator, make_batch(0)
    seen = (batch.driving_NCHW, batch.heatmap_NCHW)
    first, second = torch.tensor([0, 0]), torch.tensor([1, 1])
    assert torch.equal(judge(*seen, first)[0], judge(*seen, second)[0])  # nobody yet
    assert not torch.equal(judge(seen[0], 1 - seen[1], first)[0], judge(*seen, first)[0])
    torch.nn.init.ones_(judge.identity.weight[1])
    assert not torch.equal(judge(*seen, first)[0], judge(*seen, second)[0])


def test_a_spectral_convolution_has_nearly_its_largest_singular_value_at_one() -> None:
    torch.manual_seed(0)
    conv = SpectralConv2d(16, 32, 1, bias=False)
    torch.nn.init.normal_(conv.weight)
    columns = conv(torch.eye(16).view(16, 16, 1, 1)).flatten(1)  # what it makes of each unit vector
    assert 1 <= torch.linalg.matrix_norm(columns, ord=2) < 1.25


def test_adapted_maps_have_the_mean_and_spread_of_their_style() -> None:
    x_NCHW = torch.rand(1, 2, 8, 8, generator=torch.Generator().manual_seed(0)) * 7 + 3
    got = adapted(x_NCHW, torch.tensor([[0.5, 1.0, -2.0, 4.0]]))
    torch.testing.assert_close(got.mean(dim=(2, 3)), torch.tensor([[-2.0, 4.0]]))
    torch.testing.assert_close(got.std(dim=(2, 3), correction=0), torch.tensor([[1.5, 2.0]]), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("smallest_px", "size_px", "widths"),
    [(4, 256, [64, 128, 256, 512, 512, 512]), (4, 64, [64, 128, 256, 512]), (8, 64, [64, 128, 256]), (8, 20, [64])],
)
def test_widths_double_up_to_eight_and_end_at_the_smallest_side(
    smallest_px: int, size_px: int, widths: list[int]
) -> None:
    assert widths_down_to(smallest_px, size_px, 64) == widths


def test_a_new_generator_styles_by_little_at_a_presets_width(part_sizes: PartSizes) -> None:
    """Styles of tens send the picture to the ends of its range, whence no gradient brings it back."""
    config = replace(Settings.from_flat(read_preset(PRESETS / "tiny.toml")).model, network="neuralhead")
    generator = build_networks(config, part_sizes, seed=0).generator
    assert isinstance(generator, NeuralHead)
    styles = []
    generator.draw.to_styles.register_forward_hook(lambda *made: styles.append(made[-1]))
    with torch.no_grad():
        image_NCHW = generator(make_batch(0, size_px=64).generator_inputs()).image_NCHW
    assert styles[0].abs().max() < 2 and image_NCHW.abs().mean() < 0.8
