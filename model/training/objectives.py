"""What a network is trained for: which terms each phase of a step has. Weights and optimisers are the trainer's.

Shapes: N pairs. Every term is a [] float32 mean over the pairs, unweighted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from model.batch import ReenactmentBatch
from model.config import LossConfig
from model.landmarks.geometry import PARTS
from model.networks.bundle import Networks
from model.networks.glr import GLROutput
from model.networks.landmark_gan import centre_landmarks
from model.networks.parts import crop_part
from model.training import losses
from model.training.perceptual import PerceptualLoss

Terms = dict[str, Tensor]


class Objective(Protocol):
    """Draws a batch once per step and measures the drawing in both phases."""

    def draw(self, batch: ReenactmentBatch) -> Any:
        """What both phases look at."""

    def discriminator_terms(self, batch: ReenactmentBatch, drawn: Any, step: int) -> Terms:
        """Terms of the discriminators' phase, the drawing detached; empty where there is no such phase."""

    def generator_terms(self, batch: ReenactmentBatch, drawn: Any, step: int) -> Terms:
        """Terms of the generators' phase."""


def objective_of(networks: Networks, loss: LossConfig, perceptual: PerceptualLoss | None) -> Objective:
    """The objective of the network that the networks' configuration names."""
    if networks.config.network == "x2face":
        return X2FaceObjective(networks)
    return GLRObjective(networks, loss, perceptual)


def term_steps(network: str, loss: LossConfig, first_step: int, num_steps: int) -> dict[str, int]:
    """How many steps of a row of steps compute each term that has a weight: its gradient is made of their batches.

    Args:
        network: glr or x2face.
        loss: weights and schedules.
        first_step: counted from the first round.
        num_steps: of the row.
    """
    if network == "x2face":
        return {"l1_image": num_steps}
    end, warm = first_step + num_steps, loss.flow_warmup_steps

    def since(start: int) -> int:
        return max(0, end - max(first_step, start))

    every, images_from = loss.perceptual_every, min(end, max(first_step, warm))
    num_perceptual = -(-end // every) - -(-images_from // every)  # multiples of `every` in [images_from, end)
    geometry = ("landmark_regression", "lgan_l1", "flow_landmarks", "flow_smoothness")
    adversarial = (
        "discriminator_image", "discriminator_landmarks", "adversarial", "feature_matching", "lgan_adversarial",
    )  # fmt: skip
    steps = {
        **dict.fromkeys(geometry, num_steps),
        **dict.fromkeys(("l1_image", "l1_parts"), since(warm)),
        **dict.fromkeys(adversarial, since(max(warm, loss.adversarial_from_step))),
        "perceptual": num_perceptual if loss.perceptual_backbone != "none" else 0,
    }
    weights = losses.term_weights(loss)
    return {name: count for name, count in steps.items() if weights[name]}


class X2FaceObjective:
    """The photometric L1 alone (X2Face, first stage)."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    def draw(self, batch: ReenactmentBatch) -> Tensor:
        """The images, [N, 3, S, S]."""
        image_NCHW: Tensor = self._networks.generator(*batch.generator_inputs()).image_NCHW
        return image_NCHW

    def discriminator_terms(self, batch: ReenactmentBatch, drawn: Tensor, step: int) -> Terms:
        """None: there is no discriminator."""
        return {}

    def generator_terms(self, batch: ReenactmentBatch, drawn: Tensor, step: int) -> Terms:
        """L1 on the whole image."""
        return {"l1_image": losses.l1_loss(drawn, batch.driving_NCHW)}


@dataclass(frozen=True, slots=True)
class GLRDrawing:
    """One forward pass of both generators."""

    output: GLROutput
    landmarks_NKC: Tensor
    """[N, 68, 2] pixels, drawn by the landmark GAN, centred on the frame."""


class GLRObjective:
    """Eq 3.5, the landmark head's regression (3.1), the landmark GAN (3.3.2), and the terms beyond the thesis."""

    def __init__(self, networks: Networks, loss: LossConfig, perceptual: PerceptualLoss | None) -> None:
        self._networks, self._loss, self._perceptual = networks, loss, perceptual

    def draw(self, batch: ReenactmentBatch) -> GLRDrawing:
        """Images and landmarks of the batch."""
        output = self._networks.generator(*batch.generator_inputs())
        landmarks = self._networks.landmark_generator(batch.identity_N, batch.pose_NC, batch.au_NA)
        return GLRDrawing(output, landmarks)

    def discriminator_terms(self, batch: ReenactmentBatch, drawn: GLRDrawing, step: int) -> Terms:
        """Both discriminators' losses, and the share of patches that the image's one calls by their name."""
        if not self._is_adversarial(step):
            return {}
        real_logits, _ = self._networks.discriminator(batch.driving_NCHW)
        fake_logits, _ = self._networks.discriminator(drawn.output.image_NCHW.detach())
        condition = (batch.identity_N, batch.pose_NC, batch.au_NA)
        centred = centre_landmarks(batch.driving_landmarks_NKC, self._networks.config.image_size_px)
        judge = self._networks.landmark_discriminator
        return {
            "discriminator_image": losses.discriminator_loss(real_logits, fake_logits),
            "discriminator_landmarks": losses.discriminator_loss(
                judge(centred, *condition), judge(drawn.landmarks_NKC.detach(), *condition)
            ),
            "accuracy_real": (real_logits > 0).float().mean(),
            "accuracy_fake": (fake_logits < 0).float().mean(),
        }

    def generator_terms(self, batch: ReenactmentBatch, drawn: GLRDrawing, step: int) -> Terms:
        """Geometry, and after the warm-up images; the adversarial terms from their step on."""
        terms = self._geometry_terms(batch, drawn)
        if self._is_warming_up(step):
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
        if self._perceptual is not None and step % self._loss.perceptual_every == 0:
            terms["perceptual"] = self._perceptual(output.image_NCHW, driving_NCHW)
        return terms | (self._adversarial_terms(batch, drawn) if self._is_adversarial(step) else {})

    def _is_warming_up(self, step: int) -> bool:
        return step < self._loss.flow_warmup_steps

    def _is_adversarial(self, step: int) -> bool:
        return not self._is_warming_up(step) and step >= self._loss.adversarial_from_step

    def _geometry_terms(self, batch: ReenactmentBatch, drawn: GLRDrawing) -> Terms:
        """The terms on landmarks and flow; alone during the warm-up."""
        size_px = self._networks.config.image_size_px
        output = drawn.output
        centred = centre_landmarks(batch.driving_landmarks_NKC, size_px)
        regressed = torch.cat([output.source_landmarks_NKC, output.driving_landmarks_NKC])
        true = torch.cat([batch.source_landmarks_NKC, batch.driving_landmarks_NKC])
        terms = {
            "landmark_regression": losses.l1_loss(regressed, true) / size_px,
            "lgan_l1": losses.l1_loss(drawn.landmarks_NKC, centred) / size_px,
        }
        if self._networks.config.use_flow:
            terms["flow_landmarks"] = losses.flow_landmark_loss(
                output.flow_NCHW, batch.source_landmarks_NKC, batch.driving_landmarks_NKC
            )
            terms["flow_smoothness"] = losses.flow_smoothness_loss(output.flow_NCHW)
        return terms

    def _adversarial_terms(self, batch: ReenactmentBatch, drawn: GLRDrawing) -> Terms:
        networks = self._networks
        fake_logits, fake_features = networks.discriminator(drawn.output.image_NCHW)
        with torch.no_grad():
            _, real_features = networks.discriminator(batch.driving_NCHW)
        judged = networks.landmark_discriminator(drawn.landmarks_NKC, batch.identity_N, batch.pose_NC, batch.au_NA)
        return {
            "adversarial": losses.generator_adversarial_loss(fake_logits),
            "feature_matching": losses.feature_matching_loss(real_features, fake_features),
            "lgan_adversarial": losses.generator_adversarial_loss(judged),
        }
