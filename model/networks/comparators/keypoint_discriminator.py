"""Discriminator that is told where the key points should be (Siarohin et al. 2019, Monkey-Net)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.networks.comparators.keypoints import NUM_KEYPOINTS, Keypoints, gaussians, inverse

_KERNEL_PX = 4
_MOST_LAYERS = 4
_MAX_GROWTH = 4


class KeypointDiscriminator(nn.Module):
    """Real or generated, one logit per patch, by convolutions without padding and average pooling.

    The published four layers, or as many as leave more than one pixel: instance normalisation knows nothing of one.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = [3 + NUM_KEYPOINTS]
        for level in range(_num_layers(config.image_size_px)):
            widths.append(config.discriminator_channels * min(2**level, _MAX_GROWTH))
        self.layers = nn.ModuleList()
        for level, width in enumerate(widths[1:]):
            norm = nn.InstanceNorm2d(width, affine=True) if level else nn.Identity()
            conv = nn.Conv2d(widths[level], width, _KERNEL_PX)
            self.layers.append(nn.Sequential(conv, norm, nn.LeakyReLU(0.2), nn.AvgPool2d(2)))
        self.to_logits = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, image_NCHW: Tensor, points: Keypoints) -> tuple[Tensor, list[Tensor]]:
        """Logits [N, 1, h, w], float32, and the feature maps of every layer before, shallowest first.

        Args:
            image_NCHW: [N, 3, S, S] in [-1, 1].
            points: where they should be in the image, with covariances.
        """
        heat_NKHW = gaussians(points.points_NKC, inverse(points.matrix_NKCC), image_NCHW.shape[-1])
        features = []
        x_NCHW = torch.cat([image_NCHW, heat_NKHW], dim=1)
        for layer in self.layers:
            x_NCHW = layer(x_NCHW)
            features.append(x_NCHW)
        return self.to_logits(x_NCHW).float(), features


def _num_layers(side_px: int) -> int:
    num_layers = 0
    while num_layers < _MOST_LAYERS and (side_px := (side_px - _KERNEL_PX + 1) // 2) > 1:
        num_layers += 1
    return num_layers
