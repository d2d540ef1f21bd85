"""A small U-Net over maps of the frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.networks.warping import resized

_SLOPE = 0.2


class UNet(nn.Module):
    """Halvings, as many enlargements with skip connections, and an output convolution that starts at zero.

    It overfits a handful of pairs several times faster than corrections drawn from the generator's small feature maps.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, width: int, num_halvings: int = 3, max_growth: int = 4
    ) -> None:
        """Build it.

        Args:
            in_channels: of the input.
            out_channels: of the output.
            width: channels at full side, doubled at each halving.
            num_halvings: of the side.
            max_growth: largest number of channels, in widths.
        """
        super().__init__()
        widths = [width * min(2**level, max_growth) for level in range(num_halvings + 1)]
        self.encode = nn.ModuleList([block(in_channels, width)])
        self.encode.extend(block(widths[level], widths[level + 1], stride=2) for level in range(num_halvings))
        self.decode = nn.ModuleList()
        channels = widths[-1]
        for level in reversed(range(num_halvings)):
            self.decode.append(block(channels + widths[level], widths[max(level - 1, 0)]))
            channels = widths[max(level - 1, 0)]
        self.out = nn.Conv2d(width, out_channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """[N, in_channels, h, w] to [N, out_channels, h, w]; any sides of at least 2 ** num_halvings."""
        skips = []
        for encode in self.encode:
            x_NCHW = encode(x_NCHW)
            skips.append(x_NCHW)
        x_NCHW = skips.pop()
        for decode in self.decode:
            skip_NCHW = skips.pop()
            x_NCHW = decode(torch.cat([resized(x_NCHW, *skip_NCHW.shape[-2:]), skip_NCHW], dim=1))
        return self.out(x_NCHW)  # type: ignore[no-any-return]


def block(
    in_channels: int, out_channels: int, *, kernel_px: int = 3, stride: int = 1, padding: int = 1
) -> nn.Sequential:
    """Convolution and leaky ReLU, started so that activations keep their variance (He et al. 2015)."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_px, stride=stride, padding=padding)
    nn.init.kaiming_normal_(conv.weight, a=_SLOPE)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return nn.Sequential(conv, nn.LeakyReLU(_SLOPE))
