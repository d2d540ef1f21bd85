"""The network of first-order-model's published files for 256 pixels (Siarohin et al. 2019), to draw with, not to train.

Not the design `fomm`, which cannot hold these weights: batch normalisation, here as the running statistics have it, and
what docs/comparators.md lists. Names are the files', so every tensor of theirs has its place. Positions are (x, y) with
the centres of the outermost pixels at -1 and 1 and pictures are sampled so, as in PyTorch 1.0, for which the files were
published.

Shapes: N pairs, S = 256 the image side, s = S / 4 that of the maps, K = 10 points, M = K + 1 motions, the first that of
the background, C = 2 coordinates.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.batch import GeneratorInputs
from model.networks.comparators.keypoints import (
    IN_CHANNELS,
    NUM_KEYPOINTS,
    NUM_MOTIONS,
    KeypointDrawing,
    Keypoints,
    inverse,
    moved,
)
from model.networks.warping import resized

_SHRINK, _BLUR_PX = 4, 13
_NUM_HALVINGS, _MOST_GROWTH_OF_POINTS, _MOST_GROWTH_OF_MOTION = 5, 32, 16
_NUM_RESIDUAL_BLOCKS = 6
_TEMPERATURE = 0.1
_VARIANCE = 0.01


class PublishedFOMM(nn.Module):
    """Key points, motion and generator."""

    def __init__(self, width: int) -> None:
        """Build it.

        Args:
            width: channels after the generator's first convolution, 64 in the published files; even.
        """
        super().__init__()
        self.kp_detector = _KeypointDetector(width // 2)
        self.generator = _Generator(width)

    def forward(self, inputs: GeneratorInputs) -> KeypointDrawing:
        """Reenact N sources as `FOMM` does; landmarks and heatmap are for other designs."""
        source_NCHW = (inputs.source_NCHW + 1) / 2
        source, driving = self._points(source_NCHW), self._points((inputs.driving_NCHW + 1) / 2)
        if inputs.reference_NCHW is not None:
            driving = moved(source, driving, self._points((inputs.reference_NCHW + 1) / 2))
        image_NCHW, place_NHWC = self.generator(source_NCHW, source, driving)
        side_px = source_NCHW.shape[-1]
        place_NHWC = resized(place_NHWC.permute(0, 3, 1, 2), side_px, side_px).permute(0, 2, 3, 1)
        offset_NHWC = (place_NHWC - _corner_grid(side_px, like=place_NHWC)) * ((side_px - 1) / side_px)
        return KeypointDrawing(
            image_NCHW=image_NCHW * 2 - 1,
            flow_NCHW=offset_NHWC.permute(0, 3, 1, 2),
            warped_source_NCHW=_sampled(source_NCHW, place_NHWC) * 2 - 1,
            driving=driving,
        )

    def _points(self, image_NCHW: Tensor) -> Keypoints:
        points: Keypoints = self.kp_detector(image_NCHW)
        return points


class _KeypointDetector(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = _Shrink()
        self.predictor = _Hourglass(3, width, max_growth=_MOST_GROWTH_OF_POINTS)
        self.kp = nn.Conv2d(width + 3, NUM_KEYPOINTS, 7)
        self.jacobian = nn.Conv2d(width + 3, 4 * NUM_KEYPOINTS, 7)

    def forward(self, image_NCHW: Tensor) -> Keypoints:
        """[N, 3, S, S] in [0, 1]; the map, which is smaller by 6 than the frame's, counts as all of the frame."""
        features_NCHW = self.predictor(self.down(image_NCHW))
        logits_NKHW = self.kp(features_NCHW)
        heat_NKHW = (logits_NKHW / _TEMPERATURE).flatten(2).softmax(dim=2).view_as(logits_NKHW)
        points_NKC = torch.einsum("nkhw,hwc->nkc", heat_NKHW, _corner_grid(heat_NKHW.shape[-1], like=heat_NKHW))
        maps_NKJHW = self.jacobian(features_NCHW).view(-1, NUM_KEYPOINTS, 4, *heat_NKHW.shape[2:])
        jacobians_NKJ = torch.einsum("nkhw,nkjhw->nkj", heat_NKHW, maps_NKJHW)
        return Keypoints(points_NKC, jacobians_NKJ.view(-1, NUM_KEYPOINTS, 2, 2))


class _Generator(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense_motion_network = _DenseMotion(width)
        self.first = _Block(3, width, kernel_px=7)
        self.down_blocks = nn.ModuleList(_Block(a, b) for a, b in pairwise([width, 2 * width, 4 * width]))
        blocks = ((f"r{index}", _ResidualBlock(4 * width)) for index in range(_NUM_RESIDUAL_BLOCKS))
        self.bottleneck = nn.Sequential(OrderedDict(blocks))
        self.up_blocks = nn.ModuleList(_Block(a, b) for a, b in pairwise([4 * width, 2 * width, width]))
        self.final = nn.Conv2d(width, 3, 7, padding=3)

    def forward(self, source_NCHW: Tensor, source: Keypoints, driving: Keypoints) -> tuple[Tensor, Tensor]:
        """The image [N, 3, S, S] in [0, 1], and where in the source each place of it is from, [N, s, s, 2]."""
        place_NHWC, occlusion_NCHW = self.dense_motion_network(source_NCHW, source, driving)
        x_NCHW = self.first(source_NCHW)
        for down in self.down_blocks:
            x_NCHW = functional.avg_pool2d(down(x_NCHW), 2)
        x_NCHW = self.bottleneck(_sampled(x_NCHW, place_NHWC) * occlusion_NCHW)
        for up in self.up_blocks:
            x_NCHW = up(functional.interpolate(x_NCHW, scale_factor=2))
        return torch.sigmoid(self.final(x_NCHW)), place_NHWC


class _DenseMotion(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = _Shrink()
        self.hourglass = _Hourglass(IN_CHANNELS, width, max_growth=_MOST_GROWTH_OF_MOTION)
        self.mask = nn.Conv2d(width + IN_CHANNELS, NUM_MOTIONS, 7, padding=3)
        self.occlusion = nn.Conv2d(width + IN_CHANNELS, 1, 7, padding=3)

    def forward(self, source_NCHW: Tensor, source: Keypoints, driving: Keypoints) -> tuple[Tensor, Tensor]:
        """Places in the source, [N, s, s, 2], and occlusion [N, 1, s, s] in [0, 1]."""
        small_NCHW = self.down(source_NCHW)
        grid_HWC = _corner_grid(small_NCHW.shape[-1], like=small_NCHW)
        away_NKHWC = grid_HWC - driving.points_NKC[:, :, None, None]
        way_NKCC = source.matrix_NKCC @ inverse(driving.matrix_NKCC)
        moved_NKHWC = torch.einsum("nkcd,nkhwd->nkhwc", way_NKCC, away_NKHWC) + source.points_NKC[:, :, None, None]
        places_NMHWC = torch.cat([grid_HWC.expand_as(moved_NKHWC[:, :1]), moved_NKHWC], dim=1)
        heat_NKHW = _gaussians(away_NKHWC) - _gaussians(grid_HWC - source.points_NKC[:, :, None, None])
        features_NCHW = self.hourglass(_seen_by_each(small_NCHW, heat_NKHW, places_NMHWC))
        place_NHWC = torch.einsum("nmhw,nmhwc->nhwc", self.mask(features_NCHW).softmax(dim=1), places_NMHWC)
        return place_NHWC, torch.sigmoid(self.occlusion(features_NCHW))


class _Hourglass(nn.Module):
    def __init__(self, in_channels: int, width: int, *, max_growth: int) -> None:
        super().__init__()
        widths = [width * min(2**level, max_growth) for level in range(_NUM_HALVINGS + 1)]
        self.encoder = _blocks("down_blocks", [in_channels, *widths[1:]], widths[1:])
        joined = [widths[-1], *(2 * channels for channels in widths[-2:0:-1])]
        self.decoder = _blocks("up_blocks", joined, widths[-2::-1])

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """[N, in_channels, h, w] to [N, width + in_channels, h, w]."""
        skips = []
        for down in self.encoder["down_blocks"].children():
            skips.append(x_NCHW)
            x_NCHW = functional.avg_pool2d(down(x_NCHW), 2)
        for up in self.decoder["up_blocks"].children():
            x_NCHW = torch.cat([up(functional.interpolate(x_NCHW, scale_factor=2)), skips.pop()], dim=1)
        return x_NCHW


class _Block(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, *, kernel_px: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_px, padding=kernel_px // 2)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x_NCHW)))


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        hidden_NCHW = self.conv1(torch.relu(self.norm1(x_NCHW)))
        return x_NCHW + self.conv2(torch.relu(self.norm2(hidden_NCHW)))  # type: ignore[no-any-return]


class _Shrink(nn.Module):
    """A blur, which the file has, of which every fourth pixel is kept from the first on."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(3, 1, _BLUR_PX, _BLUR_PX))

    def forward(self, image_NCHW: Tensor) -> Tensor:
        weight: Tensor = self.weight  # type: ignore[assignment]
        return functional.conv2d(image_NCHW, weight, stride=_SHRINK, padding=_BLUR_PX // 2, groups=3)


def _blocks(name: str, ins: Sequence[int], outs: Sequence[int]) -> nn.ModuleDict:
    return nn.ModuleDict({name: nn.ModuleList(_Block(a, b) for a, b in zip(ins, outs, strict=False))})


def _corner_grid(side_px: int, *, like: Tensor) -> Tensor:
    """[s, s, 2] (x, y) of each pixel centre, the outermost at -1 and 1."""
    axis = torch.linspace(-1, 1, side_px, device=like.device, dtype=like.dtype)
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)


def _sampled(maps_NCHW: Tensor, place_NHWC: Tensor) -> Tensor:
    """Maps at places; 0 beyond the frame."""
    return functional.grid_sample(maps_NCHW, place_NHWC, align_corners=True)


def _gaussians(away_NKHWC: Tensor) -> Tensor:
    """[N, K, s, s] of the ways from the points."""
    return torch.exp(-0.5 * away_NKHWC.square().sum(dim=-1) / _VARIANCE)


def _seen_by_each(small_NCHW: Tensor, heat_NKHW: Tensor, places_NMHWC: Tensor) -> Tensor:
    """[N, 4 M, s, s]: of each motion the difference of its heatmaps, and the source sampled at its places."""
    heat_NMHW = torch.cat([torch.zeros_like(heat_NKHW[:, :1]), heat_NKHW], dim=1)
    carried_BCHW = _sampled(small_NCHW.repeat_interleave(NUM_MOTIONS, dim=0), places_NMHWC.flatten(0, 1))
    carried_NMCHW = carried_BCHW.view(-1, NUM_MOTIONS, *carried_BCHW.shape[1:])
    return torch.cat([heat_NMHW.unsqueeze(2), carried_NMCHW], dim=2).flatten(1, 2)
