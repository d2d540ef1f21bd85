"""Residual blocks without normalisation, for maps that pictures are drawn from (docs/decisions/004)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Pre-activation block (He et al. 2016) whose last convolution starts at zero: at first it hands its input on."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight)
        for tensor in (self.first.bias, self.second.weight, self.second.bias):
            nn.init.zeros_(tensor)  # type: ignore[arg-type]

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """[N, channels, h, w] to the same shape."""
        return x_NCHW + self.second(torch.relu(self.first(torch.relu(x_NCHW))))  # type: ignore[no-any-return]
