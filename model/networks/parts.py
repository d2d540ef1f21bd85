"""Individual landmark reenactment (thesis 3.2, Fig 3.3): eyes, nose and mouth, each by a network of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.config import ModelConfig
from model.landmarks.geometry import OUTER_EYE_CORNERS, PARTS, PartSizes
from model.networks.unet import block
from model.networks.warping import to_normalised

_CLOSE_UPS = (range(36, 48), PARTS["mouth"])
_CLOSE_UP_EYE_DISTANCES = 1.3
_LEAST_ENLARGED, _MOST_ENLARGED = 2, 4


class PartNetwork(nn.Module):
    """One part: RGB crop and heatmap crop are encoded, added, and decoded to a new crop (Fig 3.3b).

    With the appearance skip it draws a correction of the RGB crop, zero at first, and sees both crops again at their
    full size: what is left to correct is finer than the pooled features.
    """

    def __init__(self, channels: int, heatmap_channels: int, *, use_appearance_skip: bool) -> None:
        super().__init__()
        self.use_appearance_skip = use_appearance_skip
        self.encode_rgb = _encoder(3, channels)
        self.encode_heatmap = _encoder(heatmap_channels, channels)
        self.decode = nn.Sequential(
            nn.ConvTranspose2d(2 * channels, channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.to_rgb = nn.Conv2d(channels, 3, 3, padding=1)
        if use_appearance_skip:
            self.refine = block(channels + 3 + heatmap_channels, channels)
            nn.init.zeros_(self.to_rgb.weight)
            nn.init.zeros_(self.to_rgb.bias)  # type: ignore[arg-type]

    def forward(self, rgb_NCHW: Tensor, heatmap_NCHW: Tensor) -> Tensor:
        """[N, 3, h, w] in [-1, 1] and [N, 1 or 2, h, w] in [0, 1] to [N, 3, h, w] in [-1, 1]."""
        decoded = self.decode(self.encode_rgb(rgb_NCHW) + self.encode_heatmap(heatmap_NCHW))
        if not self.use_appearance_skip:
            return torch.tanh(self.to_rgb(decoded))
        refined = self.refine(torch.cat([decoded, rgb_NCHW, heatmap_NCHW], dim=1))
        return corrected(rgb_NCHW, self.to_rgb(refined))


def corrected(image_NCHW: Tensor, correction_NCHW: Tensor) -> Tensor:
    """`image_NCHW` plus 2 tanh(`correction_NCHW`), cut to [-1, 1]; the gradient passes through the cut.

    A correction can replace any value by any other and never saturates where it is zero, unlike a predicted mask.
    """
    unbounded = image_NCHW + 2 * torch.tanh(correction_NCHW)
    return unbounded + (unbounded.clamp(-1, 1) - unbounded).detach()


def _encoder(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(block(in_channels, channels), nn.MaxPool2d(2), block(channels, 2 * channels), nn.MaxPool2d(2))


class PartReenactment(nn.Module):
    """The four part networks and the blank image I_p on which their results are placed."""

    def __init__(self, config: ModelConfig, sizes: PartSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.networks = nn.ModuleDict(
            {
                part: PartNetwork(
                    config.part_channels, config.heatmap_channels, use_appearance_skip=config.use_appearance_skip
                )
                for part in PARTS
            }
        )

    def forward(
        self,
        source_NCHW: Tensor,
        source_landmarks_NKC: Tensor,
        heatmap_NCHW: Tensor,
        target_landmarks_NKC: Tensor,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """I_p, where it is covered, and the parts that were placed on it.

        Args:
            source_NCHW: [N, 3, S, S] in [-1, 1].
            source_landmarks_NKC: [N, 68, 2] pixels; centres of the source crops.
            heatmap_NCHW: [N, 1 or 2, S, S] of the target landmarks.
            target_landmarks_NKC: [N, 68, 2] pixels; centres at which the parts are placed.

        Returns:
            I_p [N, 3, S, S], 0 (mid grey) where no part lies; [N, 1, S, S] bool, true where one lies; and part
            name to [N, 3, h, w].
        """
        placed = torch.zeros_like(source_NCHW)
        is_covered = torch.zeros_like(source_NCHW[:, :1], dtype=torch.bool)
        parts = {}
        for part, network in self.networks.items():
            source_crop = crop_part(source_NCHW, source_landmarks_NKC, part, self.sizes)
            heatmap_crop = crop_part(heatmap_NCHW, target_landmarks_NKC, part, self.sizes)
            parts[part] = network(source_crop, heatmap_crop)
            index_N, ys_Nh1, xs_N1w = _crop_index(target_landmarks_NKC, part, self.sizes, placed.shape[-1])
            placed[index_N, :, ys_Nh1, xs_N1w] = parts[part].permute(0, 2, 3, 1).to(placed.dtype)
            is_covered[index_N, :, ys_Nh1, xs_N1w] = is_covered.new_ones(())  # True would come from the host
        return placed, is_covered, parts


def crop_part(image_NCHW: Tensor, landmarks_NKC: Tensor, part: str, sizes: PartSizes) -> Tensor:
    """The fixed-size crop of `part` around its landmarks' centre, moved into the frame where it would leave it.

    Args:
        image_NCHW: [N, C, S, S].
        landmarks_NKC: [N, 68, 2] pixels.
        part: a key of `PARTS`.
        sizes: crop sizes.

    Returns:
        [N, C, h, w].
    """
    index_N, ys_Nh1, xs_N1w = _crop_index(landmarks_NKC, part, sizes, image_NCHW.shape[-1])
    return image_NCHW[index_N, :, ys_Nh1, xs_N1w].permute(0, 3, 1, 2)


def close_ups(image_NCHW: Tensor, landmarks_NKC: Tensor) -> Tensor:
    """Eyes and mouth as wide as the frame: each 1.3 outer eye distances wide and half as high, enlarged 2 to 4 times.

    Sampled once, bilinearly; beyond the frame its border is repeated.

    Args:
        image_NCHW: [N, C, S, S].
        landmarks_NKC: [N, 68, 2] pixels; the mean of a part's landmarks is the middle of its picture.

    Returns:
        [2 N, C, S // 2, S], the N pairs of eyes first.
    """
    size_px = image_NCHW.shape[-1]
    corners = (landmarks_NKC[:, corner] for corner in OUTER_EYE_CORNERS)
    width_N = _CLOSE_UP_EYE_DISTANCES * torch.linalg.vector_norm(torch.sub(*corners), dim=1)
    width_N = width_N.clamp(size_px / _MOST_ENLARGED, size_px / _LEAST_ENLARGED)
    pixels_HWC = _centred_pixels(size_px // 2, size_px, like=landmarks_NKC) / size_px
    centre_MC = torch.cat([_points_of(part, landmarks_NKC).mean(dim=1) for part in _CLOSE_UPS])
    position_MHWC = centre_MC[:, None, None] + width_N.repeat(len(_CLOSE_UPS))[:, None, None, None] * pixels_HWC
    return functional.grid_sample(
        image_NCHW.repeat(len(_CLOSE_UPS), 1, 1, 1),
        to_normalised(position_MHWC, size_px).to(image_NCHW.dtype),
        padding_mode="border",
        align_corners=False,
    )


def _centred_pixels(height: int, width: int, *, like: Tensor) -> Tensor:
    """[height, width, 2] (x, y) of each pixel's centre from the middle of the picture."""
    ys, xs = (
        torch.arange(length, device=like.device, dtype=like.dtype) - (length - 1) / 2 for length in (height, width)
    )
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)


def _points_of(part: Sequence[int], landmarks_NKC: Tensor) -> Tensor:
    """[N, k, 2] of indices in a row; a list of them would be copied to a CUDA device, which is waited for."""
    return landmarks_NKC[:, part[0] : part[-1] + 1]


def _crop_index(landmarks_NKC: Tensor, part: str, sizes: PartSizes, size_px: int) -> tuple[Tensor, Tensor, Tensor]:
    row = list(PARTS).index(part)
    height, width = sizes.heights_px[row], sizes.widths_px[row]
    points = _points_of(PARTS[part], landmarks_NKC)
    centre_NC = (points.amin(dim=1) + points.amax(dim=1)) / 2
    x0 = (centre_NC[:, 0] - (width - 1) / 2).round().long().clamp(0, size_px - width)
    y0 = (centre_NC[:, 1] - (height - 1) / 2).round().long().clamp(0, size_px - height)
    ys = y0[:, None] + torch.arange(height, device=y0.device)
    xs = x0[:, None] + torch.arange(width, device=x0.device)
    index = torch.arange(x0.shape[0], device=x0.device)
    return index[:, None, None], ys[:, :, None], xs[:, None, :]
