"""Landmark head, optical flow head, and warping (thesis 3.1, Fig 3.2b).

Flow is [N, 2, S, S] float32: the offset (x, y) in grid_sample's units (the frame spans [-1, 1]) from a pixel of
the driving frame to the place in the source where its content comes from. Zero flow copies the source.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.batch import NUM_LANDMARKS
from model.config import ModelConfig

_COMPRESSED_DIM = 128
_MIN_CHANNELS = 16
_KERNEL_GRID_PX = 64
_NARROW, _WIDE = 0.04, 0.15  # standard deviations, frame units of [-1, 1]; chosen on training frames of five people
_WIDE_SHARE = 0.02
_KERNEL_FADE = 0.05


class LandmarkHead(nn.Module):
    """Regresses 68 landmarks from the third token: the auxiliary task of thesis 3.1."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.size_px = config.image_size_px
        self.mlp = nn.Sequential(
            nn.Linear(config.embed_dim, config.embed_dim),
            nn.ReLU(),
            nn.Linear(config.embed_dim, NUM_LANDMARKS * 2),
        )

    def forward(self, token_ND: Tensor) -> Tensor:
        """[N, D] to [N, 68, 2] pixels."""
        return (self.mlp(token_ND).view(-1, NUM_LANDMARKS, 2) + 0.5) * self.size_px  # type: ignore[no-any-return]


class FlowHead(nn.Module):
    """Flow from the flow tokens of both images; starts at almost zero, so training starts from copying the source."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.seed_px, self.size_px, channels = config.flow_seed_px, config.image_size_px, config.flow_channels
        self.use_landmarks = config.use_landmark_flow
        self.compress = nn.Linear(config.embed_dim, _COMPRESSED_DIM)
        seed_dim = channels * self.seed_px**2
        self.mlp = nn.Sequential(nn.Linear(4 * _COMPRESSED_DIM, 512), nn.ReLU(), nn.Linear(512, seed_dim), nn.ReLU())
        layers: list[nn.Module] = []
        for _ in range((config.image_size_px // self.seed_px).bit_length() - 1):
            halved = max(channels // 2, _MIN_CHANNELS)
            layers += [nn.ConvTranspose2d(channels, halved, 4, stride=2, padding=1), nn.ReLU()]
            channels = halved
        self.upsample = nn.Sequential(*layers)
        self.to_flow = nn.Conv2d(channels, 2, 3, padding=1)
        nn.init.normal_(self.to_flow.weight, std=1e-3)
        nn.init.zeros_(self.to_flow.bias)  # type: ignore[arg-type]

    def forward(
        self,
        source_tokens_N2D: Tensor,
        driving_tokens_N2D: Tensor,
        source_landmarks_NKC: Tensor,
        target_landmarks_NKC: Tensor,
    ) -> Tensor:
        """Flow from the tokens of both images, added to `landmark_flow` if the setting is on.

        Args:
            source_tokens_N2D: [N, 2, D].
            driving_tokens_N2D: [N, 2, D].
            source_landmarks_NKC: [N, 68, 2] pixels.
            target_landmarks_NKC: [N, 68, 2] pixels.

        Returns:
            [N, 2, S, S].
        """
        compressed = [self.compress(tokens).flatten(1) for tokens in (source_tokens_N2D, driving_tokens_N2D)]
        seed_channels = self.upsample[0].in_channels
        seed = self.mlp(torch.cat(compressed, dim=1)).view(-1, seed_channels, self.seed_px, self.seed_px)
        flow_NCHW = self.to_flow(self.upsample(seed))
        if self.use_landmarks:
            flow_NCHW = flow_NCHW + landmark_flow(source_landmarks_NKC, target_landmarks_NKC, self.size_px)
        return flow_NCHW  # type: ignore[no-any-return]


@torch.no_grad()
def landmark_flow(source_landmarks_NKC: Tensor, target_landmarks_NKC: Tensor, size_px: int) -> Tensor:
    """Flow that carries each landmark of the source to its target, spread over the frame by Gaussian weights.

    flow(x) = sum_k w_k(x) m_k / (sum_k w_k(x) + eps) with the motion m_k of landmark k and w_k the sum of a narrow and
    a weak wide Gaussian of the distance to its target: kernel regression (Nadaraya 1964, Watson 1964) that fades to
    zero far from the face. It has no parameters, so it is the same at all sites and before training. Not in the thesis.

    Args:
        source_landmarks_NKC: [N, 68, 2] pixels.
        target_landmarks_NKC: [N, 68, 2] pixels.
        size_px: side S of the frame.

    Returns:
        [N, 2, S, S] float32 normalised offsets; computed on a grid of at most 64 and enlarged.
    """
    side = min(size_px, _KERNEL_GRID_PX)
    grid_P2 = _identity_grid(side, side, like=source_landmarks_NKC)[0].flatten(1).T
    target_NKC = (target_landmarks_NKC * 2 + 1) / size_px - 1
    motion_NKC = (source_landmarks_NKC - target_landmarks_NKC) * 2 / size_px
    squared_NPK = (grid_P2[None, :, None] - target_NKC[:, None]).square().sum(dim=-1)
    narrow, wide = (torch.exp(squared_NPK / (-2 * width**2)) for width in (_NARROW, _WIDE))
    weight_NPK = narrow + _WIDE_SHARE * wide
    flow_NPC = weight_NPK @ motion_NKC / (weight_NPK.sum(dim=-1, keepdim=True) + _KERNEL_FADE)
    flow_NCHW = flow_NPC.transpose(1, 2).reshape(-1, 2, side, side)
    return functional.interpolate(flow_NCHW, (size_px, size_px), mode="bilinear", align_corners=False)


def warp(features_NCHW: Tensor, flow_NCHW: Tensor) -> Tensor:
    """`features_NCHW` sampled along the flow, which is resized to their side; border padding.

    Args:
        features_NCHW: [N, C, h, w].
        flow_NCHW: [N, 2, S, S] offsets in normalised units.

    Returns:
        [N, C, h, w].
    """
    size = features_NCHW.shape[-2:]
    if flow_NCHW.shape[-2:] != size:
        flow_NCHW = functional.interpolate(flow_NCHW, size, mode="bilinear", align_corners=False)
    grid = _identity_grid(*size, like=flow_NCHW) + flow_NCHW
    return functional.grid_sample(
        features_NCHW,
        grid.permute(0, 2, 3, 1).to(features_NCHW.dtype),
        padding_mode="border",
        align_corners=False,
    )


def _identity_grid(height: int, width: int, *, like: Tensor) -> Tensor:
    """[1, 2, h, w] normalised (x, y) of each pixel centre."""
    xs = (torch.arange(width, device=like.device, dtype=like.dtype) * 2 + 1) / width - 1
    ys = (torch.arange(height, device=like.device, dtype=like.dtype) * 2 + 1) / height - 1
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy")).unsqueeze(0)


def sample_at(maps_NCHW: Tensor, points_NKC: Tensor) -> Tensor:
    """Values of maps at pixel positions, bilinear, border padding.

    Args:
        maps_NCHW: [N, C, S, S].
        points_NKC: [N, K, 2] (x, y) pixels.

    Returns:
        [N, K, C].
    """
    grid_NK1C = ((points_NKC * 2 + 1) / maps_NCHW.shape[-1] - 1).unsqueeze(2)
    sampled_NCK1 = functional.grid_sample(maps_NCHW, grid_NK1C, padding_mode="border", align_corners=False)
    return sampled_NCK1.squeeze(3).transpose(1, 2)
