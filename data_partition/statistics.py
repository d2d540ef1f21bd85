"""Sums over a client's training frames, from which all that is agreed before round 1 follows.

Means of means are avoided: what travels are sums and counts, never the landmarks of a frame.
"""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
import numpy.typing as npt
import torch

from data_partition.partition import ClientData
from data_partition.shards.shard import Shard
from model.batch import NUM_LANDMARKS
from model.landmarks.closed_form import FORMS, Form, Moments, Reduced, to_vector
from model.landmarks.geometry import PARTS, mean_part_sizes_px, rescaled
from model.networks.landmark_base import MAX_AU_INTENSITY, form_features, form_targets

FloatArray = npt.NDArray[np.float64]

_FRAMES_AT_ONCE = 1024


def local_statistics(
    data: ClientData, *, num_identities: int, size_px: int, has_base: bool = False
) -> list[FloatArray]:
    """Float64 arrays over the training frames, in pixels of a frame of side `size_px`.

    Args:
        data: the client's frames.
        num_identities: I, identities of the federation.
        size_px: image side of the model.
        has_base: whether the run agrees on a base of the landmark GAN.

    Returns:
        [4, 2] sum over frames of each part's (height, width); [I, 68, 2] sum of the landmarks of each identity;
        [I, 68, 2] sum of their squares; [I] number of frames of each identity; with a base also the arrays of the
        `Moments` of each of its forms.
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
    moments = base_moments(data, num_identities) if has_base else {}
    return [part_sums, sums, squares, counts, *(array for one in moments.values() for array in one.arrays())]


def base_moments(data: ClientData, num_identities: int) -> dict[Form, Moments]:
    """What the base of the landmark GAN is fitted to, over the training frames."""
    moments = {form: Moments.zeros(form, num_identities) for form in FORMS}
    for part in data.frames:
        _add_frames(moments, part.shard, part.split_rows("train"), part.identity_index)
    return moments


def _add_frames(moments: dict[Form, Moments], shard: Shard, rows: npt.NDArray[np.int64], identity_index: int) -> None:
    """Add rows of a shard; action units that its annotator does not know count as at rest."""
    for rows_of_batch in np.array_split(rows, range(_FRAMES_AT_ONCE, len(rows), _FRAMES_AT_ONCE)):
        pose_FC, strength_FA, landmarks_FKC = (
            torch.from_numpy(values[rows_of_batch].astype(np.float64))
            for values in (shard.pose_FC, np.nan_to_num(shard.au_intensity_FA) / MAX_AU_INTENSITY, shard.landmarks_FKC)
        )
        centred_FKC = (landmarks_FKC - landmarks_FKC.mean(dim=1, keepdim=True)) / shard.size_px
        for form, sums in moments.items():
            sums.add(
                form_features(form, pose_FC, strength_FA).numpy(),
                form_targets(form, centred_FKC).numpy(),
                identity_index,
            )


def pooled_statistics(data: ClientData, *, size_px: int, secret: bytes, has_base: bool = False) -> FloatArray:
    """The client's part of a secure sum over statistics: means that name no identity and no number of frames.

    They are over a random half of each identity's training frames. The same frames give the same half, so that sums
    which are asked for again and again tell nothing more: from many halves single frames could be told apart. Other
    frames give another half: two sums, before and after a frame was taken out of the shard, differ by chance as well,
    and not by that frame's landmarks alone.

    Args:
        data: the client's frames, at least one for training.
        size_px: image side of the model.
        secret: of the client, which nobody else knows; the halves follow from it.
        has_base: whether the run agrees on a base of the landmark GAN.

    Returns:
        [8 + 136 + 136] float64, in sides of the frame: mean (height, width) of each part, mean landmarks, and their
        variance within an identity, and with a base what it is fitted to; each a mean over the client's identities
        (federation/secure_sum/statistics.py).
    """
    rows_of_identities = []
    for part in data.frames:
        rows = part.split_rows("train")
        if not len(rows):
            continue
        chosen = _half(part.shard.landmarks_FKC[rows], secret)
        landmarks_FKC = part.shard.landmarks_FKC[rows[chosen]].astype(np.float64)
        landmarks = rescaled(landmarks_FKC, part.shard.size_px, size_px)
        sides = [mean_part_sizes_px(landmarks) / size_px, landmarks.mean(axis=0) / size_px]
        variance = landmarks.var(axis=0) / size_px**2
        base = [_reduced_moments(part.shard, rows[chosen])] if has_base else []
        rows_of_identities.append(np.concatenate([values.reshape(-1) for values in (*sides, variance, *base)]))
    means: FloatArray = np.mean(rows_of_identities, axis=0)
    return means


def _half(landmarks_FKC: npt.NDArray[np.float32], secret: bytes) -> list[int]:
    """Ascending places of half of the frames, rounded up: those whose keyed hashes are least."""
    content = hashlib.sha256(landmarks_FKC.tobytes()).digest()
    hashes = [hmac.digest(secret, content + place.to_bytes(8, "big"), "sha256") for place in range(len(landmarks_FKC))]
    return sorted(sorted(range(len(hashes)), key=hashes.__getitem__)[: (len(hashes) + 1) // 2])


def _reduced_moments(shard: Shard, rows: npt.NDArray[np.int64]) -> FloatArray:
    """[`VECTOR_LENGTH`] what a base is fitted to, of one identity's frames and without its own part."""
    moments = {form: Moments.zeros(form, 1) for form in FORMS}
    _add_frames(moments, shard, rows, 0)
    return to_vector({form: Reduced.of(form, sums) for form, sums in moments.items()})
