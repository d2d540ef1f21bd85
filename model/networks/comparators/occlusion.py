"""A picture drawn from a warped source of which parts are hidden (Siarohin et al. 2019; Yao et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.config import ModelConfig
from model.networks.comparators.residual import ResidualBlock
from model.networks.unet import block
from model.networks.warping import resized, warp

_NUM_RESIDUAL_BLOCKS = 6


class OccludedImage(nn.Module):
    """Encodes the source, warps and masks its features, and draws the image from them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = config.generator_channels
        self.encode = nn.Sequential(
            block(3, channels, kernel_px=7, padding=3),
            *(nn.Sequential(block(width, 2 * width), nn.AvgPool2d(2)) for width in (channels, 2 * channels)),
        )
        self.redraw = nn.Sequential(*(ResidualBlock(4 * channels) for _ in range(_NUM_RESIDUAL_BLOCKS)))
        self.to_half, self.to_full = block(4 * channels, 2 * channels), block(2 * channels, channels)
        self.to_rgb = nn.Conv2d(channels, 3, 7, padding=3)

    def forward(self, source_NCHW: Tensor, flow_NCHW: Tensor, occlusion_NCHW: Tensor) -> Tensor:
        """The image, [N, 3, S, S] in [-1, 1].

        Args:
            source_NCHW: [N, 3, S, S] in [-1, 1].
            flow_NCHW: [N, 2, s, s] offsets.
            occlusion_NCHW: [N, 1, s, s] in [0, 1].
        """
        side_px = source_NCHW.shape[-1]
        warped_NCHW = warp(self.encode(source_NCHW), flow_NCHW)
        x_NCHW = self.redraw(warped_NCHW * resized(occlusion_NCHW, *warped_NCHW.shape[-2:]))
        x_NCHW = self.to_half(functional.interpolate(x_NCHW, side_px // 2, mode="nearest"))
        x_NCHW = self.to_full(functional.interpolate(x_NCHW, side_px, mode="nearest"))
        return torch.tanh(self.to_rgb(x_NCHW))
