"""GLR: face reenactment with generative landmark guidance (thesis 3, Fig 3.1), put together from its modules.

Shapes: N pairs, S image side in pixels, I identities; M sources, K for each pair: first the N nearest, then the N next.
With K = 1, as in the thesis, M is N.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model.batch import GeneratorInputs, ReenactmentBatch
from model.config import LossConfig, ModelConfig
from model.designs.design import ALL_SETTINGS, Design, Term, Terms
from model.landmarks.closed_form import FORMS
from model.landmarks.geometry import PARTS, PartSizes
from model.networks.bundle import NamedArrays, Networks
from model.networks.discriminator import PatchDiscriminator
from model.networks.feature_extractor import build_extractor
from model.networks.flow import FlowHead, LandmarkHead
from model.networks.fusion import fused, repeated
from model.networks.image_generator import ImageGenerator
from model.networks.landmark_gan import (
    LandmarkDiscriminator,
    LandmarkGenerator,
    action_units,
    centre_landmarks,
)
from model.networks.landmark_motion import SourceMotion
from model.networks.parts import PartReenactment, close_ups, crop_part
from model.networks.warping import warp
from model.training import losses
from model.training.perceptual import PerceptualLoss


@dataclass(frozen=True, kw_only=True, slots=True)
class GLROutput:
    """What one forward pass gives; N pairs, image side S."""

    image_NCHW: Tensor
    """[N, 3, S, S] in [-1, 1]: the source person in the driving pose."""
    heatmap_NCHW: Tensor
    """[N, 1 or 2, S, S] in [0, 1]: the target landmarks as curves, and the irises, as they were given."""
    warped_source_NCHW: Tensor
    """[N, 3, S, S]: the source sampled along the flow; of several sources, at each pixel those to be trusted most."""
    parts_canvas_NCHW: Tensor
    """[N, 3, S, S]: I_p, the reenacted parts in place, 0 elsewhere."""
    part_crops: dict[str, Tensor]
    """Part name to [N, 3, h, w] in [-1, 1]."""
    motion: SourceMotion
    """Of all M sources."""
    source_landmarks_MKC: Tensor
    """[M, 68, 2] pixels, regressed from the sources."""
    driving_landmarks_NKC: Tensor
    """[N, 68, 2] pixels, regressed from the driving frame."""

    @property
    def flow_NCHW(self) -> Tensor:
        """[N, 2, S, S] of the nearest sources."""
        return self.motion.flow_MCHW[: self.image_NCHW.shape[0]]

    def stages(self) -> dict[str, Tensor]:
        """Pictures on the way to the image, [N, 3, S, S] in [-1, 1]."""
        return {
            "Heatmap": self.heatmap_NCHW.amax(dim=1, keepdim=True).expand(-1, 3, -1, -1) * 2 - 1,
            "Warped source": self.warped_source_NCHW,
            "Parts": self.parts_canvas_NCHW,
        }


class GLR(nn.Module):
    """The generator of the method."""

    def __init__(self, config: ModelConfig, part_sizes: PartSizes) -> None:
        super().__init__()
        self.use_flow, self.use_appearance_skip = config.use_flow, config.use_appearance_skip
        self.driver, self.source_sampling = config.driver, config.source_sampling
        self.extractor = build_extractor(config)
        self.landmark_head = LandmarkHead(config)
        self.flow_head = FlowHead(config)
        self.parts = PartReenactment(config, part_sizes)
        self.image_generator = ImageGenerator(config)

    def forward(self, inputs: GeneratorInputs) -> GLROutput:
        """Reenact N sources, or N persons of whom K frames are given each."""
        source_NCHW, heatmap_NCHW = inputs.source_NCHW, inputs.heatmap_NCHW
        target_landmarks_NKC = inputs.target_landmarks_NKC
        sources_MCHW, _ = inputs.all_sources()
        driver_NCHW = inputs.driving_NCHW
        if self.driver == "landmarks":
            driver_NCHW = torch.cat([heatmap_NCHW[:, :1], heatmap_NCHW[:, -1:], heatmap_NCHW[:, :1]], dim=1) * 2 - 1
        if inputs.source_features is None:
            tokens = self.extractor(torch.cat([sources_MCHW, driver_NCHW]))
            source_tokens, driving_tokens = tokens.split([sources_MCHW.shape[0], source_NCHW.shape[0]])
        else:
            source_tokens, driving_tokens = inputs.source_features, self.extractor(driver_NCHW)
        motion = self._motion(inputs, source_tokens[:, :2], driving_tokens[:, :2])
        warped_source = warp(sources_MCHW, motion.flow_MCHW, self.source_sampling).clamp(-1, 1)
        if motion.confidence_MCHW is not None:
            warped_source = fused(warped_source, motion.confidence_MCHW, source_NCHW.shape[0])
        parts_source = (source_NCHW, inputs.source_landmarks_NKC)
        if self.use_appearance_skip and self.use_flow:  # redraw the parts where the flow has already carried them
            parts_source = (warped_source, target_landmarks_NKC)
        canvas, is_covered, crops = self.parts(*parts_source, heatmap_NCHW, target_landmarks_NKC)
        # A slice of all would be a step of its own in the gradient, which then is summed in another order.
        flow_NCHW = motion.flow_MCHW if inputs.further is None else motion.flow_MCHW[: source_NCHW.shape[0]]
        return GLROutput(
            image_NCHW=self.image_generator(source_NCHW, warped_source, flow_NCHW, canvas, is_covered, heatmap_NCHW),
            heatmap_NCHW=heatmap_NCHW,
            warped_source_NCHW=warped_source,
            parts_canvas_NCHW=canvas,
            part_crops=crops,
            motion=motion,
            source_landmarks_MKC=self.landmark_head(source_tokens[:, 2]),
            driving_landmarks_NKC=self.landmark_head(driving_tokens[:, 2]),
        )

    def _motion(self, inputs: GeneratorInputs, source_tokens_M2D: Tensor, driving_tokens_N2D: Tensor) -> SourceMotion:
        """Flow and confidence of all M sources; the same weights for each."""
        sources_MCHW, landmarks_MKC = inputs.all_sources()
        if not self.use_flow:
            return SourceMotion(sources_MCHW.new_zeros(sources_MCHW.shape[0], 2, *sources_MCHW.shape[-2:]), None)
        num_each = sources_MCHW.shape[0] // inputs.source_NCHW.shape[0]
        motion: SourceMotion = self.flow_head(
            source_tokens_M2D,
            repeated(driving_tokens_N2D, num_each),
            source_MCHW=sources_MCHW,
            heatmap_NCHW=inputs.heatmap_NCHW,
            source_landmarks_MKC=landmarks_MKC,
            target_landmarks_NKC=inputs.target_landmarks_NKC,
        )
        return motion


class GLRNetworks(Networks):
    """Generator, its discriminator, and the landmark GAN's pair."""

    generator: GLR
    discriminator: PatchDiscriminator

    def __init__(self, config: ModelConfig, part_sizes: PartSizes) -> None:
        super().__init__(config, part_sizes)
        self.generator = GLR(config, part_sizes)
        self.discriminator = PatchDiscriminator(config)
        self.landmark_generator = LandmarkGenerator(config)
        self.landmark_discriminator = LandmarkDiscriminator(config)

    def source_features(self, images_MCHW: Tensor) -> Tensor:
        """[M, 3, D] tokens of the extractor."""
        tokens_M3D: Tensor = self.generator.extractor(images_MCHW)
        return tokens_M3D

    def start_from(self, landmark_mean_IKC: npt.NDArray[np.float32], base: NamedArrays | None = None) -> None:
        """Take the agreed mean landmarks as the shapes of the landmark GAN, or its base."""
        self.landmark_generator.start_from(torch.from_numpy(landmark_mean_IKC))
        if self.landmark_generator.base is not None and base is not None:
            self.landmark_generator.base.take(base)


@dataclass(frozen=True, slots=True)
class GLRDrawing:
    """One forward pass of both generators."""

    output: GLROutput
    landmarks_NKC: Tensor
    """[N, 68, 2] pixels, drawn by the landmark GAN, centred on the frame."""


class GLRObjective:
    """Eq 3.5, the landmark head's regression (3.1), the landmark GAN (3.3.2), and the terms beyond the thesis."""

    def __init__(self, networks: GLRNetworks, loss: LossConfig, perceptual: PerceptualLoss | None, seed: int) -> None:
        self._networks, self._loss, self._perceptual = networks, loss, perceptual
        self._adversarial = losses.ADVERSARIAL[loss.adversarial_loss]

    def draw(self, batch: ReenactmentBatch) -> GLRDrawing:
        """Images and landmarks of the batch."""
        output = self._networks.generator(batch.generator_inputs())
        landmarks = self._networks.landmark_generator(*self._condition(batch))
        return GLRDrawing(output, landmarks)

    def discriminator_terms(self, batch: ReenactmentBatch, drawn: GLRDrawing, step: int) -> Terms:
        """Loss of each discriminator that is of use, and the share of places that it ranks right."""
        if step < _judged_from(self._loss):
            return {}
        terms: Terms = {}
        if _judges_images(self._loss):
            real_logits, _ = self._networks.discriminator(batch.driving_NCHW)
            fake_logits, _ = self._networks.discriminator(drawn.output.image_NCHW.detach())
            terms["discriminator_image"] = self._adversarial.discriminator(real_logits, fake_logits)
            terms["ranking_image"] = losses.ranking_share(real_logits, fake_logits)
        if _judges_landmarks(self._loss):
            real_logits, fake_logits = self._landmark_logits(batch, drawn.landmarks_NKC.detach())
            terms["discriminator_landmarks"] = self._adversarial.discriminator(real_logits, fake_logits)
            terms["ranking_landmarks"] = losses.ranking_share(real_logits, fake_logits)
        return terms

    def generator_terms(self, batch: ReenactmentBatch, drawn: GLRDrawing, step: int) -> Terms:
        """Geometry, and after the warm-up images; the adversarial terms from their step on."""
        terms = self._geometry_terms(batch, drawn)
        if step < _images_from(self._loss):
            return terms
        output, driving_NCHW = drawn.output, batch.driving_NCHW
        terms["l1_image"] = losses.l1_loss(output.image_NCHW, driving_NCHW)
        terms["l1_parts"] = torch.stack(
            [
                losses.l1_loss(
                    output.part_crops[part],
                    crop_part(driving_NCHW, batch.driving_landmarks_NKC, part, self._networks.part_sizes),
                )
                for part in PARTS
            ]
        ).mean()
        if self._perceptual is not None and step % _perceptual_every(self._loss) == 0:
            terms |= self._feature_terms(self._perceptual, output.image_NCHW, batch)
        return terms | (self._adversarial_terms(batch, drawn) if step >= _joined_from(self._loss) else {})

    def _condition(self, batch: ReenactmentBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Identity, pose and action units, as the landmark GAN takes them."""
        au_NA = action_units(self._networks.config, batch.au_NA, batch.au_intensity_NA)
        return batch.identity_N, batch.pose_NC, au_NA

    def _landmark_logits(self, batch: ReenactmentBatch, drawn_NKC: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 1] of the landmark discriminator, for the driving landmarks and for drawn ones."""
        judge, condition = self._networks.landmark_discriminator, self._condition(batch)
        centred_NKC = centre_landmarks(batch.driving_landmarks_NKC, self._networks.config.image_size_px)
        return judge(centred_NKC, *condition), judge(drawn_NKC, *condition)

    def _geometry_terms(self, batch: ReenactmentBatch, drawn: GLRDrawing) -> Terms:
        """The terms on landmarks and flow; alone during the warm-up."""
        size_px = self._networks.config.image_size_px
        output = drawn.output
        centred = centre_landmarks(batch.driving_landmarks_NKC, size_px)
        _, sources_MKC = batch.generator_inputs().all_sources()
        regressed = torch.cat([output.source_landmarks_MKC, output.driving_landmarks_NKC])
        true = torch.cat([sources_MKC, batch.driving_landmarks_NKC])
        terms = {
            "landmark_regression": losses.l1_loss(regressed, true) / size_px,
            "lgan_l1": losses.l1_loss(drawn.landmarks_NKC, centred) / size_px,
        }
        if self._networks.config.use_flow:
            num_each = len(sources_MKC) // len(batch)
            terms["flow_landmarks"] = losses.flow_landmark_loss(
                output.motion.flow_MCHW, sources_MKC, repeated(batch.driving_landmarks_NKC, num_each)
            )
            terms["flow_smoothness"] = losses.flow_smoothness_loss(output.motion.flow_MCHW)
        return terms

    def _feature_terms(self, perceptual: PerceptualLoss, image_NCHW: Tensor, batch: ReenactmentBatch) -> Terms:
        """The terms on the frozen features, which are computed once of whole frames, and once of close-ups."""
        driving_NCHW, loss, terms = batch.driving_NCHW, self._loss, {}
        if loss.weight_perceptual or loss.weight_gram:
            with torch.no_grad():
                reals = perceptual.features(driving_NCHW)
            fakes = perceptual.features(image_NCHW)
            terms["perceptual"] = perceptual.distance(reals, fakes)
            if loss.weight_gram:
                terms["gram"] = losses.gram_loss(reals, fakes)
        if loss.weight_perceptual_parts:
            drawn, real = (close_ups(frame, batch.driving_landmarks_NKC) for frame in (image_NCHW, driving_NCHW))
            terms["perceptual_parts"] = perceptual(drawn, real)
        return terms

    def _adversarial_terms(self, batch: ReenactmentBatch, drawn: GLRDrawing) -> Terms:
        terms: Terms = {}
        if _judges_images(self._loss):
            image_NCHW, limit = drawn.output.image_NCHW, self._loss.adversarial_limit
            image_NCHW = losses.limited(image_NCHW, limit) if limit else image_NCHW
            fake_logits, fake_features = self._networks.discriminator(image_NCHW)
            with torch.no_grad():
                real_logits, real_features = self._networks.discriminator(batch.driving_NCHW)
            terms["adversarial"] = self._adversarial.generator(real_logits, fake_logits)
            terms["feature_matching"] = losses.feature_matching_loss(real_features, fake_features)
        if _judges_landmarks(self._loss):
            real_logits, fake_logits = self._landmark_logits(batch, drawn.landmarks_NKC)
            terms["lgan_adversarial"] = self._adversarial.generator(real_logits, fake_logits)
        return terms


def _images_from(loss: LossConfig) -> int:
    """First step that looks at images, and not at geometry alone."""
    return loss.flow_warmup_steps


def _judged_from(loss: LossConfig) -> int:
    """First step of the discriminators."""
    return max(loss.flow_warmup_steps, loss.adversarial_from_step)


def _joined_from(loss: LossConfig) -> int:
    """First step of the generators' terms on the discriminators."""
    return _judged_from(loss) + loss.adversarial_lead_steps


def _ramp(loss: LossConfig) -> int:
    return loss.adversarial_ramp_steps


def _judges_images(loss: LossConfig) -> bool:
    """Whether the image discriminator is of use."""
    return bool(loss.weight_adversarial or loss.weight_feature_matching)


def _judges_landmarks(loss: LossConfig) -> bool:
    """Whether the landmark discriminator is of use."""
    return bool(loss.weight_lgan_adversarial)


def _perceptual_every(loss: LossConfig) -> int:
    return loss.perceptual_every


_BASE = tuple(f"landmark_generator.base.{form.name}_{part}" for form in FORMS for part in ("own", "shared"))

DESIGN = Design(
    name="glr",
    networks=GLRNetworks,
    objective=GLRObjective,
    phases={
        "discriminator": ("discriminator", "landmark_discriminator"),
        "generator": ("generator", "landmark_generator"),
    },
    terms=(
        Term(name="l1_image", weight=lambda loss: loss.weight_l1_image, since=_images_from),
        Term(name="l1_parts", weight=lambda loss: loss.weight_l1_parts, since=_images_from),
        Term(name="discriminator_image", weight=_judges_images, phase="discriminator", since=_judged_from),
        Term(name="discriminator_landmarks", weight=_judges_landmarks, phase="discriminator", since=_judged_from),
        Term(name="adversarial", weight=lambda loss: loss.weight_adversarial, since=_joined_from, ramp=_ramp),
        Term(name="feature_matching", weight=lambda loss: loss.weight_feature_matching, since=_joined_from, ramp=_ramp),
        Term(
            name="perceptual",
            weight=lambda loss: loss.weight_perceptual * loss.has_perceptual,
            since=_images_from,
            every=_perceptual_every,
        ),
        Term(
            name="perceptual_parts",
            weight=lambda loss: loss.weight_perceptual_parts * loss.has_perceptual,
            since=_images_from,
            every=_perceptual_every,
        ),
        Term(
            name="gram",
            weight=lambda loss: loss.weight_gram * loss.has_perceptual,
            since=_images_from,
            every=_perceptual_every,
        ),
        Term(name="landmark_regression", weight=lambda loss: loss.weight_landmark_regression),
        Term(name="flow_landmarks", weight=lambda loss: loss.weight_flow_landmarks),
        Term(name="flow_smoothness", weight=lambda loss: loss.weight_flow_smoothness),
        Term(name="lgan_l1", weight=lambda loss: loss.weight_lgan_l1),
        Term(name="lgan_adversarial", weight=lambda loss: loss.weight_lgan_adversarial, since=_joined_from, ramp=_ramp),
    ),
    observed=("ranking_image", "ranking_landmarks"),
    settings=ALL_SETTINGS,
    guidances=("driving", "lst", "lgan", "base"),
    identity_rows=(
        "landmark_generator.condition.identity.weight",
        "landmark_generator.shape.weight",
        "landmark_discriminator.condition.identity.weight",
    ),
    moves_sources=lambda config: config.use_landmark_flow,
    starts_from_statistics=("landmark_generator.shape.weight", *_BASE),
    untrained=_BASE,
    watched=(
        "generator.extractor.embed.weight",
        "generator.extractor.position",
        "generator.extractor.trunk.conv1.weight",
    ),
)
"""Two extractors' first layers are watched: of the vision transformer, with its positions, and of the ResNet."""
