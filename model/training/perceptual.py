"""Perceptual loss on frozen VGG features (Eq 3.9).

The five groups of the thesis end at relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1 of VGG-19. Offline, VGG-16
convolutions fine-tuned for edges (HED, BSDS500) serve instead; their scale falls with depth, so each level is
divided by the mean activation of the real frame. The two are not comparable in value.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model import weights
from model.config import LossConfig
from model.networks.warping import shrunk
from model.training.losses import l1_loss

FloatArray = npt.NDArray[np.float32]

_VGG19_LEVEL_ENDS = (2, 7, 12, 21, 30)  # exclusive ends in `features`: relu1_1 ... relu5_1
_IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
_IMAGENET_STD_RGB = (0.229, 0.224, 0.225)
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
_VGG16_CHANNELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512,))  # up to relu5_1
_SMALLEST_PX = 32  # below, the deepest level is one pixel
_VGG16_LEVEL_ENDS = tuple(f"relu{block}_1" for block in range(1, 6))


class PerceptualLoss(nn.Module):
    """Sum over levels of the L1 distance between VGG features of generated and driving frames (Eq 3.9)."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, levels: list[nn.Module], *, mean: Tensor, std: Tensor, flip_channels: bool, relative: bool
    ) -> None:
        """Freeze `levels`, which continue one another.

        Args:
            levels: modules; the first takes [N, 3, S, S].
            mean: [3] subtracted from RGB (BGR if flipped) in [0, 1].
            std: [3] divisor.
            flip_channels: whether the levels take BGR.
            relative: divide each level's distance by the mean activation of the real frame.
        """
        super().__init__()
        self.levels = nn.ModuleList(levels).requires_grad_(False).eval()
        self.flip_channels, self.relative = flip_channels, relative
        self.register_buffer("mean", mean.view(1, 3, 1, 1))
        self.register_buffer("std", std.view(1, 3, 1, 1))

    def forward(self, generated_NCHW: Tensor, driving_NCHW: Tensor) -> Tensor:
        """[N, 3, S, S] in [-1, 1] twice to [] float32 >= 0."""
        with torch.no_grad():
            reals = self.features(driving_NCHW)
        return self.distance(reals, self.features(generated_NCHW))

    def distance(self, reals: Sequence[Tensor], fakes: Sequence[Tensor]) -> Tensor:
        """Of what `features` gave for driving and for generated frames, [] float32 >= 0."""
        distances = []
        for fake, real in zip(fakes, reals, strict=True):
            distance = l1_loss(fake, real)
            distances.append(
                distance / real.abs().mean(dtype=torch.float32).clamp_min(1e-6) if self.relative else distance
            )
        return torch.stack(distances).sum()

    def features(self, image_NCHW: Tensor) -> list[Tensor]:
        """What every level gives for [N, 3, S, S] in [-1, 1], each [N, channels, h, w]."""
        features = [self._normalise(image_NCHW)]
        for level in self.levels:
            features.append(level(features[-1]))
        return features[1:]

    def _normalise(self, image_NCHW: Tensor) -> Tensor:
        image_NCHW = image_NCHW.flip(1) if self.flip_channels else image_NCHW
        return ((image_NCHW + 1) / 2 - self.mean) / self.std


def over_scales(perceptual: PerceptualLoss, generated_NCHW: Tensor, target_NCHW: Tensor) -> Tensor:
    """Sum of the distances of the pictures and of both at a half, a quarter and an eighth of the side, above 32 pixels.

    Args:
        perceptual: the distance.
        generated_NCHW: [N, 3, S, S] in [-1, 1].
        target_NCHW: the same of the driving frame.
    """
    side_px = generated_NCHW.shape[-1]
    distances = [perceptual(generated_NCHW, target_NCHW)]
    for smaller_px in (side_px // 2, side_px // 4, side_px // 8):
        if smaller_px >= _SMALLEST_PX:
            distances.append(perceptual(shrunk(generated_NCHW, smaller_px), shrunk(target_NCHW, smaller_px)))
    return torch.stack(distances).sum()


def load_perceptual(loss: LossConfig) -> PerceptualLoss | None:
    """The perceptual loss that perceptual-backbone names, on the CPU; None if that is none.

    Raises:
        WeightsError: if the pretrained file is not on this machine; nothing is downloaded.
    """
    if loss.perceptual_backbone == "none":
        return None
    if loss.perceptual_backbone == "vgg19":
        return vgg19_loss(weights.resolve("vgg19"), loss.perceptual_levels)
    return vgg16_loss(weights.resolve("hed-vgg16"), loss.perceptual_levels)


def vgg19_loss(path: Path, num_levels: int) -> PerceptualLoss:
    """Eq 3.9 on torchvision's VGG-19 state dict at `path`."""
    from torchvision.models import vgg19  # two seconds, which HED does not need

    network = vgg19(weights=None)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    levels: list[nn.Module] = []
    start = 0
    for end in _VGG19_LEVEL_ENDS[:num_levels]:
        levels.append(_without_inplace(network.features[start:end]))
        start = end
    mean, std = torch.tensor(_IMAGENET_MEAN_RGB), torch.tensor(_IMAGENET_STD_RGB)
    return PerceptualLoss(levels, mean=mean, std=std, flip_channels=False, relative=False)


def vgg16_loss(path: Path, num_levels: int) -> PerceptualLoss:
    """Relative distances on the VGG-16 convolutions in HED's Keras weight file at `path`."""
    return vgg16_up_to(path, _VGG16_LEVEL_ENDS[:num_levels])


def vgg16_up_to(path: Path, ends: Sequence[str]) -> PerceptualLoss:
    """The same with levels that end at other layers, "relu1_1" to "relu5_1" in order."""
    mean, std = torch.tensor(_CAFFE_MEAN_BGR) / 255, torch.full((3,), 1 / 255)
    return PerceptualLoss(_vgg16_levels(path, ends), mean=mean, std=std, flip_channels=True, relative=True)


def _vgg16_levels(path: Path, ends: Sequence[str]) -> list[nn.Module]:
    levels: list[nn.Module] = []
    pending: list[nn.Module] = []
    in_channels = 3
    with h5py.File(path) as file:
        for block, widths in enumerate(_VGG16_CHANNELS, start=1):
            for position, channels in enumerate(widths):
                group = file[f"block{block}/layers/conv2d{f'_{position}' if position else ''}/vars"]
                pending += [_convolution(np.asarray(group["0"]), np.asarray(group["1"]), in_channels, channels)]
                pending += [nn.ReLU()]
                in_channels = channels
                if f"relu{block}_{position + 1}" in ends:
                    levels.append(nn.Sequential(*pending))
                    pending = []
            pending.append(nn.MaxPool2d(2))
    return levels


def _convolution(kernel_HWIO: FloatArray, bias: FloatArray, in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(kernel_HWIO.transpose(3, 2, 0, 1)))
        conv.bias.copy_(torch.from_numpy(bias))  # type: ignore[union-attr]
    return conv


def _without_inplace(layers: nn.Sequential) -> nn.Sequential:
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    return layers
