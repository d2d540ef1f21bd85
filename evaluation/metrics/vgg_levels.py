"""What a pretrained VGG sees in pictures, each looked at once for distances of two and of sets of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from evaluation.faces.analysis import frame_key
from model import weights
from model.frames import Frame, to_tensor
from model.training.perceptual import PerceptualLoss, vgg16_up_to

PERCEPTUAL_LEVELS = tuple(f"relu{block}_1" for block in range(1, 6))
"""Of Eq 3.9."""
KID_LEVELS = ("relu3_3", "relu4_3")
_HELD_BYTES = 256 * 2**20
"""A picture of 64 pixels takes 2.4 MB, one of 256 pixels 38 MB."""


class VggLevels:
    """Features of single pictures; those of the pictures asked for last are held."""

    def __init__(self, network: PerceptualLoss, names: Sequence[str], *, held_bytes: int = _HELD_BYTES) -> None:
        """Start with nothing held.

        Args:
            network: looks.
            names: of its levels, in their order.
            held_bytes: of features at most, but for those of one picture.
        """
        self.network = network
        self._names, self._held_bytes = tuple(names), held_bytes
        self._held: OrderedDict[str, Mapping[str, Tensor]] = OrderedDict()
        self._num_bytes = 0

    def __call__(self, frame_HWC: Frame) -> Mapping[str, Tensor]:
        """Level to [1, channels, h, w] float32 of a uint8 [H, W, 3] RGB frame."""
        key = frame_key(frame_HWC)
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        levels = self._held[key] = self._looked_at(frame_HWC)
        self._num_bytes += _num_bytes(levels)
        while self._num_bytes > self._held_bytes and len(self._held) > 1:
            self._num_bytes -= _num_bytes(self._held.popitem(last=False)[1])
        return levels

    @torch.inference_mode()
    def _looked_at(self, frame_HWC: Frame) -> Mapping[str, Tensor]:
        return dict(zip(self._names, self.network.features(to_tensor([frame_HWC])), strict=True))


def vgg16_levels() -> VggLevels:
    """The levels of both distances, of the VGG-16 convolutions that come with the installation.

    Raises:
        WeightsError: if their file is not there.
    """
    names = tuple(sorted((*PERCEPTUAL_LEVELS, *KID_LEVELS)))
    return VggLevels(vgg16_up_to(weights.resolve("hed-vgg16"), names), names)


def _num_bytes(levels: Mapping[str, Tensor]) -> int:
    return sum(level.nbytes for level in levels.values())
