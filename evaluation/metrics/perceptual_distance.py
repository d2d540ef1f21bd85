"""Distance of two pictures in the features of a pretrained VGG, one pair at a time."""

from __future__ import annotations

import torch

from evaluation.faces.analysis import frame_key
from evaluation.metrics.vgg_levels import PERCEPTUAL_LEVELS, VggLevels
from model import weights
from model.errors import WeightsError
from model.frames import Frame
from model.training.perceptual import vgg19_loss


def measures_with_vgg19() -> bool:
    """Whether VGG-19's file is at hand, so that it looks and not VGG-16."""
    try:
        weights.resolve("vgg19")
    except WeightsError:
        return False
    return True


class PerceptualDistance:
    """Sum over five levels of the mean absolute feature difference (Eq 3.9 as a metric); 0 for identical frames.

    Not LPIPS: its linear heads are for other weights. With VGG-16 each level is relative to the driving frame's mean
    activation; values of the two networks are on different scales. Two pictures are compared once.
    """

    def __init__(self, vgg16: VggLevels) -> None:
        """Take VGG-19 where its file is at hand, else the given VGG-16."""
        self._known: dict[tuple[str, str], float] = {}
        if measures_with_vgg19():
            network = vgg19_loss(weights.resolve("vgg19"), len(PERCEPTUAL_LEVELS))
            self._levels, self.name = VggLevels(network, PERCEPTUAL_LEVELS), "VGG-19"
        else:
            self._levels, self.name = vgg16, "VGG-16 HED"

    def __call__(self, driving_HWC: Frame, generated_HWC: Frame) -> float:
        """The distance of two uint8 [H, W, 3] RGB frames of one size; >= 0, lower is better."""
        key = (frame_key(driving_HWC), frame_key(generated_HWC))
        if key not in self._known:
            self._known[key] = self._distance(driving_HWC, generated_HWC)
        return self._known[key]

    @torch.inference_mode()
    def _distance(self, driving_HWC: Frame, generated_HWC: Frame) -> float:
        reals, fakes = (self._levels(frame_HWC) for frame_HWC in (driving_HWC, generated_HWC))
        network = self._levels.network
        return float(network.distance(*([levels[name] for name in PERCEPTUAL_LEVELS] for levels in (reals, fakes))))
