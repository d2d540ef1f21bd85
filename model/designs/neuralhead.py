"""NeuralHead-FF: Few-Shot Adversarial Learning of Realistic Neural Talking Head Models, feed-forward (Table 4.2).

Zakharov et al., ICCV 2019. An embedder turns the source, with its landmarks drawn, into a vector; the generator draws a
face from the drawing of the target landmarks alone, styled by that vector through adaptive instance normalisation. A
discriminator that knows the identity judges. Feed-forward is the model without the paper's fine-tuning on a person.
What differs from the authors' system is in docs/comparators.md.

Shapes: N pairs, S image side in pixels, E numbers of the embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.batch import GeneratorInputs
from model.config import ModelConfig
from model.designs.design import Design
from model.designs.projection_objective import (
    IDENTITY_ROWS,
    OBSERVED,
    SETTINGS,
    TERMS,
    JudgedNetworks,
    ProjectionObjective,
)
from model.landmarks.geometry import PartSizes
from model.networks.comparators.projection_discriminator import ProjectionDiscriminator
from model.networks.comparators.residual import AdaptedBlock, adapted, residual_downs, widths_down_to

_EMBEDDED_PX, _DRAWN_PX = 4, 8
_MOST_DOWNS = 4  # of the generator, as at 256 pixels
_NUM_MIDDLE_BLOCKS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class NeuralHeadOutput:
    """What one forward pass gives; N pairs, image side S."""

    image_NCHW: Tensor
    """[N, 3, S, S] in [-1, 1]: the source person with the target landmarks."""
    heatmap_NCHW: Tensor
    """[N, 1, S, S] in [0, 1]: the target landmarks as curves, as they were given."""
    flow_NCHW: None = None
    """Nothing of the source is carried anywhere."""

    def stages(self) -> dict[str, Tensor]:
        """Pictures on the way to the image, [N, 3, S, S] in [-1, 1]."""
        return {"Heatmap": self.heatmap_NCHW.expand(-1, 3, -1, -1) * 2 - 1}


class NeuralHead(nn.Module):
    """Embedder and generator."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = widths_down_to(_EMBEDDED_PX, config.image_size_px, config.generator_channels)
        self.embed = nn.Sequential(*residual_downs(4, widths))
        self.draw = StyledDrawing(config, embedding_dim=widths[-1])

    def forward(self, inputs: GeneratorInputs) -> NeuralHeadOutput:
        """Reenact N sources; the driving frame itself is for other designs."""
        seen_NCHW = torch.cat([inputs.source_NCHW, inputs.source_heatmap_NCHW], dim=1)
        embedding_NE = torch.relu(self.embed(seen_NCHW)).mean(dim=(2, 3))
        heatmap_NCHW = inputs.heatmap_NCHW[:, :1]  # without irises
        return NeuralHeadOutput(image_NCHW=self.draw(heatmap_NCHW, embedding_NE), heatmap_NCHW=heatmap_NCHW)


class StyledDrawing(nn.Module):
    """A drawing of landmarks to a picture, each of its normalisations adapted by one linear map of the embedding."""

    def __init__(self, config: ModelConfig, *, embedding_dim: int) -> None:
        super().__init__()
        widths = widths_down_to(_DRAWN_PX, config.image_size_px, config.generator_channels)[:_MOST_DOWNS]
        self.encode = nn.Sequential(*residual_downs(1, widths, norm=_instance_norm))
        outs = widths[::-1]
        self.blocks = nn.ModuleList(
            AdaptedBlock(widths[-1], widths[-1], doubles=False) for _ in range(_NUM_MIDDLE_BLOCKS)
        )
        self.blocks.extend(AdaptedBlock(a, b, doubles=True) for a, b in zip([outs[0], *outs], outs, strict=False))
        self.style_dims = [sum(block.style_dims) for block in self.blocks] + [2 * widths[0]]  # type: ignore[arg-type]
        self.to_styles = nn.Linear(embedding_dim, sum(self.style_dims))
        self.to_rgb = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, heatmap_NCHW: Tensor, embedding_NE: Tensor) -> Tensor:
        """[N, 1, S, S] in [0, 1] and [N, E] to [N, 3, S, S] in [-1, 1]."""
        *styles, last_NS = self.to_styles(embedding_NE).split(self.style_dims, dim=1)
        x_NCHW = self.encode(heatmap_NCHW)
        for block, style_NS in zip(self.blocks, styles, strict=True):
            x_NCHW = block(x_NCHW, style_NS)
        if x_NCHW.shape[-2:] != heatmap_NCHW.shape[-2:]:  # of a side that is odd once halved
            x_NCHW = functional.interpolate(x_NCHW, heatmap_NCHW.shape[-2:], mode="bilinear")
        return torch.tanh(self.to_rgb(torch.relu(adapted(x_NCHW, last_NS))))


def _instance_norm(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)


class NeuralHeadNetworks(JudgedNetworks):
    """Generator with its embedder, and discriminator."""

    generator: NeuralHead

    def __init__(self, config: ModelConfig, part_sizes: PartSizes) -> None:
        super().__init__(config, part_sizes)
        self.generator = NeuralHead(config)
        widths = widths_down_to(_EMBEDDED_PX, config.image_size_px, config.discriminator_channels)
        self.discriminator = ProjectionDiscriminator(widths, config.num_identities, pools=True)


DESIGN = Design(
    name="neuralhead",
    networks=NeuralHeadNetworks,
    objective=ProjectionObjective,
    phases={"discriminator": ("discriminator",), "generator": ("generator",)},
    terms=TERMS,
    observed=OBSERVED,
    settings=SETTINGS,
    guidances=("driving", "lst"),
    identity_rows=IDENTITY_ROWS,
)
