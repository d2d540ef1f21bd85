"""Patch discriminator that returns its features (thesis 3.5; PatchGAN of pix2pixHD, Wang et al. 2018)."""

from __future__ import annotations

from torch import Tensor, nn

from model.config import ModelConfig


class PatchDiscriminator(nn.Module):
    """Real or generated, one logit per patch.

    Instance normalisation without affine parameters has no state, so federated averaging cannot mix statistics.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = config.discriminator_channels
        layers = [nn.Sequential(nn.Conv2d(3, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2))]
        for _ in range(config.num_discriminator_layers - 1):
            widened = min(2 * channels, 8 * config.discriminator_channels)
            layers.append(
                nn.Sequential(
                    nn.Conv2d(channels, widened, 4, stride=2, padding=1),
                    nn.InstanceNorm2d(widened),
                    nn.LeakyReLU(0.2),
                )
            )
            channels = widened
        layers.append(nn.Sequential(nn.Conv2d(channels, 1, 4, padding=1)))
        self.layers = nn.ModuleList(layers)

    def forward(self, image_NCHW: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits [N, 1, h, w] and the feature maps of every layer before, shallowest first.

        Args:
            image_NCHW: [N, 3, S, S] in [-1, 1].
        """
        features = []
        x = image_NCHW
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return features[-1].float(), features[:-1]
