"""Landmark head and optical flow head (thesis 3.1, Fig 3.2b); `warping` defines what a flow is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.batch import NUM_LANDMARKS
from model.config import ModelConfig
from model.networks.landmark_motion import MotionMixer, SourceMotion

_COMPRESSED_DIM = 128
_MIN_CHANNELS = 16


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
        """[N, D] to [N, 68, 2] pixels, float32."""
        sides_NX: Tensor = self.mlp(token_ND).float()  # bfloat16 would round pixels to whole ones
        return (sides_NX.view(-1, NUM_LANDMARKS, 2) + 0.5) * self.size_px


class FlowHead(nn.Module):
    """Flow from the flow tokens of both images; starts at almost zero, so training starts from copying the source."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.seed_px, self.size_px, channels = config.flow_seed_px, config.image_size_px, config.flow_channels
        self.compress = nn.Linear(config.embed_dim, _COMPRESSED_DIM)
        seed_dim = channels * self.seed_px**2
        self.mlp = nn.Sequential(nn.Linear(4 * _COMPRESSED_DIM, 512), nn.ReLU(), nn.Linear(512, seed_dim), nn.ReLU())
        layers: list[nn.Module] = []
        for _ in range((config.image_size_px // self.seed_px).bit_length() - 1):
            halved = max(channels // 2, _MIN_CHANNELS)
            layers += [nn.ConvTranspose2d(channels, halved, 4, stride=2, padding=1), nn.ReLU()]
            channels = halved
        self.upsample = nn.Sequential(*layers)
        self.mixer = None
        if config.use_landmark_flow:
            self.mixer = MotionMixer(
                channels,
                config.heatmap_channels,
                face_motion=config.face_motion,
                has_confidence=config.num_sources > 1,
            )
        self.to_flow = nn.Conv2d(channels, 2, 3, padding=1)
        nn.init.normal_(self.to_flow.weight, std=1e-3)
        nn.init.zeros_(self.to_flow.bias)  # type: ignore[arg-type]

    def forward(
        self,
        source_tokens_M2D: Tensor,
        driving_tokens_M2D: Tensor,
        *,
        source_MCHW: Tensor,
        heatmap_NCHW: Tensor,
        source_landmarks_MKC: Tensor,
        target_landmarks_NKC: Tensor,
    ) -> SourceMotion:
        """Flow from the tokens of both images, added to the mixed landmark motions if the setting is on.

        Args:
            source_tokens_M2D: [M, 2, D], of as many sources for each of the N driving frames, in the order of `fusion`.
            driving_tokens_M2D: [M, 2, D], of the driving frame for each of its sources.
            source_MCHW: [M, 3, S, S] in [-1, 1]; this and the following are used by the mixer alone.
            heatmap_NCHW: [N, 1 or 2, S, S] in [0, 1].
            source_landmarks_MKC: [M, 68, 2] pixels.
            target_landmarks_NKC: [N, 68, 2] pixels.
        """
        compressed = [self.compress(tokens).flatten(1) for tokens in (source_tokens_M2D, driving_tokens_M2D)]
        seed_channels = self.upsample[0].in_channels
        seed = self.mlp(torch.cat(compressed, dim=1)).view(-1, seed_channels, self.seed_px, self.seed_px)
        features_MCHW = self.upsample(seed)
        flow_MCHW: Tensor = self.to_flow(features_MCHW)
        if self.mixer is None:
            return SourceMotion(flow_MCHW, None)
        landmarks = (source_landmarks_MKC, target_landmarks_NKC)
        mixed: SourceMotion = self.mixer(features_MCHW, source_MCHW, heatmap_NCHW, *landmarks)
        return mixed._replace(flow_MCHW=flow_MCHW + mixed.flow_MCHW)
