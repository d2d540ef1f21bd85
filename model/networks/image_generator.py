"""Image generator with its style branch (thesis 3.4, Fig 3.6).

No normalisation layer sees the features: statistics of one person's frames would have to be restored from the
weights, and averaging the weights of people of different colours washes the colours out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.config import ModelConfig
from model.networks.parts import corrected
from model.networks.unet import UNet, block
from model.networks.warping import resized, warp

_SLOPE = 0.2


class StyleBranch(nn.Module):
    """Style vector from the heatmap of the target landmarks (3.4), in place of StyleGAN2's mapping network."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, size_px = config.heatmap_channels, config.image_size_px
        while size_px > 4:
            widened = min(max(16, 2 * channels), config.style_dim)
            layers += [nn.Conv2d(channels, widened, 3, stride=2, padding=1), nn.LeakyReLU(_SLOPE)]
            channels, size_px = widened, (size_px + 1) // 2
        self.encode = nn.Sequential(*layers)
        self.to_style = nn.Linear(channels * size_px**2, config.style_dim)

    def forward(self, heatmap_NCHW: Tensor) -> Tensor:
        """[N, 1 or 2, S, S] in [0, 1] to [N, style_dim]."""
        return functional.leaky_relu(self.to_style(self.encode(heatmap_NCHW).flatten(1)), _SLOPE)


class StyledConv(nn.Module):
    """3x3 convolution, modulated and demodulated by a style vector as in StyleGAN2 (Karras et al. 2020, section 2.2).

    Activations are scaled before and after a shared convolution, which equals scaling per-sample weights.
    Without a style it is a plain convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, style_dim: int | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        nn.init.kaiming_normal_(self.conv.weight, a=_SLOPE)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]
        self.to_scale = None
        if style_dim is not None:
            self.to_scale = nn.Linear(style_dim, in_channels)
            nn.init.normal_(self.to_scale.weight, std=0.01)
            nn.init.ones_(self.to_scale.bias)
            self.gain = nn.Parameter(self.conv.weight.detach().square().sum(dim=(1, 2, 3)).sqrt())

    def forward(self, x_NCHW: Tensor, style_NS: Tensor | None) -> Tensor:
        """[N, C_in, h, w] to [N, C_out, h, w]."""
        if self.to_scale is None:
            return functional.leaky_relu(self.conv(x_NCHW), _SLOPE)
        scale_NC = self.to_scale(style_NS)
        weight_energy_OI = self.conv.weight.square().sum(dim=(2, 3))
        demodulation_NO = self.gain * torch.rsqrt(scale_NC.square() @ weight_energy_OI.T + 1e-8)
        x_NCHW = functional.conv2d(x_NCHW * scale_NC[:, :, None, None], self.conv.weight, padding=1)
        x_NCHW = x_NCHW * demodulation_NO[:, :, None, None] + self.conv.bias[None, :, None, None]  # type: ignore[index]
        return functional.leaky_relu(x_NCHW, _SLOPE)


class ImageGenerator(nn.Module):
    """U-Net-like generator: encode, warp, add the parts, one skip connection, upsample (3.4, Fig 3.6)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = config.generator_channels
        style_dim = config.style_dim if config.use_style else None
        self.use_flow = config.use_flow
        self.style_branch = StyleBranch(config) if config.use_style else None
        self.encode = nn.Sequential(  # 224 -> 224 -> 113 -> 58
            block(3, channels, kernel_px=7, padding=3),
            block(channels, 2 * channels, stride=2, padding=2),
            block(2 * channels, 4 * channels, stride=2, padding=2),
        )
        self.join_parts = StyledConv(4 * channels + 3, 4 * channels, style_dim)
        self.intermediate = nn.ModuleList(
            StyledConv(4 * channels, 4 * channels, style_dim) for _ in range(config.num_intermediate_blocks)
        )
        self.upsample_half = StyledConv(8 * channels, 2 * channels, style_dim)
        self.upsample_full = StyledConv(2 * channels, channels, style_dim)
        self.to_rgb = nn.Conv2d(channels, 3, 7, padding=3)
        self.refine = None
        if config.use_appearance_skip:  # what is left to correct is finer than the features
            self.refine = UNet(6 + config.heatmap_channels, 3, width=channels)
            nn.init.zeros_(self.to_rgb.weight)
            nn.init.zeros_(self.to_rgb.bias)  # type: ignore[arg-type]

    def forward(
        self,
        source_NCHW: Tensor,
        warped_source_NCHW: Tensor,
        flow_NCHW: Tensor,
        placed_parts_NCHW: Tensor,
        is_covered_NCHW: Tensor,
        heatmap_NCHW: Tensor,
    ) -> Tensor:
        """The reenacted image.

        Args:
            source_NCHW: [N, 3, S, S] in [-1, 1].
            warped_source_NCHW: [N, 3, S, S], used by the appearance skip only.
            flow_NCHW: [N, 2, S, S] normalised offsets.
            placed_parts_NCHW: I_p, [N, 3, S, S].
            is_covered_NCHW: [N, 1, S, S] bool, true where I_p shows a part; used by the skip only.
            heatmap_NCHW: [N, 1 or 2, S, S] of the target landmarks, for the style branch.

        Returns:
            [N, 3, S, S] in [-1, 1].
        """
        style_NS = self.style_branch(heatmap_NCHW) if self.style_branch is not None else None
        encoded = self.encode(source_NCHW)
        warped = warp(encoded, flow_NCHW) if self.use_flow else encoded  # r* of the thesis
        parts = resized(placed_parts_NCHW, *warped.shape[-2:])
        x = self.join_parts(torch.cat([warped, parts], dim=1), style_NS)
        for intermediate in self.intermediate:
            x = x + intermediate(x, style_NS)
        x = torch.cat([x, warped], dim=1)
        size_px = source_NCHW.shape[-1]
        x = self.upsample_half(resized(x, size_px // 2, size_px // 2), style_NS)
        drawn = self.to_rgb(self.upsample_full(resized(x, size_px, size_px), style_NS))
        if self.refine is None:
            return torch.tanh(drawn)
        copied = torch.where(is_covered_NCHW, placed_parts_NCHW, warped_source_NCHW)
        return corrected(copied, drawn + self.refine(torch.cat([copied, source_NCHW, heatmap_NCHW], dim=1)))
