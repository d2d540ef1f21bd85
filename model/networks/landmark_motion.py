"""Motions of the whole frame that carry source landmarks to target landmarks, and a network that mixes them.

Not in the thesis (docs/decisions/003). The candidates have no parameters, so they are the same at all sites and before
training. The mixer sees where each candidate takes the source's pixels, never who the person is.

Legend: N targets, M sources, as many of each target, in the order of `fusion`; K landmarks, C = 2 coordinates, P pixels
of the mixing grid, J candidates. All flows are in `warping`'s units. What depends on the target alone is computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.fusion import repeated
from model.networks.unet import UNet
from model.networks.warping import identity_grid, resized, shrunk, to_normalised, warp
from model.precision import in_full_precision

_NARROW, _WIDE = 0.04, 0.15  # standard deviations, frame units of [-1, 1]; chosen on training frames of five people
_WIDE_SHARE = 0.02
_KERNEL_FADE = 0.05
_FACE_RADIUS = 1.8  # standard deviations of the landmarks; chosen among 1.5 to 2 on the frames of the same people
_FADE_WIDTH, _FADE_PER_MOTION = 0.5, 1.0  # chosen among 0.1 to 3 and 0 to 2
_SPLINE_STIFFNESS = 0.01  # chosen among 0.0001 to 1 on the frames of the same people
_TINY = 1e-6
_LEAST_EXPONENT = -80.0  # exp of less is next to nothing, and below -87 ten times slower on CPUs
_NUM_CANDIDATES = 4
_FACE_CANDIDATE, _SIMILARITY_CANDIDATE = 1, 2
_MAX_RESIDUAL = 0.1  # frame units
_BENDING_WEIGHT = 64.0  # a logit of 2 for a pixel of 64; chosen among 0 to 128 on the frames of the same people
_SHARPNESS = 4.0  # of the learnt choice among sources: a mean of sources is a blur
_MIXER_CHANNELS = 24
_MAP_SCALE = 4.0  # brings flows of the usual size to the range of the other inputs


class SourceMotion(NamedTuple):
    """Where results take their pixels from each of M sources, and how far the source is to be trusted."""

    flow_MCHW: Tensor
    """[M, 2, S, S]."""
    confidence_MCHW: Tensor | None
    """[M, 1, S, S] logits, compared between the sources of one result; None in a network of one source."""


class MotionMixer(nn.Module):
    """Weighs the candidate motions pixel by pixel and adds a small flow of its own; a U-Net at half the side.

    For several sources it also says how far to trust the source at each pixel: it sees where each motion takes the
    source's pixels, and how far. Its weights are the same for every source, so any number can be compared.
    """

    def __init__(self, num_features: int, heatmap_channels: int, *, face_motion: str, has_confidence: bool) -> None:
        """Start as a mix that is mostly the motion of the face.

        Args:
            num_features: channels of the flow head's last map, which brings in the tokens of both frames.
            heatmap_channels: of the heatmap.
            face_motion: a key of `FACE_MOTIONS`.
            has_confidence: whether there can be several sources.
        """
        super().__init__()
        self.face_motion, self.has_confidence = FACE_MOTIONS[face_motion], has_confidence
        num_out = _NUM_CANDIDATES + 2 + has_confidence
        self.unet = UNet(num_features + heatmap_channels + 5 * _NUM_CANDIDATES, num_out, width=_MIXER_CHANNELS)
        self.unet.out.bias.data[_FACE_CANDIDATE] = self.face_motion.start_logit  # type: ignore[union-attr]

    def forward(
        self,
        features_MCHW: Tensor,
        source_MCHW: Tensor,
        heatmap_NCHW: Tensor,
        source_landmarks_MKC: Tensor,
        target_landmarks_NKC: Tensor,
    ) -> SourceMotion:
        """The mixed flow, and the confidence if there is one.

        Args:
            features_MCHW: [M, F, S, S] of the flow head.
            source_MCHW: [M, 3, S, S] in [-1, 1].
            heatmap_NCHW: [N, 1 or 2, S, S] in [0, 1], of the target landmarks.
            source_landmarks_MKC: [M, 68, 2] pixels.
            target_landmarks_NKC: [N, 68, 2] pixels.
        """
        size_px = source_MCHW.shape[-1]
        side, num_each = size_px // 2, source_MCHW.shape[0] // heatmap_NCHW.shape[0]
        landmarks = (source_landmarks_MKC, target_landmarks_NKC)
        candidates_MJCHW = candidate_flows(*landmarks, size_px, side=side, face_motion=self.face_motion)
        source_MCHW = shrunk(source_MCHW, side)
        inputs = [shrunk(features_MCHW, side), repeated(shrunk(heatmap_NCHW, side), num_each)]
        for flow_MCHW in candidates_MJCHW.unbind(dim=1):
            inputs += [warp(source_MCHW, flow_MCHW), _MAP_SCALE * flow_MCHW]
        mix_MCHW = self.unet(torch.cat(inputs, dim=1))
        weight_MJHW = mix_MCHW[:, :_NUM_CANDIDATES].softmax(dim=1)
        flow_MCHW = (weight_MJHW.unsqueeze(2) * candidates_MJCHW).sum(dim=1)
        flow_MCHW = flow_MCHW + _MAX_RESIDUAL * torch.tanh(mix_MCHW[:, _NUM_CANDIDATES : _NUM_CANDIDATES + 2])
        confidence_MCHW = None
        if self.has_confidence:
            confidence_MCHW = starting_confidence(candidates_MJCHW) + _SHARPNESS * mix_MCHW[:, _NUM_CANDIDATES + 2 :]
            if self.face_motion.distance_weight:
                way_M = _mean_way(*(to_normalised(points_NKC, size_px) for points_NKC in landmarks))
                confidence_MCHW = confidence_MCHW - self.face_motion.distance_weight * way_M[:, None, None, None]
            confidence_MCHW = resized(confidence_MCHW, size_px, size_px)
        return SourceMotion(resized(flow_MCHW, size_px, size_px), confidence_MCHW)


def starting_confidence(candidates_MJCHW: Tensor) -> Tensor:
    """How far an untrained network trusts a source at each pixel: the less, the more its face has to be bent there.

    Args:
        candidates_MJCHW: [M, 4, 2, h, w] of `candidate_flows`.

    Returns:
        [M, 1, h, w] logits <= 0; 0 where one similarity of the whole frame does all that the landmarks ask for.
    """
    bent_MCHW = candidates_MJCHW[:, _FACE_CANDIDATE] - candidates_MJCHW[:, _SIMILARITY_CANDIDATE]
    bending_M1HW: Tensor = torch.linalg.vector_norm(bent_MCHW, dim=1, keepdim=True)
    return -_BENDING_WEIGHT * bending_M1HW


@torch.no_grad()
@in_full_precision
def candidate_flows(
    source_landmarks_MKC: Tensor, target_landmarks_NKC: Tensor, size_px: int, *, side: int, face_motion: FaceMotion
) -> Tensor:
    """No motion (background), the motion of face and surroundings, `similarity_flow` (hair), `spline_flow` (face).

    Args:
        source_landmarks_MKC: [M, 68, 2] pixels.
        target_landmarks_NKC: [N, 68, 2] pixels.
        size_px: side S of the frame of the landmarks.
        side: of the flows.
        face_motion: one of `FACE_MOTIONS`.

    Returns:
        [M, 4, 2, side, side] float32, without mixed precision.
    """
    target_NKC = to_normalised(target_landmarks_NKC.float(), size_px)
    source_MKC = to_normalised(source_landmarks_MKC.float(), size_px)
    grid_PC = identity_grid(side, side, like=target_NKC)[0].flatten(1).T
    flows = [
        torch.zeros_like(grid_PC).expand(source_MKC.shape[0], -1, -1),
        face_motion.flow(source_MKC, target_NKC, grid_PC),
        similarity_flow(source_MKC, target_NKC, grid_PC),
        spline_flow(source_MKC, target_NKC, grid_PC),
    ]
    return torch.stack(flows, dim=1).transpose(2, 3).reshape(source_MKC.shape[0], _NUM_CANDIDATES, 2, side, side)


def kernel_flow(source_MKC: Tensor, target_NKC: Tensor, grid_PC: Tensor) -> Tensor:
    """Each landmark's motion spread by Gaussian weights, fading to zero far from the face.

    flow(x) = sum_k w_k(x) m_k / (sum_k w_k(x) + eps) with the motion m_k of landmark k and w_k the sum of a narrow and
    a weak wide Gaussian of the distance to its target: kernel regression (Nadaraya 1964, Watson 1964).

    Args:
        source_MKC: [M, K, 2] in frame units.
        target_NKC: [N, K, 2] in frame units.
        grid_PC: [P, 2] where to evaluate.

    Returns:
        [M, P, 2].
    """
    squared_NPK = _squared_distances(grid_PC.expand(target_NKC.shape[0], -1, -1), target_NKC)
    narrow, wide = (torch.exp((squared_NPK / (-2 * width**2)).clamp_min(_LEAST_EXPONENT)) for width in (_NARROW, _WIDE))
    weight_NPK = narrow + _WIDE_SHARE * wide
    total_NP1 = weight_NPK.sum(dim=-1, keepdim=True) + _KERNEL_FADE
    weight_MPK, target_MKC, total_MP1 = _for_each(source_MKC, weight_NPK, target_NKC, total_NP1)
    return weight_MPK @ (source_MKC - target_MKC) / total_MP1


def similarity_flow(source_MKC: Tensor, target_NKC: Tensor, grid_PC: Tensor) -> Tensor:
    """Rotation, scale and shift of the whole frame that fit the landmarks best in the least-squares sense.

    Arguments and result as of `kernel_flow`. Landmarks that are all one point give a pure shift.
    """
    (target_MKC,) = _for_each(source_MKC, target_NKC)
    target_mean, source_mean = target_MKC.mean(dim=1, keepdim=True), source_MKC.mean(dim=1, keepdim=True)
    a_MKC, b_MKC = target_MKC - target_mean, source_MKC - source_mean
    energy_M = a_MKC.square().sum(dim=(1, 2)).clamp_min(_TINY)
    cosine_M = (a_MKC * b_MKC).sum(dim=(1, 2)) / energy_M
    sine_M = (a_MKC[..., 0] * b_MKC[..., 1] - a_MKC[..., 1] * b_MKC[..., 0]).sum(dim=1) / energy_M
    is_point_M = energy_M <= _TINY
    cosine_M = torch.where(is_point_M, torch.ones_like(cosine_M), cosine_M)
    rotation_MCC = torch.stack([torch.stack([cosine_M, sine_M], -1), torch.stack([-sine_M, cosine_M], -1)], dim=1)
    return (grid_PC - target_mean) @ rotation_MCC + source_mean - grid_PC


def fading_flow(source_MKC: Tensor, target_NKC: Tensor, grid_PC: Tensor) -> Tensor:
    """`spline_flow` on the face, which fades to zero with the distance from it: the further the face moves, the wider.

    flow(x) = spline(x) exp(-(max(0, q(x) - _FACE_RADIUS) / w)^2) with the distance q of x from the middle of the target
    landmarks, in their standard deviations (Mahalanobis); the face's outline is about 2 away.
    w = _FADE_WIDTH + _FADE_PER_MOTION D where landmarks move by D of them: a zone that is too narrow for the way of the
    face folds, and shows it twice.

    Arguments and result as of `kernel_flow`.
    """
    width_M11 = _FADE_WIDTH + _FADE_PER_MOTION * _relative_motion(source_MKC, target_NKC)
    beyond_NP1 = (_distance_from_face(target_NKC, grid_PC) - _FACE_RADIUS).clamp_min(0.0)
    (beyond_MP1,) = _for_each(source_MKC, beyond_NP1)
    exponent_MP1 = (-((beyond_MP1 / width_M11) ** 2)).clamp_min(_LEAST_EXPONENT)
    return torch.exp(exponent_MP1) * spline_flow(source_MKC, target_NKC, grid_PC)


def _for_each(source_MKC: Tensor, *of_targets: Tensor) -> list[Tensor]:
    """[N, ...] of the targets as [M, ...], for each of their sources."""
    return [repeated(values, source_MKC.shape[0] // values.shape[0]) for values in of_targets]


def _relative_motion(source_MKC: Tensor, target_NKC: Tensor) -> Tensor:
    """[M, 1, 1] the mean way of the landmarks in standard deviations of the target landmarks."""
    deviation_N = (target_NKC - target_NKC.mean(dim=1, keepdim=True)).square().mean(dim=(1, 2)).sqrt()
    (deviation_M,) = _for_each(source_MKC, deviation_N.clamp_min(_TINY))
    return (_mean_way(source_MKC, target_NKC) / deviation_M)[:, None, None]


def _mean_way(source_MKC: Tensor, target_NKC: Tensor) -> Tensor:
    """[M] mean distance of source and target landmarks, in their unit."""
    (target_MKC,) = _for_each(source_MKC, target_NKC)
    way_MK: Tensor = torch.linalg.vector_norm(source_MKC - target_MKC, dim=-1)
    return way_MK.mean(dim=1)


def _distance_from_face(target_NKC: Tensor, grid_PC: Tensor) -> Tensor:
    """[N, P, 1] Mahalanobis distance of places from the middle of the landmarks."""
    mean_N1C = target_NKC.mean(dim=1, keepdim=True)
    centred_NKC, away_NPC = target_NKC - mean_N1C, grid_PC - mean_N1C
    covariance_NCC = centred_NKC.transpose(1, 2) @ centred_NKC / centred_NKC.shape[1]
    covariance_NCC = covariance_NCC + _TINY * torch.eye(2, device=target_NKC.device)
    weighted_NPC: Tensor = away_NPC @ torch.linalg.inv_ex(covariance_NCC).inverse  # does not wait for CUDA
    return (weighted_NPC * away_NPC).sum(dim=-1, keepdim=True).clamp_min(0.0).sqrt()


def spline_flow(source_MKC: Tensor, target_NKC: Tensor, grid_PC: Tensor) -> Tensor:
    """Thin-plate spline through the landmarks' motions, slightly smoothed: no folds where the head turns far.

    Bookstein 1989, with the stiffness of Wahba 1990 on the diagonal; affine far from the landmarks. Arguments and
    result as of `kernel_flow`.
    """
    num_targets, num_landmarks, _ = target_NKC.shape
    bend_NKK = _thin_plate(_squared_distances(target_NKC, target_NKC))
    bend_NKK = bend_NKK + _SPLINE_STIFFNESS * torch.eye(num_landmarks, device=target_NKC.device)
    affine_NK3 = functional.pad(target_NKC, (0, 1), value=1.0)
    # The small negative corner keeps the system solvable where all landmarks lie on one line.
    corner_N33 = (-_TINY * torch.eye(3, device=target_NKC.device)).expand(num_targets, 3, 3)
    system = torch.cat(
        [torch.cat([bend_NKK, affine_NK3], 2), torch.cat([affine_NK3.transpose(1, 2), corner_N33], 2)], 1
    )
    basis_NPK = _thin_plate(_squared_distances(grid_PC.expand(num_targets, -1, -1), target_NKC))
    system, basis_MPK, target_MKC = _for_each(source_MKC, system, basis_NPK, target_NKC)
    weights, _ = torch.linalg.solve_ex(system, functional.pad(source_MKC - target_MKC, (0, 0, 0, 3)))  # nor does this
    affine_P3 = functional.pad(grid_PC, (0, 1), value=1.0)
    flow_MPC: Tensor = basis_MPK @ weights[:, :num_landmarks] + affine_P3 @ weights[:, num_landmarks:]
    return flow_MPC


def _thin_plate(squared: Tensor) -> Tensor:
    """U(r) = r^2 log r of squared distances."""
    return 0.5 * squared * torch.log(squared.clamp_min(1e-12))


def _squared_distances(a_NPC: Tensor, b_NKC: Tensor) -> Tensor:
    """[N, P, K]."""
    xs, ys = (a_NPC[:, :, None, axis] - b_NKC[:, None, :, axis] for axis in (0, 1))
    return xs.square() + ys.square()


class FaceMotion(NamedTuple):
    """The motion of a face and what is around it, zero far from it, and what an untrained network makes of it."""

    flow: Callable[[Tensor, Tensor, Tensor], Tensor]
    """Of source and target landmarks and a grid, as `kernel_flow`."""
    start_logit: float
    """Of this candidate in the mix of four; 2 is seven tenths, 3 seven eighths."""
    distance_weight: float
    """By how much a source is trusted less whose landmarks are further away by one frame unit on average."""


FACE_MOTIONS = {"kernel": FaceMotion(kernel_flow, 2.0, 0.0), "spline": FaceMotion(fading_flow, 3.0, 32.0)}
"""What the setting `face-motion` names."""
