from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.config import ModelConfig
from model.designs.registry import build_networks
from model.landmarks.geometry import PARTS, PartSizes
from model.networks.flow import FlowHead, LandmarkHead
from model.networks.parts import PartReenactment, close_ups, crop_part
from model.networks.warping import sample_at, warp
from model.precision import mixed_precision
from tests.model.conftest import make_batch


def test_zero_flow_copies_the_features() -> None:
    features = torch.randn(2, 5, 9, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(warp(features, torch.zeros(2, 2, 16, 16)), features, atol=1e-5, rtol=0)


@pytest.mark.parametrize("is_mixed", [False, True])
def test_zero_flow_in_bfloat16_copies_a_picture_to_the_bit(is_mixed: bool) -> None:
    picture = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with mixed_precision(torch.device("cpu"), is_on=is_mixed):
        for side_px in (256, 64):  # the flow's own
            flow = torch.zeros(1, 2, side_px, side_px, dtype=torch.bfloat16)
            assert torch.equal(warp(picture, flow), picture)
        assert torch.equal(warp(picture.bfloat16(), flow), picture.bfloat16().float())


def test_flow_of_two_pixels_to_the_right_fetches_from_two_pixels_to_the_right() -> None:
    image = torch.arange(8.0).expand(1, 1, 8, 8).contiguous()
    flow = torch.zeros(1, 2, 8, 8)
    flow[:, 0] = 2 * 2 / 8
    torch.testing.assert_close(warp(image, flow)[0, 0, 0], torch.tensor([2.0, 3, 4, 5, 6, 7, 7, 7]))


def test_landmark_head_in_mixed_precision_gives_pixels_between_whole_ones(config: ModelConfig) -> None:
    torch.manual_seed(0)
    head, tokens = LandmarkHead(replace(config, image_size_px=256)), torch.randn(4, config.embed_dim)
    with torch.no_grad(), mixed_precision(torch.device("cpu"), is_on=True):
        pixels, sides = head(tokens), head.mlp(tokens).double().view(4, 68, 2)
    assert pixels.dtype == torch.float32
    torch.testing.assert_close(pixels.double(), (sides + 0.5) * 256, atol=1e-4, rtol=0)


def test_flow_head_starts_close_to_copying_the_source(config: ModelConfig) -> None:
    torch.manual_seed(0)
    tokens = torch.randn(2, 2, config.embed_dim)
    landmarks = torch.rand(2, 68, 2) * 32
    flow, _ = FlowHead(config)(
        tokens,
        tokens,
        source_MCHW=torch.zeros(2, 3, 32, 32),
        heatmap_NCHW=torch.zeros(2, 1, 32, 32),
        source_landmarks_MKC=landmarks,
        target_landmarks_NKC=landmarks,
    )
    assert flow.shape == (2, 2, 32, 32)
    assert flow.abs().max() * 16 < 0.1  # pixels


@pytest.mark.parametrize(("driver", "sees_picture"), [("picture", True), ("landmarks", False)])
def test_with_landmarks_alone_the_drivers_picture_changes_nothing(
    config: ModelConfig, part_sizes: PartSizes, driver: str, sees_picture: bool
) -> None:
    generator = build_networks(replace(config, driver=driver), part_sizes, seed=0).eval().get_submodule("generator")
    inputs = make_batch(0).generator_inputs()
    with torch.no_grad():
        flows = [generator(replace(inputs, driving_NCHW=inputs.driving_NCHW * k)).flow_NCHW for k in (1, -1)]
        turned = generator(replace(inputs, heatmap_NCHW=inputs.heatmap_NCHW.flip(2))).flow_NCHW
    assert torch.equal(*flows) != sees_picture
    assert torch.equal(turned, flows[0]) == sees_picture


def test_sample_at_reads_pixel_centres_and_interpolates_between_them() -> None:
    ramp = torch.arange(4.0).expand(1, 4, 4)
    maps = torch.stack([ramp, ramp.transpose(1, 2)], dim=1)  # channel 0 is x, channel 1 is y
    values = sample_at(maps, torch.tensor([[[0.0, 3.0], [1.5, 2.25], [-9.0, 9.0]]]))
    torch.testing.assert_close(values, torch.tensor([[[0.0, 3.0], [1.5, 2.25], [0.0, 3.0]]]))


def test_crop_is_centred_on_the_part_and_stays_in_the_frame() -> None:
    sizes = PartSizes((8, 8, 8, 8), (8, 8, 8, 8))
    image = torch.arange(32 * 32.0).view(1, 1, 32, 32).expand(2, 1, 32, 32)
    landmarks = torch.full((2, 68, 2), 15.5)
    landmarks[1] = 0.0  # a part in the corner: the box is moved inside
    crops = crop_part(image, landmarks, "mouth", sizes)
    assert torch.equal(crops[0], image[0, :, 12:20, 12:20])
    assert torch.equal(crops[1], image[1, :, 0:8, 0:8])


def test_parts_are_placed_at_the_target_and_the_rest_is_blank(config: ModelConfig, part_sizes: PartSizes) -> None:
    torch.manual_seed(0)
    parts = PartReenactment(config, part_sizes)
    target = torch.zeros(1, 68, 2)
    centres = {"left_eye": (23.5, 7.5), "right_eye": (7.5, 7.5), "nose": (15.5, 15.5), "mouth": (15.5, 25.5)}
    for name, centre in centres.items():
        target[:, list(PARTS[name])] = torch.tensor(centre)
    placed, is_covered, crops = parts(torch.rand(1, 3, 32, 32), target, torch.rand(1, 1, 32, 32), target)
    assert torch.equal(placed[0, :, 4:12, 20:28], crops["left_eye"][0])
    assert torch.equal(placed[0, :, 22:30, 10:22], crops["mouth"][0])
    assert crops["mouth"].shape == (1, 3, 8, 12)
    assert placed[0, :, :, :4].abs().max() == 0
    assert torch.equal(is_covered[0, 0], placed[0].abs().sum(dim=0) > 0)


def ramp_and_landmarks(eye_distance_px: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture whose values are its pixels' x and y, eyes level around (30.5, 20.5), the mouth at (30.5, 44.5)."""
    ramp = torch.arange(64.0).expand(64, 64)
    landmarks = torch.full((1, 68, 2), 30.5)
    landmarks[:, 36:48] = torch.tensor([30.5, 20.5])
    landmarks[0, 36, 0], landmarks[0, 45, 0] = 30.5 - eye_distance_px / 2, 30.5 + eye_distance_px / 2
    landmarks[:, 48:] = torch.tensor([30.5, 44.5])
    return torch.stack([ramp, ramp.T])[None], landmarks


def test_close_ups_are_1_3_eye_distances_wide_and_half_as_high() -> None:
    image, landmarks = ramp_and_landmarks(20)  # so 26 px wide: 64 pixels, 0.40625 px apart
    eyes, mouth = close_ups(image, landmarks)
    assert eyes.shape == mouth.shape == (2, 32, 64)
    step = 26 / 64
    torch.testing.assert_close(eyes[0, 0], 30.5 + step * (torch.arange(64) - 31.5))
    torch.testing.assert_close(eyes[1, :, 0], 20.5 + step * (torch.arange(32) - 15.5))
    torch.testing.assert_close(mouth[0], eyes[0])
    torch.testing.assert_close(mouth[1], eyes[1] + 24)


def test_close_ups_enlarge_twice_to_four_times() -> None:
    for eye_distance_px, width_px in ((1, 16), (60, 32)):
        eyes, _ = close_ups(*ramp_and_landmarks(eye_distance_px))
        torch.testing.assert_close(eyes[0, 0].diff(), torch.full((63,), width_px / 64))


def test_close_ups_of_several_pictures_are_those_of_each_the_eyes_first() -> None:
    (first, here), (_, there) = ramp_and_landmarks(20), ramp_and_landmarks(24)
    second = first.flip(3)
    both = close_ups(torch.cat([first, second]), torch.cat([here, there]))
    assert torch.equal(both[[0, 2]], close_ups(first, here))
    assert torch.equal(both[[1, 3]], close_ups(second, there))
