"""Distance of two pictures in the features of a pretrained VGG, one pair at a time."""

from __future__ import annotations

import torch

from model import weights
from model.errors import WeightsError
from model.frames import Frame, to_tensor
from model.training.perceptual import PerceptualLoss, vgg16_loss, vgg19_loss

_NUM_LEVELS = 5


class PerceptualDistance:
    """Sum over five levels of the mean absolute feature difference (Eq 3.9 as a metric); 0 for identical frames.

    Not LPIPS: its linear heads are for other weights. With VGG-16 each level is relative to the driving frame's mean
    activation; values of the two networks are on different scales.
    """

    def __init__(self) -> None:
        """Take VGG-19 where its file is at hand, else the VGG-16 convolutions that come with the installation.

        Raises:
            WeightsError: if neither is there.
        """
        self._network: PerceptualLoss
        try:
            self._network, self.name = vgg19_loss(weights.resolve("vgg19"), _NUM_LEVELS), "VGG-19"
        except WeightsError:
            self._network, self.name = vgg16_loss(weights.resolve("hed-vgg16"), _NUM_LEVELS), "VGG-16 HED"

    @torch.inference_mode()
    def __call__(self, driving_HWC: Frame, generated_HWC: Frame) -> float:
        """The distance of two uint8 [H, W, 3] RGB frames of one size; >= 0, lower is better."""
        return float(self._network(to_tensor([generated_HWC]), to_tensor([driving_HWC])))
