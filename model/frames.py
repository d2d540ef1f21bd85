"""The edge between the model's tensors and frames as they are written to disk."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
"""[H, W, 3] uint8 RGB."""


def to_frames(images_NCHW: torch.Tensor) -> list[Frame]:
    """N uint8 [S, S, 3] RGB frames of a float [N, 3, S, S] tensor in [-1, 1], clipped and rounded."""
    scaled = ((images_NCHW.detach().float() + 1) * 127.5).round().clamp(0, 255)
    return list(scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())


def to_tensor(frames: list[Frame]) -> torch.Tensor:
    """[N, 3, S, S] float32 in [-1, 1] of N uint8 [S, S, 3] RGB frames; the inverse of `to_frames`."""
    stacked = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous()
    return stacked.to(torch.float32).div_(127.5).sub_(1.0)
