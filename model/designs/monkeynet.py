"""Monkey-Net: Animating Arbitrary Objects via Deep Motion Transfer (Siarohin et al., CVPR 2019), in Table 4.2.

Key points that nobody labelled are found in source and driving frame by one network. They tell ten shifts; a second
network mixes these to a flow and corrects it; every skip connection of a U-Net, the source itself among them, is warped
by the flow and sees where points appear and vanish. Trained against a discriminator that is shown the driving points.
What differs from the authors' system is in docs/comparators.md.

Shapes: N pairs, S image side in pixels, s that of the maps of points and motions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.batch import GeneratorInputs, ReenactmentBatch
from model.config import LossConfig, ModelConfig
from model.designs.design import Design, Term, Terms
from model.landmarks.geometry import PartSizes
from model.networks.bundle import Networks
from model.networks.comparators.dense_motion import ShiftedMotion
from model.networks.comparators.hourglass import num_halvings_of
from model.networks.comparators.keypoint_discriminator import KeypointDiscriminator
from model.networks.comparators.keypoints import NUM_KEYPOINTS, CovarianceKeypoints, KeypointDrawing, Keypoints
from model.networks.comparators.residual import ResidualBlock
from model.networks.unet import block
from model.networks.warping import resized, warp
from model.training import losses
from model.training.perceptual import PerceptualLoss

_MAX_GROWTH = 32
_NUM_RESIDUAL_BLOCKS = 4
_LAST_LAYER_SHARE = 0.1  # of the weight that the layers before have in feature matching


class MonkeyNet(nn.Module):
    """The generator."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.keypoints = CovarianceKeypoints(config)
        self.motion = ShiftedMotion(config)
        self.image = WarpedUNet(config)

    def forward(self, inputs: GeneratorInputs) -> KeypointDrawing:
        """Reenact N sources; landmarks and heatmap are for other designs."""
        frames_NCHW = torch.cat([inputs.source_NCHW, inputs.driving_NCHW])
        source, driving = self.keypoints(frames_NCHW).split(len(inputs.source_NCHW))
        if inputs.reference_NCHW is not None:
            shift_NKC = source.points_NKC - self.keypoints(inputs.reference_NCHW).points_NKC
            driving = Keypoints(driving.points_NKC + shift_NKC, driving.matrix_NKCC)
        flow_NCHW, heat_NKHW = self.motion(inputs.source_NCHW, source, driving)
        return KeypointDrawing(
            image_NCHW=self.image(inputs.source_NCHW, flow_NCHW, heat_NKHW),
            flow_NCHW=resized(flow_NCHW, *inputs.source_NCHW.shape[-2:]),
            warped_source_NCHW=warp(inputs.source_NCHW, flow_NCHW),
            driving=driving,
        )


class WarpedUNet(nn.Module):
    """A U-Net whose skip connections are warped and joined by the differences of heatmaps."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        num_halvings, width = num_halvings_of(config.image_size_px), max(1, config.generator_channels // 2)
        widths = [3, *(width * min(2**level, _MAX_GROWTH) for level in range(1, num_halvings + 1))]
        self.encode, self.decode = nn.ModuleList(), nn.ModuleList()
        channels = 0
        for level in range(num_halvings):
            self.encode.append(nn.Sequential(block(widths[level], widths[level + 1]), nn.AvgPool2d(2)))
        for level in reversed(range(num_halvings)):
            drawn = width * min(2**level, _MAX_GROWTH)
            self.decode.append(block(channels + widths[level + 1] + NUM_KEYPOINTS, drawn))
            channels = drawn
        channels += widths[0] + NUM_KEYPOINTS
        self.refine = nn.Sequential(*(ResidualBlock(channels) for _ in range(_NUM_RESIDUAL_BLOCKS)))
        self.to_rgb = nn.Conv2d(channels, 3, 1)

    def forward(self, source_NCHW: Tensor, flow_NCHW: Tensor, heat_NKHW: Tensor) -> Tensor:
        """The image, [N, 3, S, S] in [-1, 1].

        Args:
            source_NCHW: [N, 3, S, S] in [-1, 1].
            flow_NCHW: [N, 2, s, s] offsets.
            heat_NKHW: [N, K, s, s] differences of heatmaps.
        """
        skips = [source_NCHW]
        for encode in self.encode:
            skips.append(encode(skips[-1]))
        joined = [torch.cat([warp(x, flow_NCHW), resized(heat_NKHW, *x.shape[-2:])], dim=1) for x in skips]
        x_NCHW = joined.pop()
        for decode in self.decode:
            skip_NCHW = joined.pop()
            grown_NCHW = functional.interpolate(x_NCHW, skip_NCHW.shape[-2:], mode="nearest")
            x_NCHW = torch.cat([decode(grown_NCHW), skip_NCHW], dim=1)
        return torch.tanh(self.to_rgb(self.refine(x_NCHW)))


class MonkeyNetNetworks(Networks):
    """Generator and discriminator."""

    generator: MonkeyNet
    discriminator: KeypointDiscriminator

    def __init__(self, config: ModelConfig, part_sizes: PartSizes) -> None:
        super().__init__(config, part_sizes)
        self.generator = MonkeyNet(config)
        self.discriminator = KeypointDiscriminator(config)


class MonkeyNetObjective:
    """Least squares GAN, L1 on pixels and on the discriminator's features."""

    def __init__(
        self, networks: MonkeyNetNetworks, loss: LossConfig, perceptual: PerceptualLoss | None, seed: int
    ) -> None:
        self._networks = networks

    def draw(self, batch: ReenactmentBatch) -> KeypointDrawing:
        """Images and driving points of the batch."""
        output: KeypointDrawing = self._networks.generator(batch.generator_inputs())
        return output

    def discriminator_terms(self, batch: ReenactmentBatch, drawn: KeypointDrawing, step: int) -> Terms:
        """The discriminator's loss and ranking share on pictures with the driving points."""
        judge, points = self._networks.discriminator, drawn.driving.detach()
        real_logits, _ = judge(batch.driving_NCHW, points)
        fake_logits, _ = judge(drawn.image_NCHW.detach(), points)
        return {
            "discriminator_image": losses.least_squares_discriminator_loss(real_logits, fake_logits),
            "ranking_image": losses.ranking_share(real_logits, fake_logits),
        }

    def generator_terms(self, batch: ReenactmentBatch, drawn: KeypointDrawing, step: int) -> Terms:
        """All terms; the points that the discriminator sees are detached, else they could move to please it."""
        judge, points = self._networks.discriminator, drawn.driving.detach()
        fake_logits, fake_features = judge(drawn.image_NCHW, points)
        with torch.no_grad():
            _, real_features = judge(batch.driving_NCHW, points)
        last = losses.feature_matching_loss(real_features[-1:], fake_features[-1:])
        before = losses.feature_matching_loss(real_features[:-1], fake_features[:-1])
        return {
            "l1_image": losses.l1_loss(drawn.image_NCHW, batch.driving_NCHW),
            "feature_matching": before + _LAST_LAYER_SHARE * last,
            "adversarial": losses.least_squares_generator_loss(fake_logits),
        }


DESIGN = Design(
    name="monkeynet",
    networks=MonkeyNetNetworks,
    objective=MonkeyNetObjective,
    phases={"discriminator": ("discriminator",), "generator": ("generator",)},
    terms=(
        Term(name="discriminator_image", weight=lambda loss: 1.0, phase="discriminator"),
        Term(name="l1_image", weight=lambda loss: 5.0),  # 10 on the authors' [0, 1], half as wide as our range
        Term(name="feature_matching", weight=lambda loss: 10.0),
        Term(name="adversarial", weight=lambda loss: 1.0),
    ),
    observed=("ranking_image",),
    settings=frozenset({"network", "image-size-px", "generator-channels", "discriminator-channels"}),
    takes_reference=True,
)
