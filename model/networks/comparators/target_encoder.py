"""Maps of the sources with the pose taken out by a flow (MarioNETte, Ha et al. 2020, the target encoder).

Shapes: M sources, L levels; maps of level j = 1 to L have side S / 2^j. "Target" is the paper's word for whom we call
the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.comparators.residual import ResidualDown, ResidualUp, keep_variance
from model.networks.warping import warp


@dataclass(frozen=True, slots=True)
class EncodedSources:
    """Of M sources."""

    code_MCHW: Tensor
    """[M, widths[-1], S / 2^(L + 1), ...]: what the blender looks at."""
    maps_MCHW: list[Tensor]
    """Of each level, the largest first: [M, widths[j], S / 2^j, ...], in a pose that all sources share."""
    flow_MCHW: Tensor
    """[M, 2, S / 2, S / 2] offsets from that pose to the source's, in normalised units."""


class TargetEncoder(nn.Module):
    """Residual halvings of the source with its landmarks, and as many enlargements but one that draw a flow."""

    def __init__(self, widths: list[int]) -> None:
        """Build it.

        Args:
            widths: channels at full side and after each of L + 1 halvings.
        """
        super().__init__()
        self.first = nn.Conv2d(4, widths[0], 3, padding=1)
        keep_variance(self.first)
        self.down = nn.ModuleList(ResidualDown(a, b, is_first=False) for a, b in pairwise(widths))
        outs = widths[-3::-1]  # of level L to 1, half of what it joins
        ins = [widths[-1], *(out + skip for out, skip in zip(outs, widths[-2::-1], strict=False))]
        self.up = nn.ModuleList(ResidualUp(a, b) for a, b in zip(ins, outs, strict=False))
        self.to_flow = ZeroFlow(outs[-1] + widths[1])

    def forward(self, image_MCHW: Tensor, heatmap_MCHW: Tensor) -> EncodedSources:
        """[M, 3, S, S] in [-1, 1] and [M, 1, S, S] in [0, 1]; S is divisible by 2^L."""
        x_MCHW = self.first(torch.cat([image_MCHW, heatmap_MCHW], dim=1))
        maps_MCHW = []
        for down in self.down:
            x_MCHW = down(x_MCHW)
            maps_MCHW.append(x_MCHW)
        code_MCHW = maps_MCHW.pop()
        flow_MCHW = self._flow(code_MCHW, maps_MCHW)
        carried = [warp(map_MCHW, _pooled(flow_MCHW, map_MCHW)) for map_MCHW in maps_MCHW]
        return EncodedSources(code_MCHW, carried, flow_MCHW)

    def _flow(self, x_MCHW: Tensor, maps_MCHW: list[Tensor]) -> Tensor:
        for up, map_MCHW in zip(self.up, reversed(maps_MCHW), strict=True):
            up_MCHW = functional.interpolate(up(x_MCHW), map_MCHW.shape[-2:], mode="nearest")  # of odd sides too
            x_MCHW = torch.cat([up_MCHW, map_MCHW], dim=1)
        flow_MCHW: Tensor = self.to_flow(x_MCHW)
        return flow_MCHW


class ZeroFlow(nn.Module):
    """A flow of at most half a frame in x and y, zero at first."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 2, 1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """[N, in_channels, h, w] to offsets [N, 2, h, w] in (-1, 1), float32 under mixed precision too."""
        return torch.tanh(self.conv(x_NCHW).float())


def _pooled(flow_MCHW: Tensor, map_MCHW: Tensor) -> Tensor:
    """At the side of a map, each offset the mean of those that it stands for."""
    return functional.adaptive_avg_pool2d(flow_MCHW, map_MCHW.shape[-1])
