"""A small U-Net over maps of the frame, for what is beyond the thesis: mixing motions and correcting copied pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.warping import resized

_SLOPE = 0.2


class UNet(nn.Module):
    """Three halvings, three enlargements with skip connections, and an output convolution that starts at zero.

    It overfits a handful of pairs several times faster than corrections drawn from the generator's small feature maps.
    """

    def __init__(self, in_channels: int, out_channels: int, *, width: int) -> None:
        """Build it.

        Args:
            in_channels: of the input.
            out_channels: of the output.
            width: channels at full side; twice and four times as many below.
        """
        super().__init__()
        self.encode = nn.ModuleList(
            [
                block(in_channels, width),
                block(width, 2 * width, stride=2),
                block(2 * width, 4 * width, stride=2),
                block(4 * width, 4 * width, stride=2),
            ]
        )
        self.decode = nn.ModuleList([block(8 * width, 2 * width), block(4 * width, width), block(2 * width, width)])
        self.out = nn.Conv2d(width, out_channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """[N, in_channels, h, w] to [N, out_channels, h, w]; any sides >= 8."""
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
