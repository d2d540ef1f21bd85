"""Promises of Mesh Guided GCN: what decides where vertices go, and what is learnt of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.batch import FaceMeshes
from model.config import LossConfig, ModelConfig
from model.designs.meshgcn import ExpressionBasis, MeshGCNNetworks, MeshGCNObjective, TargetMeshes
from model.designs.registry import build_networks
from model.landmarks.canonical_face import edges, vertices_cm
from model.landmarks.geometry import PartSizes
from model.networks.comparators.face_pose import FacePose
from model.networks.comparators.mesh_motion import neighbour_means
from tests.model.conftest import held_meshes, make_batch

CANONICAL_VC = torch.from_numpy(vertices_cm())


@pytest.fixture
def meshgcn(config: ModelConfig, part_sizes: PartSizes) -> MeshGCNNetworks:
    networks = build_networks(replace(config, network="meshgcn"), part_sizes, seed=0)
    assert isinstance(networks, MeshGCNNetworks)
    torch.nn.init.normal_(networks.generator.motion.to_flow.weight, std=0.1)  # as after some steps
    return networks


def meshes(seed: int, num: int = 2) -> FaceMeshes:
    found = make_batch(seed, num_pairs=num).meshes
    assert found is not None
    return found


def turned(pitch: float, yaw: float, roll: float) -> Tensor:
    """[1, 3, 3] of angles in radians."""
    turns = [torch.eye(3), torch.eye(3), torch.eye(3)]
    for turn, angle, (a, b) in zip(turns, (pitch, yaw, roll), ((1, 2), (0, 2), (0, 1)), strict=True):
        cos, sin = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = cos, -sin, sin, cos
    return (turns[2] @ turns[1] @ turns[0])[None]


def test_the_pose_of_a_face_that_is_turned_scaled_and_shifted_is_found() -> None:
    shape_NVC = CANONICAL_VC + 0.3 * torch.randn(1, 468, 3, generator=torch.Generator().manual_seed(0))
    own = FacePose.of(shape_NVC, CANONICAL_VC)
    rotation_NCC = turned(2.9, -0.6, 0.3)
    held_NVC = 0.07 * shape_NVC @ rotation_NCC.transpose(1, 2) + torch.tensor([0.2, -0.1, 0.4])
    pose = FacePose.of(held_NVC, CANONICAL_VC)
    torch.testing.assert_close(pose.rotation_NCC, rotation_NCC @ own.rotation_NCC, atol=1e-5, rtol=0)
    torch.testing.assert_close(pose.scale_N, 0.07 * own.scale_N)
    torch.testing.assert_close(pose.removed(held_NVC), own.removed(shape_NVC), atol=1e-4, rtol=0)
    torch.testing.assert_close(pose.applied(pose.removed(held_NVC)), held_NVC, atol=1e-5, rtol=0)


def test_a_mirrored_face_is_not_explained_by_a_reflection() -> None:
    flat_NVC = (CANONICAL_VC * torch.tensor([1.0, 1.0, -1.0]))[None]
    pose = FacePose.of(flat_NVC, CANONICAL_VC)
    torch.testing.assert_close(torch.linalg.det(pose.rotation_NCC), torch.ones(1))
    assert (pose.applied(CANONICAL_VC[None]) - flat_NVC).abs().max() > 1


def test_the_source_keeps_its_shape_in_the_drivers_pose_while_no_expression_is_known() -> None:
    found = meshes(0)
    target_NVC = ExpressionBasis()(found).target_NVC
    source, target = (FacePose.of(one, CANONICAL_VC) for one in (found.source_NVC, target_NVC))
    driving = FacePose.of(found.driving_NVC, CANONICAL_VC)
    for name in ("scale_N", "rotation_NCC", "translation_NC"):
        torch.testing.assert_close(getattr(target, name), getattr(driving, name), atol=1e-4, rtol=1e-4)
    own_NVC, kept_NVC = source.removed(found.source_NVC), target.removed(target_NVC)
    torch.testing.assert_close(kept_NVC, own_NVC, atol=1e-3, rtol=0)


def test_equal_expressions_move_nothing_whatever_was_learnt() -> None:
    found, basis = meshes(0), ExpressionBasis()
    before_NVC = basis(replace(found, driving_NB=found.source_NB)).target_NVC
    torch.nn.init.normal_(basis.linear.weight)
    assert torch.equal(basis(replace(found, driving_NB=found.source_NB)).target_NVC, before_NVC)
    assert not torch.allclose(basis(found).target_NVC, before_NVC)


def test_the_image_loss_does_not_train_the_basis_and_its_own_term_does(meshgcn: MeshGCNNetworks) -> None:
    objective, batch = MeshGCNObjective(meshgcn, LossConfig(perceptual_backbone="none"), None, 0), make_batch(0)
    weight = meshgcn.generator.basis.linear.weight
    terms = objective.generator_terms(batch, objective.draw(batch), 0)
    (terms["l1_image"] + terms["adversarial"]).backward(retain_graph=True)
    assert weight.grad is None
    terms["expression"].backward()
    assert weight.grad is not None and bool(weight.grad.any())


def expressed(seed: int, basis_BVC: Tensor) -> FaceMeshes:
    """Eight pairs, each of one face that its scores of expression move as the basis says."""
    found, rest_NVC = meshes(seed, 8), held_meshes(8, torch.Generator().manual_seed(seed))
    pose = FacePose.of(rest_NVC, CANONICAL_VC)
    source_NVC, driving_NVC = (
        pose.applied(pose.removed(rest_NVC) + torch.einsum("nb,bvc->nvc", scores_NB, basis_BVC))
        for scores_NB in (found.source_NB, found.driving_NB)
    )
    return replace(found, source_NVC=source_NVC, driving_NVC=driving_NVC)


def test_adam_learns_in_tens_of_steps_how_scores_of_expression_move_vertices() -> None:
    basis, generator = ExpressionBasis(), torch.Generator().manual_seed(0)
    true_BVC = 0.3 * torch.randn(52, 468, 3, generator=generator) * (torch.rand(52, 1, 1, generator=generator) < 0.2)
    adam = torch.optim.Adam(basis.parameters(), lr=1e-3)

    def error(seed: int) -> Tensor:
        got: TargetMeshes = basis(expressed(seed, true_BVC))
        return (got.expressed_NVC - got.driving_NVC).abs().mean()

    before = error(1000).item()
    for seed in range(60):
        adam.zero_grad()
        error(seed).backward()
        adam.step()
    assert error(1000).item() < 0.7 * before


@pytest.mark.parametrize("what", ["source_NVC", "driving_NVC", "source_NB", "driving_NB"])
def test_meshes_and_expressions_decide_what_is_drawn(meshgcn: MeshGCNNetworks, what: str) -> None:
    torch.nn.init.normal_(meshgcn.generator.basis.linear.weight, std=0.02)
    inputs, others = make_batch(0).generator_inputs(), meshes(1)
    changed = replace(inputs, meshes=replace(meshes(0), **{what: getattr(others, what)}))
    assert not torch.allclose(meshgcn.generator(changed).image_NCHW, meshgcn.generator(inputs).image_NCHW)


@pytest.mark.parametrize("what", ["driving_NCHW", "source_landmarks_NKC", "target_landmarks_NKC", "heatmap_NCHW"])
def test_the_driving_frame_and_landmarks_decide_nothing(meshgcn: MeshGCNNetworks, what: str) -> None:
    inputs, others = make_batch(0).generator_inputs(), make_batch(1).generator_inputs()
    changed = replace(inputs, **{what: getattr(others, what)})
    assert torch.equal(meshgcn.generator(changed).image_NCHW, meshgcn.generator(inputs).image_NCHW)


def test_what_tells_pairs_apart_comes_through_to_the_flow_from_the_start(meshgcn: MeshGCNNetworks) -> None:
    generator = torch.Generator().manual_seed(0)
    source_NVC = held_meshes(16, generator)
    moved_NVC = source_NVC + 0.08 * torch.randn(16, 1, 3, generator=generator)
    flow_NCHW = meshgcn.generator.motion(source_NVC, moved_NVC).detach()
    assert flow_NCHW.std(dim=0).square().mean() > 0.2 * flow_NCHW.square().mean()


def test_a_vertex_sees_the_mean_of_those_that_share_an_edge_with_it() -> None:
    means_VV = neighbour_means()
    torch.testing.assert_close(means_VV.sum(dim=1), torch.ones(468))
    around = {int(b if a == 4 else a) for a, b in edges() if 4 in (a, b)}
    assert {int(index) for index in means_VV[4].nonzero()} == around and 4 not in around
