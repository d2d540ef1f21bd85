"""What NeuralHead-FF and MarioNETte are trained for: their papers' terms, but for those on a face recognition network.

Shapes: N pairs, S image side in pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.batch import ReenactmentBatch
from model.config import LossConfig
from model.designs.design import Term, Terms
from model.networks.bundle import Networks
from model.networks.comparators.projection_discriminator import ProjectionDiscriminator
from model.training import losses
from model.training.perceptual import PerceptualLoss

TERMS = (
    Term(name="discriminator_image", weight=lambda loss: 1.0, phase="discriminator"),
    Term(name="perceptual", weight=lambda loss: 10.0 if loss.has_perceptual else 0.0),
    Term(name="l1_image", weight=lambda loss: 0.0 if loss.has_perceptual else loss.weight_l1_image),
    Term(name="feature_matching", weight=lambda loss: 10.0),
    Term(name="adversarial", weight=lambda loss: 1.0),
)
OBSERVED = ("ranking_image",)
IDENTITY_ROWS = ("discriminator.identity.weight",)
SETTINGS = frozenset(
    {
        "network",
        "image-size-px",
        "generator-channels",
        "discriminator-channels",
        "num-identities",
        "perceptual-backbone",
        "perceptual-levels",
        "weight-l1-image",
    }
)
"""Of a design that takes one source."""


class JudgedNetworks(Networks):
    """A generator, and a discriminator that knows the identity."""

    generator: nn.Module
    discriminator: ProjectionDiscriminator


class ProjectionObjective:
    """Hinge GAN, feature matching, perceptual distance."""

    def __init__(
        self, networks: JudgedNetworks, loss: LossConfig, perceptual: PerceptualLoss | None, seed: int
    ) -> None:
        self._networks, self._perceptual = networks, perceptual

    def draw(self, batch: ReenactmentBatch) -> Tensor:
        """The images, [N, 3, S, S]."""
        image_NCHW: Tensor = self._networks.generator(batch.generator_inputs()).image_NCHW
        return image_NCHW

    def discriminator_terms(self, batch: ReenactmentBatch, drawn: Tensor, step: int) -> Terms:
        """The discriminator's loss and ranking share."""
        real_logits, _ = self._judged(batch, batch.driving_NCHW)
        fake_logits, _ = self._judged(batch, drawn.detach())
        return {
            "discriminator_image": losses.hinge_discriminator_loss(real_logits, fake_logits),
            "ranking_image": losses.ranking_share(real_logits, fake_logits),
        }

    def generator_terms(self, batch: ReenactmentBatch, drawn: Tensor, step: int) -> Terms:
        """All terms; without a perceptual network L1 on the image in its place."""
        fake_logits, fake_features = self._judged(batch, drawn)
        with torch.no_grad():
            _, real_features = self._judged(batch, batch.driving_NCHW)
        terms = {
            "adversarial": losses.hinge_generator_loss(fake_logits),
            "feature_matching": losses.feature_matching_loss(real_features, fake_features) / len(real_features),
        }
        if self._perceptual is None:
            return {"l1_image": losses.l1_loss(drawn, batch.driving_NCHW)} | terms
        return {"perceptual": self._perceptual(drawn, batch.driving_NCHW)} | terms

    def _judged(self, batch: ReenactmentBatch, image_NCHW: Tensor) -> tuple[Tensor, list[Tensor]]:
        judged: tuple[Tensor, list[Tensor]] = self._networks.discriminator(
            image_NCHW, batch.heatmap_NCHW[:, :1], batch.identity_N
        )
        return judged
