"""Landmark conditional GAN, LGAN (thesis 3.3.2, Eq 3.4, Fig 3.5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.batch import NUM_ACTION_UNITS, NUM_LANDMARKS
from model.config import ModelConfig
from model.networks.landmark_base import MAX_AU_INTENSITY, LandmarkBase

_POSE_SCALE_DEG = 45.0  # normalises the angles to about [-1, 1]


class Condition(nn.Module):
    """Identity embedding, normalised angles, and the sum of the embeddings of the active AUs (Eq 3.4)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.identity = nn.Embedding(config.num_identities, config.lgan_dim)
        self.pose = nn.Linear(3, config.lgan_dim)
        self.action_units = nn.Parameter(torch.randn(NUM_ACTION_UNITS, config.lgan_dim) * 0.1)

    def forward(self, identity_N: Tensor, pose_NC: Tensor, au_NA: Tensor) -> Tensor:
        """[N] int64, [N, 3] degrees and [N, 18] presence or strength to [N, 3 * lgan_dim]."""
        return torch.cat(
            [self.identity(identity_N), self.pose(pose_NC / _POSE_SCALE_DEG), au_NA @ self.action_units],
            dim=1,
        )


class LandmarkGenerator(nn.Module):
    """g(ID_s, (alpha, beta, gamma), sum of AU embeddings) of Eq 3.4.

    Draws the difference to a shape of the identity, zero at first. The shapes start from the mean landmarks that the
    sites agree on before round 1 and are trained like the identity embedding. With lgan-base = closed both are added to
    the base, and the shapes start from zero.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.size_px = config.image_size_px
        self.condition = Condition(config)
        self.base = LandmarkBase(config.num_identities) if config.lgan_base == "closed" else None
        self.shape = nn.Embedding(config.num_identities, NUM_LANDMARKS * 2)
        self.mlp = _mlp(3 * config.lgan_dim, config.lgan_dim, NUM_LANDMARKS * 2)
        nn.init.zeros_(self.shape.weight)
        nn.init.zeros_(self.mlp[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.mlp[-1].bias)  # type: ignore[arg-type]

    @torch.no_grad()
    def start_from(self, landmark_mean_IKC: Tensor) -> None:
        """Take [I, 68, 2] mean landmarks in pixels as the identities' shapes, where there is no base that has them."""
        if self.base is not None:
            return
        self.shape.weight.copy_((landmark_mean_IKC / self.size_px).flatten(1))

    def forward(self, identity_N: Tensor, pose_NC: Tensor, au_NA: Tensor) -> Tensor:
        """Landmarks of the source person in the driving pose and expression.

        Where the head is in the frame is no function of identity, pose and AUs: the mean point of the result is the
        frame's centre, and the caller moves it to the driving face.

        Args:
            identity_N: [N] int64 source identity.
            pose_NC: [N, 3] pitch, yaw, roll of the driving head, degrees.
            au_NA: [N, 18] float32 of the driving frame, as `action_units` gives them.

        Returns:
            [N, 68, 2] float32 pixels.
        """
        difference = self.mlp(self.condition(identity_N, pose_NC, au_NA))
        points_NKC = (self.shape(identity_N) + difference).view(-1, NUM_LANDMARKS, 2)
        if self.base is not None:
            points_NKC = points_NKC + self.base(identity_N, pose_NC, au_NA)
        return (points_NKC - points_NKC.mean(dim=1, keepdim=True)) * self.size_px + (self.size_px - 1) / 2  # type: ignore[no-any-return]


def action_units(config: ModelConfig, presence_NA: Tensor, intensity_NA: Tensor) -> Tensor:
    """What the landmark GAN sees of action units.

    Args:
        config: of the network.
        presence_NA: [N, 18] 0 or 1.
        intensity_NA: [N, 18] 0 to 5.

    Returns:
        [N, 18] presence (Eq 3.4), or where there is a base intensity from 0 to 1.
    """
    return intensity_NA / MAX_AU_INTENSITY if config.lgan_base == "closed" else presence_NA


class LandmarkDiscriminator(nn.Module):
    """Whether landmarks are real, given identity, pose and AUs (conditional GAN, Fig 3.5)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.size_px = config.image_size_px
        self.condition = Condition(config)
        self.mlp = _mlp(3 * config.lgan_dim + NUM_LANDMARKS * 2, config.lgan_dim, 1)

    def forward(self, landmarks_NKC: Tensor, identity_N: Tensor, pose_NC: Tensor, au_NA: Tensor) -> Tensor:
        """[N, 68, 2] pixels, centred on the frame, and their condition to logits [N, 1]."""
        points = ((landmarks_NKC - (self.size_px - 1) / 2) / self.size_px).flatten(1)
        return self.mlp(torch.cat([points, self.condition(identity_N, pose_NC, au_NA)], dim=1))  # type: ignore[no-any-return]


def centre_landmarks(landmarks_NKC: Tensor, size_px: int) -> Tensor:
    """Landmarks moved so that their mean point is the frame's centre; [N, 68, 2] pixels."""
    return landmarks_NKC - landmarks_NKC.mean(dim=1, keepdim=True) + (size_px - 1) / 2


def _mlp(in_dim: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_dim, 2 * hidden_dim),
        nn.LeakyReLU(0.2),
        nn.Linear(2 * hidden_dim, 2 * hidden_dim),
        nn.LeakyReLU(0.2),
        nn.Linear(2 * hidden_dim, out_dim),
    )
