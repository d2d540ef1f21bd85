"""One flow out of the motions of key points (Siarohin et al. 2019), and where the source does not show what is wanted.

Shapes: N pairs, M motions, s side of the maps of `model.networks.comparators.keypoints`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.networks.comparators.hourglass import Hourglass, num_halvings_of
from model.networks.comparators.keypoints import (
    IN_CHANNELS,
    NUM_MOTIONS,
    Keypoints,
    gaussians,
    inverse,
    mixed,
    motion_side_px,
    motions,
    seen_by_each,
)
from model.precision import in_full_precision

_VARIANCE = 0.01
_MAX_GROWTH = 16
_SLOPE = 0.2
_NUM_GROUPED = 2
_BACKGROUND_BIAS = 2.0


class DenseMotion(nn.Module):
    """FOMM's: motions that are affine about each point, mixed, and an occlusion map."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.side_px = motion_side_px(config.image_size_px)
        self.hourglass = Hourglass(
            IN_CHANNELS,
            width=config.generator_channels,
            num_halvings=num_halvings_of(self.side_px),
            max_growth=_MAX_GROWTH,
        )
        self.to_mix = nn.Conv2d(self.hourglass.out_channels, NUM_MOTIONS, 7, padding=3)
        self.to_occlusion = nn.Conv2d(self.hourglass.out_channels, 1, 7, padding=3)

    @in_full_precision
    def forward(self, source_NCHW: Tensor, source: Keypoints, driving: Keypoints) -> tuple[Tensor, Tensor]:
        """Flow [N, 2, s, s] and occlusion [N, 1, s, s] in [0, 1], 0 where nothing of the source can be taken.

        Args:
            source_NCHW: [N, 3, S, S] in [-1, 1].
            source: its points.
            driving: those of the driving frame.
        """
        precision_CC = torch.eye(2, device=source_NCHW.device) / _VARIANCE
        heat_NKHW = gaussians(driving.points_NKC, precision_CC, self.side_px)
        heat_NKHW = heat_NKHW - gaussians(source.points_NKC, precision_CC, self.side_px)
        way_NKCC = source.matrix_NKCC @ inverse(driving.matrix_NKCC)
        flows_NMCHW = motions(source.points_NKC, driving.points_NKC, way_NKCC, self.side_px)
        features_NCHW = self.hourglass(seen_by_each(source_NCHW, heat_NKHW, flows_NMCHW))
        return mixed(flows_NMCHW, self.to_mix(features_NCHW)), torch.sigmoid(self.to_occlusion(features_NCHW))


class ShiftedMotion(nn.Module):
    """Monkey-Net's: shifts by each point, mixed, and a flow that corrects the mixture."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.side_px = motion_side_px(config.image_size_px)
        self.of_each = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(IN_CHANNELS, IN_CHANNELS, 1, groups=NUM_MOTIONS), nn.LeakyReLU(_SLOPE))
                for _ in range(_NUM_GROUPED)
            )
        )
        self.hourglass = Hourglass(
            IN_CHANNELS,
            width=max(1, config.generator_channels // 2),
            num_halvings=num_halvings_of(self.side_px),
            max_growth=2 * _MAX_GROWTH,
        )
        self.out = nn.Conv2d(self.hourglass.out_channels, NUM_MOTIONS + 2, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        with torch.no_grad():  # at first the background, which copies the source, counts most
            self.out.bias.copy_(torch.tensor([_BACKGROUND_BIAS] + [0.0] * (NUM_MOTIONS + 1)))  # type: ignore[union-attr]

    @in_full_precision
    def forward(self, source_NCHW: Tensor, source: Keypoints, driving: Keypoints) -> tuple[Tensor, Tensor]:
        """Flow [N, 2, s, s], and the differences of the heatmaps of driving and source points, [N, K, s, s].

        Args:
            source_NCHW: [N, 3, S, S] in [-1, 1].
            source: its points, with covariances.
            driving: those of the driving frame.
        """
        heat_NKHW = gaussians(driving.points_NKC, inverse(driving.matrix_NKCC), self.side_px)
        heat_NKHW = heat_NKHW - gaussians(source.points_NKC, inverse(source.matrix_NKCC), self.side_px)
        way_CC = torch.eye(2, device=source_NCHW.device)
        flows_NMCHW = motions(source.points_NKC, driving.points_NKC, way_CC, self.side_px)
        drawn_NCHW = self.out(self.hourglass(self.of_each(seen_by_each(source_NCHW, heat_NKHW, flows_NMCHW))))
        return mixed(flows_NMCHW, drawn_NCHW[:, :NUM_MOTIONS]) + drawn_NCHW[:, NUM_MOTIONS:], heat_NKHW
