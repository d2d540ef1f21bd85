"""Mesh Guided GCN: Mesh Guided One-shot Face Reenactment Using Graph Convolutional Networks (Table 4.2).

Yao et al., ACM Multimedia 2020. The source's face mesh is given the driver's expression and pose; graph convolutions
over both meshes tell a flow; the source, warped by it, tells what is hidden and how much of the flow to follow; the
image is drawn from the warped and masked features of the source. There is no code, and layer sizes and loss weights are
not published: those here are this project's. In place of the authors' 3D morphable model, a mesh by MediaPipe stands.
What else differs is in docs/comparators.md.

Shapes: N pairs, S image side in pixels, V = 468 vertices, C = 3 coordinates, B = 52 scores of expression.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.batch import NUM_BLENDSHAPES, NUM_VERTICES, FaceMeshes, GeneratorInputs, ReenactmentBatch
from model.config import LossConfig, ModelConfig
from model.designs.design import Design, Term, Terms
from model.landmarks.canonical_face import vertices_cm
from model.landmarks.geometry import PartSizes
from model.networks.bundle import Networks
from model.networks.comparators.face_pose import FacePose
from model.networks.comparators.mesh_motion import MeshMotion
from model.networks.comparators.occlusion import OccludedImage
from model.networks.discriminator import PatchDiscriminator
from model.networks.unet import UNet
from model.networks.warping import resized, warp
from model.precision import in_full_precision
from model.training import losses
from model.training.perceptual import PerceptualLoss

_BASIS_GAIN = 10.0  # a centimetre is then .1 of a weight, which Adam's steps, as long as its rate, reach in hundreds


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetMeshes:
    """Where the source's vertices shall be, and the same as far as it can be known from the driver."""

    target_NVC: Tensor
    """[N, V, 3] in half sides of the frame, without a gradient."""
    expressed_NVC: Tensor
    """[N, V, 3] pose-free, cm: the source's face with the driver's expression."""
    driving_NVC: Tensor
    """[N, V, 3] pose-free, cm: the driver's face."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeshDrawing:
    """What one forward pass gives; image side S."""

    image_NCHW: Tensor
    """[N, 3, S, S] in [-1, 1]: the source person in the driving pose."""
    flow_NCHW: Tensor
    """[N, 2, S, S] from the result to the source, in normalised units, as far as it is followed."""
    warped_source_NCHW: Tensor
    """[N, 3, S, S]: the source sampled along the whole flow, by which it is told how far to follow it."""
    meshes: TargetMeshes

    def stages(self) -> dict[str, Tensor]:
        """Pictures on the way to the image, [N, 3, S, S] in [-1, 1]."""
        return {"Warped source": self.warped_source_NCHW}


class MeshGCN(nn.Module):
    """The generator."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.basis = ExpressionBasis()
        self.motion = MeshMotion(config)
        self.occlusion = UNet(3, 2, width=config.generator_channels)
        self.image = OccludedImage(config)

    def forward(self, inputs: GeneratorInputs) -> MeshDrawing:
        """Reenact N sources by the meshes; landmarks, heatmap and the driving frame itself are for other designs."""
        assert inputs.meshes is not None, "whoever makes inputs asks the design what it needs"
        meshes, source_NCHW = self.basis(inputs.meshes), inputs.source_NCHW
        flow_NCHW = resized(self.motion(inputs.meshes.source_NVC, meshes.target_NVC), *source_NCHW.shape[-2:])
        warped_NCHW = warp(source_NCHW, flow_NCHW)
        masks_NCHW = torch.sigmoid(self.occlusion(warped_NCHW))
        followed_NCHW = masks_NCHW[:, :1] * flow_NCHW
        return MeshDrawing(
            image_NCHW=self.image(source_NCHW, followed_NCHW, masks_NCHW[:, 1:]),
            flow_NCHW=followed_NCHW,
            warped_source_NCHW=warped_NCHW,
            meshes=meshes,
        )


class ExpressionBasis(nn.Module):
    """Gives a source's mesh the driver's expression and pose: k_d R_d (C_s + B (b_d - b_s)) + t_d.

    C_s is the source's mesh without pose, which a similarity from the canonical face takes away; b are scores of
    expression; B, linear and zero at first, is all that is learnt. MediaPipe has scores, but no vertices to them.
    """

    canonical_VC: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(NUM_BLENDSHAPES, NUM_VERTICES * 3, bias=False)
        nn.init.zeros_(self.linear.weight)
        self.register_buffer("canonical_VC", torch.from_numpy(vertices_cm()), persistent=False)

    @in_full_precision
    def forward(self, meshes: FaceMeshes) -> TargetMeshes:
        """Meshes of N pairs of one or of two people to where the source's vertices shall be."""
        source, driving = (FacePose.of(one, self.canonical_VC) for one in (meshes.source_NVC, meshes.driving_NVC))
        moved_NVC = _BASIS_GAIN * self.linear(meshes.driving_NB - meshes.source_NB).view_as(meshes.source_NVC)
        expressed_NVC = source.removed(meshes.source_NVC) + moved_NVC
        return TargetMeshes(
            target_NVC=driving.applied(expressed_NVC.detach()),
            expressed_NVC=expressed_NVC,
            driving_NVC=driving.removed(meshes.driving_NVC),
        )


class MeshGCNNetworks(Networks):
    """Generator and discriminator."""

    generator: MeshGCN
    discriminator: PatchDiscriminator

    def __init__(self, config: ModelConfig, part_sizes: PartSizes) -> None:
        super().__init__(config, part_sizes)
        self.generator = MeshGCN(config)
        self.discriminator = PatchDiscriminator(config)


class MeshGCNObjective:
    """L1, perceptual distance and GAN on the image, L1 on the warped source and on the mesh in the driver's expression.

    Of the image alone the flow learns nothing as long as the drawing is coarse; the term on the warped source is ours.
    """

    def __init__(
        self, networks: MeshGCNNetworks, loss: LossConfig, perceptual: PerceptualLoss | None, seed: int
    ) -> None:
        self._networks, self._perceptual = networks, perceptual

    def draw(self, batch: ReenactmentBatch) -> MeshDrawing:
        """Images and meshes of the batch."""
        output: MeshDrawing = self._networks.generator(batch.generator_inputs())
        return output

    def discriminator_terms(self, batch: ReenactmentBatch, drawn: MeshDrawing, step: int) -> Terms:
        """The discriminator's loss and ranking share."""
        real_logits, _ = self._networks.discriminator(batch.driving_NCHW)
        fake_logits, _ = self._networks.discriminator(drawn.image_NCHW.detach())
        return {
            "discriminator_image": losses.discriminator_loss(real_logits, fake_logits),
            "ranking_image": losses.ranking_share(real_logits, fake_logits),
        }

    def generator_terms(self, batch: ReenactmentBatch, drawn: MeshDrawing, step: int) -> Terms:
        """All terms; without a perceptual network none on features."""
        fake_logits, _ = self._networks.discriminator(drawn.image_NCHW)
        terms = {
            "l1_image": losses.l1_loss(drawn.image_NCHW, batch.driving_NCHW),
            "l1_warped": losses.l1_loss(drawn.warped_source_NCHW, batch.driving_NCHW),
            "adversarial": losses.generator_adversarial_loss(fake_logits),
            "expression": losses.l1_loss(drawn.meshes.expressed_NVC, drawn.meshes.driving_NVC),
        }
        if self._perceptual is None:
            return terms
        return {"perceptual": self._perceptual(drawn.image_NCHW, batch.driving_NCHW)} | terms


DESIGN = Design(
    name="meshgcn",
    networks=MeshGCNNetworks,
    objective=MeshGCNObjective,
    phases={"discriminator": ("discriminator",), "generator": ("generator",)},
    terms=(
        Term(name="discriminator_image", weight=lambda loss: 1.0, phase="discriminator"),
        Term(name="perceptual", weight=lambda loss: 10.0 if loss.has_perceptual else 0.0),
        Term(name="l1_image", weight=lambda loss: 20.0),
        Term(name="l1_warped", weight=lambda loss: 20.0),
        Term(name="adversarial", weight=lambda loss: 1.0),
        Term(name="expression", weight=lambda loss: 1.0),
    ),
    observed=("ranking_image",),
    settings=frozenset(
        {
            "network",
            "image-size-px",
            "generator-channels",
            "discriminator-channels",
            "num-discriminator-layers",
            "perceptual-backbone",
            "perceptual-levels",
        }
    ),
    needs_mesh=True,
)
