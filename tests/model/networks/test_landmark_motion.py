from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from model.config import ModelConfig
from model.networks.flow import FlowHead
from model.networks.landmark_motion import (
    FACE_MOTIONS,
    candidate_flows,
    fading_flow,
    kernel_flow,
    similarity_flow,
    spline_flow,
)
from model.networks.unet import UNet
from model.networks.warping import identity_grid, sample_at

SIDE = 64
GRID_PC = identity_grid(SIDE, SIDE, like=torch.zeros(1))[0].flatten(1).T


def _landmarks() -> torch.Tensor:
    """[1, 68, 2] in frame units, around the centre."""
    return torch.rand(1, 68, 2, generator=torch.Generator().manual_seed(0)) - 0.5


def _as_map(flow_NPC: torch.Tensor) -> torch.Tensor:
    return flow_NPC.transpose(1, 2).unflatten(2, (SIDE, SIDE))


def test_kernel_flow_carries_every_landmark_to_its_target_and_leaves_the_far_background() -> None:
    target = _landmarks() * 0.5
    shift = torch.tensor([0.05, -0.03])
    at_landmarks = kernel_flow(target + shift, target, target[0])
    torch.testing.assert_close(at_landmarks, shift.expand(1, 68, 2), rtol=0.1, atol=0)
    corner = torch.tensor([[0.95, 0.95]])
    assert kernel_flow(target + shift, target, corner).abs().max() < 1e-3


def test_similarity_flow_recovers_a_rotation_with_scale_and_shift_everywhere() -> None:
    target = _landmarks()
    cosine, sine = 1.1 * torch.cos(torch.tensor(0.3)), 1.1 * torch.sin(torch.tensor(0.3))
    matrix = torch.stack([torch.stack([cosine, -sine]), torch.stack([sine, cosine])])
    shift = torch.tensor([0.1, -0.2])

    def move(points: torch.Tensor) -> torch.Tensor:
        return points @ matrix.T + shift

    flow = similarity_flow(move(target), target, GRID_PC)
    torch.testing.assert_close(flow[0], move(GRID_PC) - GRID_PC, atol=1e-5, rtol=0)


def test_spline_flow_recovers_an_affine_motion_everywhere_and_passes_near_bent_landmarks() -> None:
    target = _landmarks()
    matrix = torch.tensor([[1.1, 0.2], [-0.1, 0.9]])
    flow = spline_flow(target @ matrix.T, target, GRID_PC)
    torch.testing.assert_close(flow[0], GRID_PC @ matrix.T - GRID_PC, atol=1e-3, rtol=0)
    bent = target + 0.1 * torch.sin(3 * target.flip(-1))
    at_landmarks = spline_flow(bent, target, target[0])
    assert (at_landmarks - (bent - target)).abs().mean() < 0.1 * (bent - target).abs().mean()


def test_spline_flow_does_not_fold_where_two_landmarks_cross() -> None:
    # Two landmarks 0.02 apart that swap places are noise; a kernel follows both and tears the picture between them.
    target = _landmarks()
    target[0, 1] = target[0, 0] + torch.tensor([0.02, 0.0])
    source = target.clone()
    source[0, [0, 1]] = target[0, [1, 0]]
    xs = torch.linspace(-0.1, 0.1, 41)[:, None] * torch.tensor([[1.0, 0.0]]) + target[0, 0]
    places = xs + spline_flow(source, target, xs)[0]
    assert (places[1:, 0] > places[:-1, 0]).all()


def _is_folded(flow_NPC: torch.Tensor) -> bool:
    """Whether the places that the grid's pixels come from turn round anywhere."""
    place_NCHW = _as_map(GRID_PC + flow_NPC)
    right, down = (
        place_NCHW[..., :-1, 1:] - place_NCHW[..., :-1, :-1],
        place_NCHW[..., 1:, :-1] - place_NCHW[..., :-1, :-1],
    )
    return bool((right[:, 0] * down[:, 1] - right[:, 1] * down[:, 0] <= 0).any())


def test_fading_flow_is_the_spline_on_the_face_and_nothing_far_from_it() -> None:
    target = (
        _landmarks() * 0.5
    )  # a square, whose corners are at the square root of 6 standard deviations from the middle
    bent = target + 0.05 * torch.sin(6 * target.flip(-1))
    inside = GRID_PC[GRID_PC.abs().amax(dim=1) < 0.17]
    torch.testing.assert_close(fading_flow(bent, target, inside), spline_flow(bent, target, inside))
    assert fading_flow(bent, target, torch.tensor([[0.95, 0.95]])).abs().max() < 1e-3


def test_a_face_that_moves_by_its_own_size_folds_under_the_kernel_and_not_under_the_fading_spline() -> None:
    target = _landmarks() * 0.5
    source = target + torch.tensor([0.35, -0.2])
    assert _is_folded(kernel_flow(source, target, GRID_PC))
    assert not _is_folded(fading_flow(source, target, GRID_PC))


@pytest.mark.parametrize("face_motion", FACE_MOTIONS)
def test_equal_landmarks_give_no_motion_and_degenerate_ones_a_finite_one(face_motion: str) -> None:
    landmarks = torch.rand(1, 68, 2, generator=torch.Generator().manual_seed(0)) * 64
    assert candidate_flows(landmarks, landmarks, 64, side=32, face_motion=FACE_MOTIONS[face_motion]).abs().max() < 1e-5
    on_a_line = torch.arange(68.0)[None, :, None].expand(1, 68, 2) / 2
    one_point = torch.full((1, 68, 2), 5.0)
    for degenerate in (on_a_line, one_point):
        assert torch.isfinite(
            candidate_flows(degenerate + 1, degenerate, 64, side=32, face_motion=FACE_MOTIONS[face_motion])
        ).all()
    shift = candidate_flows(one_point + 2, one_point, 64, side=32, face_motion=FACE_MOTIONS[face_motion])[0, 2] * 32
    torch.testing.assert_close(shift, torch.full((2, 32, 32), 2.0), atol=1e-4, rtol=0)


def test_candidates_are_float32_under_mixed_precision() -> None:
    landmarks = torch.rand(2, 68, 2, generator=torch.Generator().manual_seed(0)) * 64
    plain = candidate_flows(landmarks, landmarks.flip(0), 64, side=16, face_motion=FACE_MOTIONS["kernel"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = candidate_flows(landmarks, landmarks.flip(0), 64, side=16, face_motion=FACE_MOTIONS["kernel"])
    assert mixed.dtype == torch.float32
    assert torch.equal(plain, mixed)


def test_flow_head_with_landmark_flow_starts_as_mostly_the_kernel_candidate(config: ModelConfig) -> None:
    torch.manual_seed(0)
    head = FlowHead(replace(config, use_landmark_flow=True))
    torch.nn.init.zeros_(head.to_flow.weight)
    target = torch.rand(1, 68, 2) * 16 + 8
    source = target + 1
    tokens = torch.zeros(1, 2, config.embed_dim)
    flow, confidence = head(
        tokens,
        tokens,
        source_MCHW=torch.rand(1, 3, 32, 32),
        heatmap_NCHW=torch.rand(1, 1, 32, 32),
        source_landmarks_MKC=source,
        target_landmarks_NKC=target,
    )
    assert confidence is None
    candidates = candidate_flows(source, target, 32, side=16, face_motion=FACE_MOTIONS["kernel"])[0]
    weights = torch.tensor([0.0, 2.0, 0.0, 0.0]).softmax(dim=0)
    expected = (weights[:, None, None, None] * candidates).sum(dim=0, keepdim=True)
    sampled = sample_at(expected, torch.tensor([[[7.5, 7.5]]]))
    torch.testing.assert_close(sample_at(flow, torch.tensor([[[15.5, 15.5]]])), sampled, atol=1e-4, rtol=0)


def test_unet_starts_at_zero_and_takes_sides_that_do_not_halve_evenly() -> None:
    torch.manual_seed(0)
    result = UNet(5, 2, width=4)(torch.rand(1, 5, 29, 13))
    assert result.shape == (1, 2, 29, 13)
    assert result.abs().max() == 0


@pytest.mark.parametrize("flow", [kernel_flow, similarity_flow, spline_flow, fading_flow])
def test_several_sources_of_each_target_have_the_flows_that_they_have_one_by_one(
    flow: Callable[..., torch.Tensor],
) -> None:
    source, target = (0.3 * torch.randn(num, 68, 2, generator=torch.Generator().manual_seed(num)) for num in (6, 2))
    alone = [flow(source[m : m + 1], target[m % 2 : m % 2 + 1], GRID_PC) for m in range(6)]
    torch.testing.assert_close(flow(source, target, GRID_PC), torch.cat(alone), atol=1e-4, rtol=0)
