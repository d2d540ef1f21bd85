from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from model.config import ModelConfig
from model.designs.glr import GLR
from model.designs.registry import build_networks, design_of
from model.errors import TensorMismatchError
from model.landmarks.geometry import PARTS, PartSizes
from model.networks.bundle import Networks, validate_tensors
from model.networks.feature_extractor import ResNetExtractor, ViTExtractor
from model.networks.image_generator import StyledConv
from model.networks.parts import corrected, crop_part
from tests.model.conftest import make_batch


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_vit_layers_have_the_thesis_19_5_million_parameters() -> None:
    extractor = ViTExtractor(ModelConfig())
    matrices = 3 * (3 * 768**2 + 2 * 768 * 3072)
    biases_and_norms = 3 * (3072 + 768 + 2 * 2 * 768)
    assert count_parameters(extractor.layers) == matrices + biases_and_norms
    assert 19.4e6 < matrices < 19.6e6


def test_resnet_trunk_has_21_3_million_parameters() -> None:
    assert 21.2e6 < count_parameters(ResNetExtractor(ModelConfig()).trunk) < 21.4e6


def test_feature_maps_of_the_generator_shrink_224_113_58() -> None:
    config = ModelConfig(generator_channels=2, embed_dim=8, flow_channels=16, part_channels=2, style_dim=4)
    generator = GLR(config, PartSizes((8, 8, 8, 8), (8, 8, 8, 8))).image_generator
    sizes, x = [], torch.zeros(1, 3, 224, 224)
    for layer in generator.encode:
        x = layer(x)
        sizes.append(x.shape[-1])
    assert sizes == [224, 113, 58]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"backbone": "resnet34", "embed_dim": 8},
        {"use_style": False},
        {"use_flow": False},
        {"use_landmark_flow": True},
        {"use_appearance_skip": True},
    ],
    ids=lambda changes: "-".join(map(str, changes)) or "default",
)
def test_every_variant_gives_an_image_of_the_source_size(
    config: ModelConfig, part_sizes: PartSizes, changes: dict[str, object]
) -> None:
    networks = build_networks(replace(config, **changes), part_sizes, seed=0)
    batch = make_batch(0)
    output = networks.generator(batch.generator_inputs())
    assert output.image_NCHW.shape == (2, 3, 32, 32)
    assert output.image_NCHW.abs().max() <= 1
    assert output.motion.flow_MCHW.shape == (2, 2, 32, 32)
    assert output.source_landmarks_MKC.shape == output.driving_landmarks_NKC.shape == (2, 68, 2)
    if changes.get("use_flow") is False:
        assert torch.equal(output.warped_source_NCHW, batch.source_NCHW) or torch.allclose(
            output.warped_source_NCHW, batch.source_NCHW, atol=1e-5
        )


def test_with_the_appearance_skip_training_starts_from_the_warped_source(
    config: ModelConfig, part_sizes: PartSizes
) -> None:
    networks = build_networks(replace(config, use_appearance_skip=True), part_sizes, seed=0)
    batch = make_batch(0)
    output = networks.generator(batch.generator_inputs())
    torch.testing.assert_close(output.image_NCHW, output.warped_source_NCHW, atol=1e-6, rtol=0)


def test_without_flow_the_parts_start_from_where_the_source_has_them(
    config: ModelConfig, part_sizes: PartSizes
) -> None:
    networks = build_networks(replace(config, use_appearance_skip=True, use_flow=False), part_sizes, seed=0)
    batch = make_batch(0)
    crops = networks.generator(batch.generator_inputs()).part_crops
    for part in PARTS:
        expected = crop_part(batch.source_NCHW, batch.source_landmarks_NKC, part, part_sizes)
        torch.testing.assert_close(crops[part], expected, atol=1e-6, rtol=0)


def test_correction_is_cut_to_the_range_but_keeps_its_gradient() -> None:
    correction = torch.tensor([0.0, 0.2, 9.0], requires_grad=True)
    image = corrected(torch.tensor([0.5, 0.0, 0.5]), correction)
    torch.testing.assert_close(image, torch.tensor([0.5, 2 * math.tanh(0.2), 1.0]))
    image.sum().backward()
    assert correction.grad is not None
    torch.testing.assert_close(correction.grad, 2 * (1 - torch.tanh(correction.detach()) ** 2))


def test_styled_conv_equals_a_convolution_with_modulated_and_demodulated_weights() -> None:
    torch.manual_seed(0)
    layer = StyledConv(3, 5, style_dim=4)
    x, style = torch.randn(2, 3, 6, 6), torch.randn(2, 4)
    expected = []
    for image, scale in zip(x, layer.to_scale(style), strict=True):
        weight = layer.conv.weight * scale[None, :, None, None]
        weight = weight / weight.square().sum(dim=(1, 2, 3), keepdim=True).add(1e-8).sqrt()
        weight = weight * layer.gain[:, None, None, None]
        expected.append(functional.conv2d(image[None], weight, layer.conv.bias, padding=1))
    torch.testing.assert_close(layer(x, style), functional.leaky_relu(torch.cat(expected), 0.2))


def test_lgan_starts_from_the_agreed_shapes_and_its_result_is_centred(networks: Networks) -> None:
    means = torch.rand(3, 68, 2, generator=torch.Generator().manual_seed(0)) * 32
    networks.landmark_generator.start_from(means)
    points = networks.landmark_generator(torch.tensor([2, 0]), torch.tensor([[0.0, 20.0, 0.0]] * 2), torch.ones(2, 18))
    expected = means[[2, 0]] - means[[2, 0]].mean(dim=1, keepdim=True) + 15.5
    torch.testing.assert_close(points, expected, atol=1e-4, rtol=0)


def test_lgan_depends_on_identity_and_action_units_once_trained(networks: Networks) -> None:
    torch.nn.init.normal_(networks.landmark_generator.mlp[-1].weight, generator=torch.Generator().manual_seed(0))
    pose, au = torch.tensor([[0.0, 20.0, 0.0]] * 2), torch.zeros(2, 18)
    au[1, 3] = 1
    points = networks.landmark_generator(torch.tensor([0, 0]), pose, au)
    assert (points[0] - points[1]).abs().max() > 1e-3
    other = networks.landmark_generator(torch.tensor([1, 1]), pose, au)
    assert (points - other).abs().max() > 1e-3


def test_same_seed_same_weights_and_the_global_generator_is_left_alone(
    config: ModelConfig, part_sizes: PartSizes
) -> None:
    before = torch.random.get_rng_state()
    a, b, c = (build_networks(config, part_sizes, seed=s).travelling_tensors() for s in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert any(not np.array_equal(a[name], c[name]) for name in a)


def test_travelling_tensors_are_float32_and_name_their_network(networks: Networks, config: ModelConfig) -> None:
    tensors = networks.travelling_tensors()
    assert {name.split(".")[0] for name in tensors} == {
        "generator", "discriminator", "landmark_generator", "landmark_discriminator",
    }  # fmt: skip
    assert {str(value.dtype) for value in tensors.values()} == {"float32"}
    assert all(tensors[name].shape[0] == config.num_identities for name in design_of(config.network).identity_rows)


def test_load_tensors_round_trips_and_leaves_everything_on_an_error(config: ModelConfig, part_sizes: PartSizes) -> None:
    source, target = (build_networks(config, part_sizes, seed=s) for s in (0, 1))
    wanted, before = source.travelling_tensors(), target.travelling_tensors()
    last = list(wanted)[-1]
    broken = {**wanted, last: np.full_like(wanted[last], np.nan)}
    with pytest.raises(TensorMismatchError, match="not finite"):
        target.load_tensors(broken)
    assert all(np.array_equal(value, before[name]) for name, value in target.travelling_tensors().items())
    target.load_tensors(wanted)
    assert all(np.array_equal(value, wanted[name]) for name, value in target.travelling_tensors().items())


def test_validation_names_what_is_wrong() -> None:
    expected = {"a.weight": np.zeros((2, 3), np.float32), "b.bias": np.zeros(4, np.float32)}
    cases = [
        ({"a.weight": expected["a.weight"]}, "client 3, round 7: missing tensor b.bias"),
        ({**expected, "c": np.zeros(1, np.float32)}, "unknown tensor c"),
        ({**expected, "b.bias": np.zeros(5, np.float32)}, r"b.bias has shape \(5,\), expected \(4,\)"),
        ({**expected, "b.bias": np.zeros(4)}, "b.bias has dtype float64, expected float32"),
        (
            {**expected, "b.bias": np.float32([0, np.nan, np.inf, 0])},
            "b.bias has 2 of 4 values that are not finite",
        ),
    ]
    for tensors, words in cases:
        with pytest.raises(TensorMismatchError, match=words):
            validate_tensors(tensors, expected, where="client 3, round 7")
    validate_tensors(dict(reversed(expected.items())), expected, where="")
