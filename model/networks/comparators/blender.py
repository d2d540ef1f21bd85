"""Mixes what a drawing of landmarks says with what several sources show, by attention (MarioNETte, Ha et al. 2020).

Shapes: N results, K sources of each, D channels, s and t sides of the maps of drawing and sources, A numbers of a
query.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.comparators.residual import keep_variance
from model.networks.warping import identity_grid

_NUM_BLOCKS = 3
_POSITION_DIM = 64
_POSITIONS = 16
"""Of a side of the frame, that sinusoids count in: pixels of the published drawing's maps."""
_SLOWEST = 10_000.0


class Blender(nn.Module):
    """The drawing's maps, styled by the sources' in three attention blocks."""

    def __init__(self, channels: int, *, query_dim: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ImageAttention(channels, query_dim=query_dim) for _ in range(_NUM_BLOCKS))

    def forward(self, drawing_NDHW: Tensor, sources_KNDHW: Tensor) -> Tensor:
        """[N, D, s, s] and [K, N, D, t, t], whose order over K does not count, to [N, D, s, s]."""
        for block in self.blocks:
            drawing_NDHW = block(drawing_NDHW, sources_KNDHW)
        return drawing_NDHW


class ImageAttention(nn.Module):
    """Every place of the drawing asks all places of all its sources; then a convolution, each normalised."""

    def __init__(self, channels: int, *, query_dim: int) -> None:
        super().__init__()
        self.to_query = nn.Linear(channels, query_dim, bias=False)
        self.to_query_place = nn.Linear(_POSITION_DIM, query_dim, bias=False)
        self.to_key = nn.Linear(channels, query_dim, bias=False)
        self.to_key_place = nn.Linear(_POSITION_DIM, query_dim, bias=False)
        self.to_value = nn.Linear(channels, channels, bias=False)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        keep_variance(self.conv)

    def forward(self, drawing_NDHW: Tensor, sources_KNDHW: Tensor) -> Tensor:
        """As of `Blender`."""
        asking_NPD = drawing_NDHW.flatten(2).mT
        asked_NPD = sources_KNDHW.permute(1, 0, 3, 4, 2).flatten(1, 3)
        key_PA = self.to_key_place(positions(*sources_KNDHW.shape[-2:], like=drawing_NDHW))
        found_NPD = functional.scaled_dot_product_attention(
            self.to_query(asking_NPD) + self.to_query_place(positions(*drawing_NDHW.shape[-2:], like=drawing_NDHW)),
            self.to_key(asked_NPD) + key_PA.repeat(len(sources_KNDHW), 1),
            self.to_value(asked_NPD),
        )
        x_NDHW = functional.instance_norm(drawing_NDHW + found_NPD.mT.view_as(drawing_NDHW))
        return functional.instance_norm(x_NDHW + self.conv(torch.relu(x_NDHW)))


def positions(height: int, width: int, *, like: Tensor) -> Tensor:
    """[height * width, 64] sines and cosines of each place (Vaswani et al. 2017), of x and then of y, row by row.

    Of places in the frame, not of pixels: maps of two sides can be compared.

    Args:
        height: of the maps.
        width: of the maps.
        like: has their dtype and device.
    """
    num = _POSITION_DIM // 4
    frequency_F = torch.exp(torch.arange(num, device=like.device) * (-math.log(_SLOWEST) / num))
    place_CHW = (identity_grid(height, width, like=frequency_F)[0] + 1) * (_POSITIONS / 2)
    angle_PCF = place_CHW.flatten(1).T[:, :, None] * frequency_F
    return torch.cat([angle_PCF.sin(), angle_PCF.cos()], dim=2).flatten(1).to(like.dtype)
