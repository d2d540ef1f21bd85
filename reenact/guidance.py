"""Target landmarks by LSt, LGAN (thesis 3.3.1 and 3.3.2) and the landmark GAN's base, and what they need to know.

Legend: N frames, I identities of a federation, K = 68 landmarks, C coordinates, A = 18 action units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.checkpoint import Checkpoint
from model.landmarks.style import recentre, transfer_landmarks
from model.networks.bundle import Networks
from model.networks.landmark_gan import action_units
from reenact.movement import Movement

FloatArray = NDArray[np.float32]

_PRIOR_FRAMES = 30
"""Frames of an unknown person that weigh as much as the known identities' spread: one second of video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LandmarkStatistics:
    """One person's landmarks, per coordinate."""

    mean_KC: FloatArray
    """[68, 2] pixels."""
    std_KC: FloatArray
    """[68, 2] pixels."""


def _condition(networks: Networks, row: int, movement: Movement) -> tuple[Tensor, Tensor, Tensor]:
    """[N] identity, [N, 3] pose and [N, 18] action units as the landmark GAN takes them, on its device."""
    device = networks.device
    presence_NA, intensity_NA = torch.from_numpy(movement.au_presence_NA), torch.from_numpy(movement.au_intensity_NA)
    au_NA = action_units(networks.config, presence_NA, intensity_NA)
    identity_N = torch.full((len(movement.pose_NC),), row, dtype=torch.int64)
    return identity_N.to(device), torch.from_numpy(movement.pose_NC).to(device), au_NA.to(device)


@torch.inference_mode()
def lgan_landmarks(networks: Networks, row: int, movement: Movement) -> FloatArray:
    """A known person's landmarks in a pose and expression (3.3.2).

    Args:
        networks: in evaluation mode.
        row: of the source identity.
        movement: of N frames.

    Returns:
        [N, 68, 2] float32 pixels of the model's frame, centred on it.
    """
    return np.asarray(networks.landmark_generator(*_condition(networks, row, movement)).cpu().numpy(), np.float32)


@torch.inference_mode()
def base_landmarks(networks: Networks, row: int, movement: Movement) -> FloatArray:
    """What the landmark GAN's base says of a pose and expression; good for differences, being nobody's shape.

    Args:
        networks: in evaluation mode, with a base.
        row: of the source identity; the number of identities for a stranger.
        movement: of N frames.

    Returns:
        [N, 68, 2] float32 pixels of the model's frame, around the mean point.
    """
    base = networks.landmark_generator.base
    assert base is not None, "choose() lets base pass with a base only"
    drawn_NKC = base(*_condition(networks, row, movement)).cpu().numpy()
    return np.asarray(drawn_NKC * networks.config.image_size_px, np.float32)


def lst_landmarks(driving_NKC: FloatArray, driving: LandmarkStatistics, source: LandmarkStatistics) -> FloatArray:
    """[N, 68, 2] driving landmarks restyled to the source person (Eq 3.3), at the driving centre."""
    return transfer_landmarks(
        driving_NKC,
        driving_mean_KC=driving.mean_KC,
        driving_std_KC=driving.std_KC,
        source_mean_KC=source.mean_KC,
        source_std_KC=source.std_KC,
    )


def has_own_statistics(checkpoint: Checkpoint) -> bool:
    """Whether the federation agreed on statistics of each identity; under secure aggregation all rows are the same."""
    mean_IKC, _ = checkpoint.agreed_landmarks()
    return len(mean_IKC) == 1 or bool((mean_IKC != mean_IKC[0]).any())


def known_statistics(checkpoint: Checkpoint, identity_index: int) -> LandmarkStatistics:
    """A known identity's statistics, as the federation agreed them."""
    return LandmarkStatistics(
        mean_KC=checkpoint.landmark_mean_IKC[identity_index],
        std_KC=checkpoint.landmark_std_IKC[identity_index],
    )


def estimated_statistics(checkpoint: Checkpoint, landmarks_NKC: FloatArray) -> LandmarkStatistics:
    """Statistics of an unknown person from the N frames at hand, one picture included.

    One picture shows a face *and* an expression; taking it for the person's mean would erase the expression
    it should drive. So the mean is the posterior of a normal model: the known identities' average shape,
    moved to the frames' centre, against the frames' mean, weighted by how much people differ (spread of the
    known means) and how much one person's frames differ (pooled variance over N). With many frames only the
    frames count. The variance is the known identities' pooled variance, counted as 30 frames, joined with
    the frames' own.

    Args:
        checkpoint: gives the known identities' statistics, of those that have any.
        landmarks_NKC: [N, 68, 2] pixels of the model's frame, N >= 1.
    """
    num_frames = len(landmarks_NKC)
    agreed_mean_IKC, agreed_std_IKC = checkpoint.agreed_landmarks()
    within_KC = (agreed_std_IKC.astype(np.float64) ** 2).mean(axis=0)
    known_IKC = recentre(agreed_mean_IKC, np.zeros_like(agreed_mean_IKC))
    observed_KC = landmarks_NKC.mean(axis=0, dtype=np.float64)
    prior_KC = known_IKC.mean(axis=0) + observed_KC.mean(axis=0)
    weight = _prior_weight(known_IKC, float(within_KC.mean()), num_frames)
    mean_KC = weight * prior_KC + (1 - weight) * observed_KC
    squares_KC = ((landmarks_NKC - observed_KC) ** 2).sum(axis=0)
    variance_KC = (_PRIOR_FRAMES * within_KC + squares_KC) / (_PRIOR_FRAMES + num_frames - 1)
    return LandmarkStatistics(mean_KC=mean_KC.astype(np.float32), std_KC=np.sqrt(variance_KC).astype(np.float32))


def _prior_weight(known_IKC: NDArray[np.floating], within: float, num_frames: int) -> float:
    """How much the average known shape counts against `num_frames` frames, 0 to 1."""
    # One identity, or one mean face for all, shows no spread between people; it is then taken to be as large as that
    # within a person.
    between = (float(known_IKC.var(axis=0, ddof=1).mean()) if len(known_IKC) > 1 else 0.0) or within
    total = within / num_frames + between
    return within / num_frames / total if total > 0 else 0.0
