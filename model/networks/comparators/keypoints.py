"""Key points that a network finds by itself, and the motions between two frames that they tell.

From Siarohin et al., "First Order Motion Model for Image Animation" (2019) and "Animating Arbitrary Objects
via Deep Motion Transfer" (2019). Shapes: N pairs, K = 10 points, M = K + 1 motions, the first that of the background,
C = 2 coordinates, s side of the maps. All positions are normalised as in `model.networks.warping`. Everything here is
float32, also under mixed precision: a matrix that is inverted, and points of a hundredth of the frame, need it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.networks.comparators.hourglass import Hourglass, num_halvings_of
from model.networks.warping import identity_grid, shrunk, warp
from model.precision import in_full_precision

NUM_KEYPOINTS = 10
NUM_MOTIONS = NUM_KEYPOINTS + 1
IN_CHANNELS = 4 * NUM_MOTIONS
"""Of what `seen_by_each` gives."""

_TEMPERATURE = 0.1
_MAX_GROWTH = 32
_LARGEST_PX = 64
_SMALLEST_DETERMINANT = 1e-6
_SMALLEST_VARIANCE = 0.001


@dataclass(frozen=True, slots=True)
class Keypoints:
    """Of N frames."""

    points_NKC: Tensor
    """[N, K, 2] (x, y)."""
    matrix_NKCC: Tensor
    """[N, K, 2, 2]: Jacobian of the way from a reference to the frame at the point, or covariance of its heatmap."""

    def split(self, num: int) -> tuple[Keypoints, Keypoints]:
        """Those of the first `num` frames and of the others."""
        return self._each(lambda tensor: tensor[:num]), self._each(lambda tensor: tensor[num:])

    def detach(self) -> Keypoints:
        """The same, without a gradient."""
        return self._each(lambda tensor: tensor.detach())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Keypoints:
        return Keypoints(*(change(getattr(self, field.name)) for field in fields(self)))


@dataclass(frozen=True, kw_only=True, slots=True)
class KeypointDrawing:
    """What one forward pass of a design that is led by key points gives; image side S."""

    image_NCHW: Tensor
    """[N, 3, S, S] in [-1, 1]: the source person in the driving pose."""
    flow_NCHW: Tensor
    """[N, 2, S, S] from the result to the source, in normalised units."""
    warped_source_NCHW: Tensor
    """[N, 3, S, S]: the source sampled along the flow."""
    driving: Keypoints
    """Where the points of the result were to be."""

    def stages(self) -> dict[str, Tensor]:
        """Pictures on the way to the image, [N, 3, S, S] in [-1, 1]."""
        return {"Warped source": self.warped_source_NCHW}


class Heatmaps(nn.Module):
    """Finds the points: a softmax over the frame for each."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.side_px = motion_side_px(config.image_size_px)
        self.hourglass = Hourglass(
            3,
            width=max(1, config.generator_channels // 2),
            num_halvings=num_halvings_of(self.side_px),
            max_growth=_MAX_GROWTH,
        )
        self.to_logits = nn.Conv2d(self.hourglass.out_channels, NUM_KEYPOINTS, 7, padding=3)

    def forward(self, image_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, S, S] in [-1, 1] to features [N, out_channels, s, s] and heatmaps [N, K, s, s] whose sums are 1."""
        features_NCHW = self.hourglass(shrunk(image_NCHW, self.side_px))
        logits_NKHW = self.to_logits(features_NCHW)
        return features_NCHW, (logits_NKHW / _TEMPERATURE).flatten(2).softmax(dim=2).view_as(logits_NKHW)


class JacobianKeypoints(nn.Module):
    """Key points with a Jacobian each, the identity at first."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heatmaps = Heatmaps(config)
        self.to_jacobians = nn.Conv2d(self.heatmaps.hourglass.out_channels, 4 * NUM_KEYPOINTS, 7, padding=3)
        nn.init.zeros_(self.to_jacobians.weight)
        with torch.no_grad():
            self.to_jacobians.bias.copy_(torch.eye(2).flatten().repeat(NUM_KEYPOINTS))  # type: ignore[union-attr]

    @in_full_precision
    def forward(self, image_NCHW: Tensor) -> Keypoints:
        """[N, 3, S, S] in [-1, 1] to the points of N frames."""
        features_NCHW, heatmaps_NKHW = self.heatmaps(image_NCHW)
        maps_NKJHW = self.to_jacobians(features_NCHW).view(len(image_NCHW), NUM_KEYPOINTS, 4, *heatmaps_NKHW.shape[2:])
        jacobians_NKJ = torch.einsum("nkhw,nkjhw->nkj", heatmaps_NKHW, maps_NKJHW)
        return Keypoints(centres(heatmaps_NKHW), jacobians_NKJ.view(-1, NUM_KEYPOINTS, 2, 2))


class CovarianceKeypoints(nn.Module):
    """Key points with the covariance of their heatmaps, a little added to it so that its inverse is small enough."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heatmaps = Heatmaps(config)

    @in_full_precision
    def forward(self, image_NCHW: Tensor) -> Keypoints:
        """[N, 3, S, S] in [-1, 1] to the points of N frames."""
        _, heatmaps_NKHW = self.heatmaps(image_NCHW)
        points_NKC = centres(heatmaps_NKHW)
        away_NKCHW = _away_from(points_NKC, heatmaps_NKHW.shape[-1])
        covariance_NKCC = torch.einsum("nkhw,nkchw,nkdhw->nkcd", heatmaps_NKHW, away_NKCHW, away_NKCHW)
        return Keypoints(points_NKC, covariance_NKCC + _SMALLEST_VARIANCE * torch.eye(2, device=points_NKC.device))


def moved(source: Keypoints, driving: Keypoints, reference: Keypoints) -> Keypoints:
    """The source's points, moved as the driving ones differ from those of the driver's reference frame.

    p_s + p_d - p_r, and J_d J_r^-1 J_s.
    """
    return Keypoints(
        source.points_NKC + driving.points_NKC - reference.points_NKC,
        driving.matrix_NKCC @ inverse(reference.matrix_NKCC) @ source.matrix_NKCC,
    )


def motion_side_px(image_size_px: int) -> int:
    """Side of the maps in which points and motions are found: half the image's, or a quarter, ... up to 64 pixels."""
    side_px = image_size_px // 2
    while side_px > _LARGEST_PX:
        side_px //= 2
    return side_px


def centres(heatmaps_NKHW: Tensor) -> Tensor:
    """[N, K, 2] mean position of each heatmap of sum 1."""
    grid_CHW = identity_grid(*heatmaps_NKHW.shape[-2:], like=heatmaps_NKHW)[0]
    return torch.einsum("nkhw,chw->nkc", heatmaps_NKHW, grid_CHW)


def gaussians(points_NKC: Tensor, precision_NKCC: Tensor, side_px: int) -> Tensor:
    """[N, K, s, s] in (0, 1]: 1 at the point.

    Args:
        points_NKC: [N, K, 2].
        precision_NKCC: [N, K, 2, 2] inverse covariance, or what broadcasts to it.
        side_px: s.
    """
    away_NKCHW = _away_from(points_NKC, side_px)
    scaled_NKCHW = torch.einsum("nkcd,nkdhw->nkchw", precision_NKCC.expand(*points_NKC.shape, 2), away_NKCHW)
    return torch.exp(-0.5 * (away_NKCHW * scaled_NKCHW).sum(dim=2))


def motions(source_NKC: Tensor, driving_NKC: Tensor, way_NKCC: Tensor, side_px: int) -> Tensor:
    """Flows that carry the source as each point tells: z -> p_s + A (z - p_d), after one that copies it.

    Args:
        source_NKC: [N, K, 2] p_s.
        driving_NKC: [N, K, 2] p_d.
        way_NKCC: [N, K, 2, 2] A, or what broadcasts to it.
        side_px: s.

    Returns:
        [N, M, 2, s, s] offsets.
    """
    away_NKCHW = _away_from(driving_NKC, side_px)
    carried_NKCHW = torch.einsum("nkcd,nkdhw->nkchw", way_NKCC.expand(*driving_NKC.shape, 2), away_NKCHW)
    flows_NKCHW = carried_NKCHW - away_NKCHW + (source_NKC - driving_NKC)[..., None, None]
    return torch.cat([torch.zeros_like(flows_NKCHW[:, :1]), flows_NKCHW], dim=1)


def seen_by_each(source_NCHW: Tensor, heat_NKHW: Tensor, flows_NMCHW: Tensor) -> Tensor:
    """What the motions are mixed by: of each the difference of its heatmaps and the source as it carries it.

    Args:
        source_NCHW: [N, 3, S, S].
        heat_NKHW: [N, K, s, s] heatmaps of the driving points minus those of the source's.
        flows_NMCHW: [N, M, 2, s, s] of `motions`.

    Returns:
        [N, 4 M, s, s], four channels for each motion in turn.
    """
    small_NCHW = shrunk(source_NCHW, flows_NMCHW.shape[-1])
    repeated_BCHW = small_NCHW.repeat_interleave(NUM_MOTIONS, dim=0)
    carried_BCHW = warp(repeated_BCHW, flows_NMCHW.flatten(0, 1))
    carried_NM3HW = carried_BCHW.view(-1, NUM_MOTIONS, *carried_BCHW.shape[1:])
    heat_NMHW = torch.cat([torch.zeros_like(heat_NKHW[:, :1]), heat_NKHW], dim=1)
    return torch.cat([heat_NMHW.unsqueeze(2), carried_NM3HW], dim=2).flatten(1, 2)


def mixed(flows_NMCHW: Tensor, logits_NMHW: Tensor) -> Tensor:
    """[N, 2, s, s]: the motions, each pixel's weighted by a softmax over them."""
    return (flows_NMCHW * logits_NMHW.softmax(dim=1).unsqueeze(2)).sum(dim=1)


def inverse(matrix_CC: Tensor) -> Tensor:
    """[..., 2, 2] inverses in closed form; determinants within 1e-6 of 0 count as that far away from it."""
    a, b, c, d = matrix_CC.flatten(-2).unbind(-1)
    determinant = a * d - b * c
    least = torch.full_like(determinant, _SMALLEST_DETERMINANT).copysign(determinant)
    determinant = torch.where(determinant.abs() < _SMALLEST_DETERMINANT, least, determinant)
    return torch.stack([d, -b, -c, a], dim=-1).view_as(matrix_CC) / determinant[..., None, None]


def _away_from(points_NKC: Tensor, side_px: int) -> Tensor:
    """[N, K, 2, s, s] from each point to each pixel."""
    return identity_grid(side_px, side_px, like=points_NKC)[:, None] - points_NKC[..., None, None]
