"""Residual blocks (He et al. 2016, pre-activation): without normalisation, or adapted to a person by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

_MAX_GROWTH = 8


class ResidualBlock(nn.Module):
    """Without normalisation (docs/decisions/004); the last convolution is zero at first, so it hands its input on."""

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


class ResidualDown(nn.Module):
    """Halves the side: two 3 x 3 convolutions beside one of 1 x 1, then average pooling."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        is_first: bool,
        conv: Callable[..., nn.Conv2d] = nn.Conv2d,
        norm: Callable[[int], nn.Module] = lambda channels: nn.Identity(),
    ) -> None:
        """Build it.

        Args:
            in_channels: of the input.
            out_channels: of the output.
            is_first: whether the input is a picture, which is neither normalised nor rectified.
            conv: makes a convolution.
            norm: makes a normalisation of so many channels.
        """
        super().__init__()
        before = [] if is_first else [norm(in_channels), nn.ReLU()]
        self.branch = nn.Sequential(
            *before,
            conv(in_channels, out_channels, 3, padding=1),
            norm(out_channels),
            nn.ReLU(),
            conv(out_channels, out_channels, 3, padding=1),
        )
        self.skip = conv(in_channels, out_channels, 1)
        for part in (*self.branch, self.skip):
            if isinstance(part, nn.Conv2d):
                keep_variance(part)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """[N, in_channels, h, w] to [N, out_channels, h // 2, w // 2]."""
        return functional.avg_pool2d(self.branch(x_NCHW) + self.skip(x_NCHW), 2)


def residual_downs(
    in_channels: int,
    widths: Sequence[int],
    *,
    conv: Callable[..., nn.Conv2d] = nn.Conv2d,
    norm: Callable[[int], nn.Module] = lambda channels: nn.Identity(),
) -> list[ResidualDown]:
    """A picture halved once for each of the widths.

    Args:
        in_channels: of the picture.
        widths: channels after each halving.
        conv: makes a convolution.
        norm: makes a normalisation of so many channels.
    """
    return [
        ResidualDown(before, after, is_first=level == 0, conv=conv, norm=norm)
        for level, (before, after) in enumerate(pairwise([in_channels, *widths]))
    ]


class ResidualUp(nn.Module):
    """Doubles the side: two 3 x 3 convolutions beside one of 1 x 1, all of enlarged maps."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(in_channels, out_channels, 1)
        for conv in (self.first, self.second, self.skip):
            keep_variance(conv)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """[N, in_channels, h, w] to [N, out_channels, 2 h, 2 w]."""
        hidden_NCHW = torch.relu(self.first(_doubled(torch.relu(x_NCHW))))
        return self.second(hidden_NCHW) + self.skip(_doubled(x_NCHW))  # type: ignore[no-any-return]


class AdaptedBlock(nn.Module):
    """Keeps the side or doubles it; both its 3 x 3 convolutions see maps that `adapted` has styled."""

    def __init__(self, in_channels: int, out_channels: int, *, doubles: bool) -> None:
        super().__init__()
        self.doubles = doubles
        self.style_dims = [2 * in_channels, 2 * out_channels]
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if doubles else nn.Identity()

    def forward(self, x_NCHW: Tensor, style_NS: Tensor) -> Tensor:
        """[N, in_channels, h, w] to [N, out_channels, h, w], or twice the sides.

        Args:
            x_NCHW: the maps.
            style_NS: [N, sum(style_dims)] of both adaptations in turn.
        """
        first_NS, second_NS = torch.split(style_NS, self.style_dims, dim=1)
        hidden_NCHW = self.first(self._grown(torch.relu(adapted(x_NCHW, first_NS))))
        return self.second(torch.relu(adapted(hidden_NCHW, second_NS))) + self.skip(self._grown(x_NCHW))  # type: ignore[no-any-return]

    def _grown(self, x_NCHW: Tensor) -> Tensor:
        return _doubled(x_NCHW) if self.doubles else x_NCHW


def adapted(x_NCHW: Tensor, style_NS: Tensor) -> Tensor:
    """Adaptive instance normalisation (Huang and Belongie 2017): (1 + scale) * normalised + shift.

    Args:
        x_NCHW: [N, C, h, w] of more than one pixel.
        style_NS: [N, 2 C] scales, counted from 1, and shifts.
    """
    scale_NC, shift_NC = style_NS.chunk(2, dim=1)
    return (1 + scale_NC[..., None, None]) * functional.instance_norm(x_NCHW) + shift_NC[..., None, None]


def widths_down_to(smallest_px: int, size_px: int, width: int) -> list[int]:
    """Channels after each halving of a side, as long as that leaves `smallest_px`."""
    widths: list[int] = []
    while size_px // 2 >= smallest_px:
        widths.append(width * min(2 ** len(widths), _MAX_GROWTH))
        size_px //= 2
    return widths


def keep_variance(conv: nn.Conv2d) -> None:
    """Start a convolution so that maps keep about their variance, without bias."""
    nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]


def _doubled(x_NCHW: Tensor) -> Tensor:
    return functional.interpolate(x_NCHW, scale_factor=2, mode="nearest")
