"""Sampling images and maps along a flow.

Flow is [N, 2, h, w]: the offset (x, y) in grid_sample's units (the frame spans [-1, 1]) from a pixel of
the driving frame to the place in the source where its content comes from. Zero flow copies the source. Places are
computed in float32 whatever the flow comes in: bfloat16 has no pixel centres of a frame of 256 pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def warp(features_NCHW: Tensor, flow_NCHW: Tensor, sampling: str = "bilinear") -> Tensor:
    """`features_NCHW` sampled along the flow, which is resized to their side; border padding.

    Args:
        features_NCHW: [N, C, h, w].
        flow_NCHW: [N, 2, S, S] offsets in normalised units.
        sampling: bilinear, which blurs between pixels, or bicubic (Keys 1981, a = -0.75), which can leave their range.

    Returns:
        [N, C, h, w] float32, or float64 if one of the two is.
    """
    size = features_NCHW.shape[-2:]
    exact = torch.promote_types(torch.promote_types(features_NCHW.dtype, flow_NCHW.dtype), torch.float32)
    flow_NCHW = flow_NCHW.to(exact)
    if flow_NCHW.shape[-2:] != size:
        flow_NCHW = resized(flow_NCHW, *size)
    grid = identity_grid(*size, like=flow_NCHW) + flow_NCHW
    return functional.grid_sample(
        features_NCHW.to(exact),
        grid.permute(0, 2, 3, 1),
        mode=sampling,
        padding_mode="border",
        align_corners=False,
    )


def identity_grid(height: int, width: int, *, like: Tensor) -> Tensor:
    """[1, 2, h, w] normalised (x, y) of each pixel centre, in dtype and on device of `like`."""
    xs = (torch.arange(width, device=like.device, dtype=like.dtype) * 2 + 1) / width - 1
    ys = (torch.arange(height, device=like.device, dtype=like.dtype) * 2 + 1) / height - 1
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy")).unsqueeze(0)


def resized(maps_NCHW: Tensor, height: int, width: int) -> Tensor:
    """Bilinear, corners not aligned, as everywhere in the model; [N, C, height, width]."""
    return functional.interpolate(maps_NCHW, (height, width), mode="bilinear", align_corners=False)


def shrunk(image_NCHW: Tensor, side_px: int) -> Tensor:
    """[N, C, side_px, side_px], each pixel of all those that it stands for; bilinear with antialiasing."""
    size = (side_px, side_px)  # CPUs cannot in bfloat16
    return functional.interpolate(image_NCHW.float(), size, mode="bilinear", align_corners=False, antialias=True)


def to_normalised(points_NKC: Tensor, size_px: int) -> Tensor:
    """Pixel positions (centres at integers) in grid_sample's units; [N, K, 2]."""
    return (points_NKC * 2 + 1) / size_px - 1


def to_pixels(points_NKC: Tensor, size_px: int) -> Tensor:
    """The inverse of `to_normalised`."""
    return ((points_NKC + 1) * size_px - 1) / 2


def sample_at(maps_NCHW: Tensor, points_NKC: Tensor) -> Tensor:
    """Values of maps at pixel positions, bilinear, border padding.

    Args:
        maps_NCHW: [N, C, S, S].
        points_NKC: [N, K, 2] (x, y) pixels.

    Returns:
        [N, K, C].
    """
    grid_NK1C = to_normalised(points_NKC, maps_NCHW.shape[-1]).unsqueeze(2)
    sampled_NCK1 = functional.grid_sample(maps_NCHW, grid_NK1C, padding_mode="border", align_corners=False)
    return sampled_NCK1.squeeze(3).transpose(1, 2)
