"""The edge between the model's tensors, in [-1, 1], and frames as they are on disk, uint8: nothing else converts.

PyTorch is imported where tensors are made: who cuts and encodes frames need not wait two seconds for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Frame = NDArray[np.uint8]
"""[H, W, 3] uint8 RGB."""


def to_frames(images_NCHW: torch.Tensor) -> list[Frame]:
    """N uint8 [S, S, 3] RGB frames of a float [N, 3, S, S] tensor in [-1, 1], clipped and rounded."""
    import torch

    scaled = ((images_NCHW.detach().float() + 1) * 127.5).round().clamp(0, 255)
    return list(scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())


def to_tensor(frames: list[Frame]) -> torch.Tensor:
    """[N, 3, S, S] float32 in [-1, 1] of N uint8 [S, S, 3] RGB frames; the inverse of `to_frames`."""
    return in_model_range(np.ascontiguousarray(np.stack(frames).transpose(0, 3, 1, 2)))


def in_model_range(images_NCHW: NDArray[np.uint8]) -> torch.Tensor:
    """[N, 3, S, S] float32 in [-1, 1] of uint8 pictures of the same shape, 0 becoming -1 and 255 becoming 1."""
    import torch

    return torch.from_numpy(images_NCHW).to(torch.float32).div_(127.5).sub_(1.0)
