"""Who a frame shows, told from the landmark shapes that a server holds of each person.

Before round 1 the sites agree on the mean landmarks of each identity, and the trained landmark GAN draws landmarks for
an identity, a pose and action units. Either is a template of a face: this asks whose template a held-out frame's
landmarks are nearest to. Shapes: N frames, K = 68 landmarks, I identities.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from data_partition.shards.shard import Shard
from evaluation.attacks.separation import FloatArray
from model.landmarks.geometry import rescaled
from model.networks.bundle import Networks
from model.networks.landmark_gan import action_units


def model_landmarks(shard: Shard, rows_N: NDArray[np.int64], size_px: int) -> FloatArray:
    """[N, 68, 2] landmarks of a shard's rows, in pixels of a frame of side `size_px`."""
    landmarks_NKC = shard.landmarks_FKC[rows_N].astype(np.float64)
    return np.asarray(rescaled(landmarks_NKC, shard.size_px, size_px), np.float64)


def distances_px(landmarks_NKC: FloatArray, templates_IKC: FloatArray) -> FloatArray:
    """[N, I] root mean square distance to every template, pixels, where the faces lie in the frame."""
    difference = landmarks_NKC[:, None] - templates_IKC[None]
    return np.asarray(np.sqrt(np.square(difference).sum(axis=-1).mean(axis=-1)), np.float64)


def shape_distances(landmarks_NKC: FloatArray, templates_NIKC: FloatArray) -> FloatArray:
    """[N, I] full Procrustes distance: shape alone, with position, size and rotation in the plane taken out.

    With points as complex numbers, centred and of length 1, it is sqrt(1 - |<a, b>|^2): 0 for equal shapes, at most 1
    (Dryden and Mardia, Statistical Shape Analysis, 4.3). A mirrored shape is another shape.

    Args:
        landmarks_NKC: [N, K, 2].
        templates_NIKC: [N, I, K, 2], or [1, I, K, 2] where they are the same for all frames.
    """
    frames_N1K, templates_NIK = _normalised(landmarks_NKC[:, None]), _normalised(templates_NIKC)
    agreement_NI = np.abs((frames_N1K.conj() * templates_NIK).sum(axis=-1))
    distance_NI: FloatArray = np.sqrt(np.maximum(1 - np.square(agreement_NI), 0))
    return distance_NI


def identified(distance_NI: FloatArray, truth_N: NDArray[np.int64]) -> FloatArray:
    """[N] 1 where the true person's template is the nearest, 0 where not; a tie of n with it counts 1 / n.

    Equal templates therefore give 1 / I, which is chance.
    """
    is_nearest_NI = np.isclose(distance_NI, distance_NI.min(axis=1, keepdims=True), rtol=1e-9, atol=1e-12)
    found: FloatArray = is_nearest_NI[np.arange(len(truth_N)), truth_N] / is_nearest_NI.sum(axis=1)
    return found


@torch.no_grad()
def gan_templates(networks: Networks, identities: list[int], shard: Shard, rows_N: NDArray[np.int64]) -> FloatArray:
    """[N, I, 68, 2] landmarks that the landmark GAN draws for each identity in the pose and expression of each frame.

    Args:
        networks: of a design with a landmark GAN.
        identities: [I] rows of its identity embedding.
        shard: whose frames.
        rows_N: which of them.
    """
    pose_NC, presence_NA, intensity_NA = (
        torch.from_numpy(values[rows_N])
        for values in (shard.pose_FC, shard.au_presence_FA, np.nan_to_num(shard.au_intensity_FA))
    )
    au_NA = action_units(networks.config, presence_NA, intensity_NA)
    drawn = [
        networks.landmark_generator(torch.full((len(rows_N),), index, dtype=torch.int64), pose_NC, au_NA)
        for index in identities
    ]
    return torch.stack(drawn, dim=1).numpy().astype(np.float64)


def _normalised(points: FloatArray) -> NDArray[np.complex128]:
    """[..., K, 2] points as [..., K] complex numbers with mean 0 and length 1; points all in one place become 0."""
    numbers = points[..., 0] + 1j * points[..., 1]
    numbers = numbers - numbers.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(numbers, axis=-1, keepdims=True)
    normalised: NDArray[np.complex128] = numbers / np.maximum(length, 1e-12)
    return normalised
