"""Sums over a client's training frames from which part sizes and landmark statistics are agreed.

Means of means are avoided: what travels are sums and counts, never the landmarks of a frame.
"""

from __future__ import annotations

import secrets

import numpy as np
import numpy.typing as npt

from data_partition.partition import ClientData
from model.batch import NUM_LANDMARKS
from model.landmarks.geometry import PARTS, mean_part_sizes_px, rescaled

FloatArray = npt.NDArray[np.float64]


def local_statistics(data: ClientData, *, num_identities: int, size_px: int) -> list[FloatArray]:
    """Four float64 arrays over the training frames, in pixels of a frame of side `size_px`.

    Args:
        data: the client's frames.
        num_identities: I, identities of the federation.
        size_px: image side of the model.

    Returns:
        [4, 2] sum over frames of each part's (height, width); [I, 68, 2] sum of the landmarks of each identity;
        [I, 68, 2] sum of their squares; [I] number of frames of each identity.
    """
    part_sums = np.zeros((len(PARTS), 2))
    sums = np.zeros((num_identities, NUM_LANDMARKS, 2))
    squares = np.zeros_like(sums)
    for part in data.frames:
        rows = part.split_rows("train")
        if not len(rows):
            continue
        landmarks = rescaled(part.shard.landmarks_FKC[rows].astype(np.float64), part.shard.size_px, size_px)
        part_sums += mean_part_sizes_px(landmarks) * len(rows)
        sums[part.identity_index] += landmarks.sum(axis=0)
        squares[part.identity_index] += np.square(landmarks).sum(axis=0)
    counts = data.identity_counts(num_identities).astype(np.float64)
    return [part_sums, sums, squares, counts]


def pooled_statistics(data: ClientData, *, size_px: int) -> FloatArray:
    """The client's part of a secure sum over statistics: means that name no identity and no number of frames.

    They are over a random half of each identity's training frames, drawn anew every time. So two of them, before and
    after a frame was taken out of the shard, differ by chance as well, and not by that frame's landmarks alone.

    Args:
        data: the client's frames, at least one for training.
        size_px: image side of the model.

    Returns:
        [8 + 136 + 136] float64, in sides of the frame: mean (height, width) of each part, mean landmarks, and their
        variance within an identity; each a mean over the client's identities (federation/secure_sum/statistics.py).
    """
    rows_of_identities = []
    for part in data.frames:
        rows = part.split_rows("train")
        if not len(rows):
            continue
        chosen = sorted(secrets.SystemRandom().sample(range(len(rows)), (len(rows) + 1) // 2))
        landmarks_FKC = part.shard.landmarks_FKC[rows[chosen]].astype(np.float64)
        landmarks = rescaled(landmarks_FKC, part.shard.size_px, size_px)
        sides = [mean_part_sizes_px(landmarks) / size_px, landmarks.mean(axis=0) / size_px]
        variance = landmarks.var(axis=0) / size_px**2
        rows_of_identities.append(np.concatenate([values.reshape(-1) for values in (*sides, variance)]))
    means: FloatArray = np.mean(rows_of_identities, axis=0)
    return means
