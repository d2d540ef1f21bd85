"""Hourglass over small maps of the frame (first-order-model and monkey-net, Siarohin et al. 2019).

Group normalisation stands in for their batch normalisation: it has no running statistics (docs/decisions/004).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

_SMALLEST_PX = 2
_GROUP_CHANNELS = 8


class Hourglass(nn.Module):
    """Halvings, as many doublings with skip connections, the input among them; it has no output convolution."""

    def __init__(self, in_channels: int, *, width: int, num_halvings: int, max_growth: int) -> None:
        """Build it.

        Args:
            in_channels: of the input.
            width: half the channels after the first halving; they double with each.
            num_halvings: of the side.
            max_growth: largest number of channels, in widths.
        """
        super().__init__()
        widths = [in_channels, *(width * min(2**level, max_growth) for level in range(1, num_halvings + 1))]
        self.encode = nn.ModuleList(_convolution(a, b) for a, b in pairwise(widths))
        self.decode = nn.ModuleList()
        channels = widths[-1]
        for level in reversed(range(num_halvings)):
            drawn = width * min(2**level, max_growth)
            self.decode.append(_convolution(channels, drawn))
            channels = drawn + widths[level]
        self.out_channels = channels

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """[N, in_channels, h, w] to [N, out_channels, h, w]; any sides of at least 2 ** num_halvings."""
        skips = []
        for encode in self.encode:
            skips.append(x_NCHW)
            x_NCHW = functional.avg_pool2d(encode(x_NCHW), 2)
        for decode in self.decode:
            skip_NCHW = skips.pop()
            grown_NCHW = functional.interpolate(x_NCHW, skip_NCHW.shape[-2:], mode="nearest")
            x_NCHW = torch.cat([decode(grown_NCHW), skip_NCHW], dim=1)
        return x_NCHW


def num_halvings_of(side_px: int) -> int:
    """Halvings of a side that leave at least two pixels."""
    num_halvings = 0
    while side_px // 2 >= _SMALLEST_PX:
        side_px, num_halvings = side_px // 2, num_halvings + 1
    return num_halvings


def _convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    num_groups = out_channels // _GROUP_CHANNELS if out_channels % _GROUP_CHANNELS == 0 else 1
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.GroupNorm(num_groups, out_channels), nn.ReLU()
    )
