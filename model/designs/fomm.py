"""FOMM: the First Order Motion Model for Image Animation (Siarohin et al., NeurIPS 2019), FirstOrder in Table 4.2.

Key points that nobody labelled, each with a Jacobian, are found in source and driving frame by one network. They tell
ten affine motions; a second network mixes these to a flow and says what is occluded; the features of the source are
warped, masked and drawn from. As the authors train for faces at 256 pixels (vox-256): perceptual distances and the
equivariance of points and Jacobians, no discriminator. What differs from their system is in docs/comparators.md.

Shapes: N pairs, S image side in pixels.
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
from model.networks.comparators.dense_motion import DenseMotion
from model.networks.comparators.keypoints import JacobianKeypoints, KeypointDrawing, moved
from model.networks.comparators.residual import ResidualBlock
from model.networks.unet import block
from model.networks.warping import resized, warp
from model.training import losses
from model.training.equivariance import RandomWarp, jacobian_equivariance, point_equivariance
from model.training.perceptual import PerceptualLoss, over_scales

_NUM_RESIDUAL_BLOCKS = 6
_WEIGHT = 10.0  # of each term, as in vox-256


class FOMM(nn.Module):
    """The generator."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.keypoints = JacobianKeypoints(config)
        self.motion = DenseMotion(config)
        self.image = OccludedImage(config)

    def forward(self, inputs: GeneratorInputs) -> KeypointDrawing:
        """Reenact N sources; landmarks and heatmap are for other designs."""
        frames_NCHW = torch.cat([inputs.source_NCHW, inputs.driving_NCHW])
        source, driving = self.keypoints(frames_NCHW).split(len(inputs.source_NCHW))
        if inputs.reference_NCHW is not None:
            driving = moved(source, driving, self.keypoints(inputs.reference_NCHW))
        flow_NCHW, occlusion_NCHW = self.motion(inputs.source_NCHW, source, driving)
        return KeypointDrawing(
            image_NCHW=self.image(inputs.source_NCHW, flow_NCHW, occlusion_NCHW),
            flow_NCHW=resized(flow_NCHW, *inputs.source_NCHW.shape[-2:]),
            warped_source_NCHW=warp(inputs.source_NCHW, flow_NCHW),
            driving=driving,
        )


class OccludedImage(nn.Module):
    """Encodes the source, warps and masks its features, and draws the image from them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = config.generator_channels
        self.encode = nn.Sequential(
            block(3, channels, kernel_px=7, padding=3),
            *(nn.Sequential(block(width, 2 * width), nn.AvgPool2d(2)) for width in (channels, 2 * channels)),
        )
        self.redraw = nn.Sequential(*(ResidualBlock(4 * channels) for _ in range(_NUM_RESIDUAL_BLOCKS)))
        self.to_half, self.to_full = block(4 * channels, 2 * channels), block(2 * channels, channels)
        self.to_rgb = nn.Conv2d(channels, 3, 7, padding=3)

    def forward(self, source_NCHW: Tensor, flow_NCHW: Tensor, occlusion_NCHW: Tensor) -> Tensor:
        """The image, [N, 3, S, S] in [-1, 1].

        Args:
            source_NCHW: [N, 3, S, S] in [-1, 1].
            flow_NCHW: [N, 2, s, s] offsets.
            occlusion_NCHW: [N, 1, s, s] in [0, 1].
        """
        side_px = source_NCHW.shape[-1]
        warped_NCHW = warp(self.encode(source_NCHW), flow_NCHW)
        x_NCHW = self.redraw(warped_NCHW * resized(occlusion_NCHW, *warped_NCHW.shape[-2:]))
        x_NCHW = self.to_half(functional.interpolate(x_NCHW, side_px // 2, mode="nearest"))
        x_NCHW = self.to_full(functional.interpolate(x_NCHW, side_px, mode="nearest"))
        return torch.tanh(self.to_rgb(x_NCHW))


class FOMMNetworks(Networks):
    """The generator alone."""

    generator: FOMM

    def __init__(self, config: ModelConfig, part_sizes: PartSizes) -> None:
        super().__init__(config, part_sizes)
        self.generator = FOMM(config)


class FOMMObjective:
    """Perceptual distance over scales, and the equivariance of points and Jacobians."""

    def __init__(self, networks: FOMMNetworks, loss: LossConfig, perceptual: PerceptualLoss | None, seed: int) -> None:
        self._networks, self._perceptual, self._seed = networks, perceptual, seed

    def draw(self, batch: ReenactmentBatch) -> KeypointDrawing:
        """Images and driving points of the batch."""
        output: KeypointDrawing = self._networks.generator(batch.generator_inputs())
        return output

    def discriminator_terms(self, batch: ReenactmentBatch, drawn: KeypointDrawing, step: int) -> Terms:
        """None: there is no discriminator."""
        return {}

    def generator_terms(self, batch: ReenactmentBatch, drawn: KeypointDrawing, step: int) -> Terms:
        """All terms; without a perceptual network L1 on the image in its place."""
        by = RandomWarp.drawn(len(batch), self._seed, step, like=batch.driving_NCHW)
        warped = self._networks.generator.keypoints(by.image(batch.driving_NCHW))
        terms = {
            "equivariance_points": point_equivariance(drawn.driving.points_NKC, warped.points_NKC, by),
            "equivariance_jacobians": jacobian_equivariance(drawn.driving, warped, by),
        }
        if self._perceptual is None:
            return {"l1_image": losses.l1_loss(drawn.image_NCHW, batch.driving_NCHW)} | terms
        return {"perceptual": over_scales(self._perceptual, drawn.image_NCHW, batch.driving_NCHW)} | terms


DESIGN = Design(
    name="fomm",
    networks=FOMMNetworks,
    objective=FOMMObjective,
    phases={"discriminator": (), "generator": ("generator",)},
    terms=(
        Term(name="perceptual", weight=lambda loss: _WEIGHT if loss.has_perceptual else 0.0),
        Term(name="l1_image", weight=lambda loss: 0.0 if loss.has_perceptual else loss.weight_l1_image),
        Term(name="equivariance_points", weight=lambda loss: _WEIGHT),
        Term(name="equivariance_jacobians", weight=lambda loss: _WEIGHT),
    ),
    settings=frozenset(
        {
            "network",
            "image-size-px",
            "generator-channels",
            "perceptual-backbone",
            "perceptual-levels",
            "weight-l1-image",
        }
    ),
    takes_reference=True,
)
