"""MarioNETte: Few-Shot Face Reenactment Preserving Identity of Unseen Targets (Ha et al., AAAI 2020; Table 4.2).

A driver encoder sees the drawing of the target landmarks alone, a target encoder each source with its landmarks. The
blender mixes both by attention over all places of all sources; the decoder enlarges the mixture and joins the sources'
maps, which the target encoder's flow took to a common pose and the decoder's flows take to the wanted one. A
discriminator that knows the identity judges patches. The row of the thesis is without the paper's landmark transformer.
What differs from the paper's system is in docs/comparators.md.

Shapes: N pairs, K sources of each, M = K N, S image side in pixels, L levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

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
from model.networks.comparators.blender import Blender
from model.networks.comparators.projection_discriminator import ProjectionDiscriminator
from model.networks.comparators.residual import ResidualUp, keep_variance, residual_downs, widths_down_to
from model.networks.comparators.target_encoder import TargetEncoder, ZeroFlow
from model.networks.fusion import by_source
from model.networks.warping import resized, warp

_MAX_GROWTH = 8
_SMALLEST_PX = 8
_MOST_LEVELS = 4  # as at 256 pixels
_QUERY_GROWTH = 2
_MOST_JUDGING_DOWNS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class MarioNETteOutput:
    """What one forward pass gives; N pairs, image side S."""

    image_NCHW: Tensor
    """[N, 3, S, S] in [-1, 1]: the source person with the target landmarks."""
    heatmap_NCHW: Tensor
    """[N, 1, S, S] in [0, 1]: the target landmarks as curves, as they were given."""
    flow_NCHW: Tensor
    """[N, 2, S, S] from the result to the nearest source, both flows of the largest maps, in normalised units."""
    warped_source_NCHW: Tensor
    """[N, 3, S, S] in [-1, 1]: the nearest source sampled along it."""

    def stages(self) -> dict[str, Tensor]:
        """Pictures on the way to the image, [N, 3, S, S] in [-1, 1]."""
        return {"Heatmap": self.heatmap_NCHW.expand(-1, 3, -1, -1) * 2 - 1, "Warped source": self.warped_source_NCHW}


class MarioNETte(nn.Module):
    """Both encoders, blender and decoder."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = _widths(config)
        drawn = [widths[-1] >> level for level in reversed(range(len(widths) - 2))]
        self.encode_driver = nn.Sequential(*residual_downs(1, drawn))
        self.encode_target = TargetEncoder(widths)
        self.blend = Blender(widths[-1], query_dim=_QUERY_GROWTH * config.generator_channels)
        self.decode = Decoder(widths)

    def forward(self, inputs: GeneratorInputs) -> MarioNETteOutput:
        """Reenact N persons of whom K frames are given each; the driving frame itself is for other designs."""
        num_results, heatmap_NCHW = len(inputs.source_NCHW), inputs.heatmap_NCHW[:, :1]  # without irises
        sources = self.encode_target(inputs.all_sources()[0], inputs.all_source_heatmaps())
        maps_NCHW = [by_source(map_MCHW, num_results).mean(dim=0) for map_MCHW in sources.maps_MCHW]
        mixed_NCHW = self.blend(self.encode_driver(heatmap_NCHW), by_source(sources.code_MCHW, num_results))
        image_NCHW, to_common_NCHW = self.decode(mixed_NCHW, maps_NCHW)
        from_common_NCHW = warp(sources.flow_MCHW[:num_results], to_common_NCHW)
        flow_NCHW = resized(to_common_NCHW + from_common_NCHW, *image_NCHW.shape[-2:])
        return MarioNETteOutput(
            image_NCHW=image_NCHW,
            heatmap_NCHW=heatmap_NCHW,
            flow_NCHW=flow_NCHW,
            warped_source_NCHW=warp(inputs.source_NCHW, flow_NCHW),
        )


class Decoder(nn.Module):
    """Enlarges the mixture level by level, each time joined by the sources' maps along a flow of its own."""

    def __init__(self, widths: list[int]) -> None:
        """Build it.

        Args:
            widths: of the target encoder.
        """
        super().__init__()
        skips, outs = widths[-2:0:-1], widths[-3::-1]
        ins = [widths[-1], *outs]
        self.to_flow = nn.ModuleList(ZeroFlow(channels) for channels in ins[:-1])
        self.up = nn.ModuleList(ResidualUp(a + skip, b) for a, skip, b in zip(ins, skips, outs, strict=False))
        self.to_rgb = nn.Conv2d(outs[-1], 3, 3, padding=1)
        keep_variance(self.to_rgb)

    def forward(self, x_NCHW: Tensor, maps_NCHW: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The image [N, 3, S, S] in [-1, 1], and the flow [N, 2, S / 2, S / 2] to the largest maps.

        Args:
            x_NCHW: [N, widths[-1], S / 2^L, ...].
            maps_NCHW: of each level, the largest first.
        """
        for to_flow, up, map_NCHW in zip(self.to_flow, self.up, reversed(maps_NCHW), strict=True):
            flow_NCHW = to_flow(x_NCHW)
            x_NCHW = up(torch.cat([x_NCHW, warp(map_NCHW, flow_NCHW)], dim=1))
        return torch.tanh(self.to_rgb(torch.relu(x_NCHW))), flow_NCHW


def _widths(config: ModelConfig) -> list[int]:
    """Channels at full side and after each of L + 1 halvings, the first L without remainder and to 8 pixels or more."""
    side_px, num_levels = config.image_size_px, 0
    while num_levels < _MOST_LEVELS and side_px % 2 == 0 and side_px // 2 >= _SMALLEST_PX:
        side_px, num_levels = side_px // 2, num_levels + 1
    return [config.generator_channels * min(2**level, _MAX_GROWTH) for level in range(num_levels + 2)]


class MarioNETteNetworks(JudgedNetworks):
    """Generator and discriminator."""

    generator: MarioNETte

    def __init__(self, config: ModelConfig, part_sizes: PartSizes) -> None:
        super().__init__(config, part_sizes)
        self.generator = MarioNETte(config)
        widths = widths_down_to(_SMALLEST_PX, config.image_size_px, config.discriminator_channels)
        self.discriminator = ProjectionDiscriminator(widths[:_MOST_JUDGING_DOWNS], config.num_identities, pools=False)


DESIGN = Design(
    name="marionette",
    networks=MarioNETteNetworks,
    objective=ProjectionObjective,
    phases={"discriminator": ("discriminator",), "generator": ("generator",)},
    terms=TERMS,
    observed=OBSERVED,
    settings=SETTINGS | {"num-sources"},
    guidances=("driving", "lst"),
    identity_rows=IDENTITY_ROWS,
)
