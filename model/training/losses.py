"""Loss terms (thesis 3.5), each a pure function; weights and schedules are the designs'.

Beyond Eq 3.5: the landmark head's regression (3.1 names it without a formula) and two terms on the flow.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from model.networks.warping import sample_at


def l1_loss(generated: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference (Eq 3.6, averaged over batch and channels too); any one shape, [] float32 >= 0.

    Raises:
        ValueError: if the shapes differ (broadcasting would hide it).
    """
    if generated.shape != target.shape:
        raise ValueError(f"l1_loss: shapes differ, {tuple(generated.shape)} and {tuple(target.shape)}")
    return (generated - target).abs().mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Negated Eq 3.7 on logits: (-mean log sigmoid(real) - mean log(1 - sigmoid(fake))) / 2, [] float32 >= 0.

    Halving only rescales the discriminator's step, as in pix2pixHD.
    """
    return (functional.softplus(-real_logits).mean() + functional.softplus(fake_logits).mean()) / 2


def generator_adversarial_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating generator term of Eq 3.7: -mean log sigmoid(fake), [] float32 >= 0 (Goodfellow et al. 2014)."""
    return functional.softplus(-fake_logits).mean()


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Mean max(0, 1 - real) + mean max(0, 1 + fake) (Lim and Ye 2017), [] float32 >= 0."""
    return functional.relu(1 - real_logits).mean() + functional.relu(1 + fake_logits).mean()


def hinge_generator_loss(fake_logits: Tensor) -> Tensor:
    """Negated mean of the logits (Lim and Ye 2017), [] float32, of any sign."""
    return -fake_logits.mean()


def least_squares_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Mean (1 - real)^2 + mean fake^2 (LSGAN, Mao et al. 2017), [] float32 >= 0."""
    return (1 - real_logits).square().mean() + fake_logits.square().mean()


def least_squares_generator_loss(fake_logits: Tensor) -> Tensor:
    """Mean (1 - fake)^2 (LSGAN, Mao et al. 2017), [] float32 >= 0."""
    return (1 - fake_logits).square().mean()


def feature_matching_loss(real_features: Sequence[Tensor], fake_features: Sequence[Tensor]) -> Tensor:
    """Sum over discriminator layers of the mean absolute difference (Eq 3.8), [] float32 >= 0.

    Args:
        real_features: feature maps for driving frames, detached here.
        fake_features: the same layers for generated frames.
    """
    return torch.stack(
        [l1_loss(fake, real.detach()) for real, fake in zip(real_features, fake_features, strict=True)]
    ).sum()


def flow_landmark_loss(flow_NCHW: Tensor, source_landmarks_NKC: Tensor, driving_landmarks_NKC: Tensor) -> Tensor:
    """How far the flow misses the known motion of the landmarks, [] float32 >= 0, in normalised units.

    At a driving landmark the flow must point to the same landmark of the source: L1 between the flow sampled
    there and (source - driving) * 2 / S. Not in the thesis; supervises the flow where the truth is known.

    Args:
        flow_NCHW: [N, 2, S, S] normalised offsets.
        source_landmarks_NKC: [N, 68, 2] pixels.
        driving_landmarks_NKC: [N, 68, 2] pixels.
    """
    motion_NKC = (source_landmarks_NKC - driving_landmarks_NKC) * 2 / flow_NCHW.shape[-1]
    return l1_loss(sample_at(flow_NCHW, driving_landmarks_NKC), motion_NKC)


def flow_smoothness_loss(flow_NCHW: Tensor) -> Tensor:
    """Mean absolute second difference of the flow in pixels along x and y, [] float32 >= 0; 0 for affine flow."""
    flow_px = flow_NCHW * (flow_NCHW.shape[-1] / 2)
    second_x = flow_px[..., 2:] - 2 * flow_px[..., 1:-1] + flow_px[..., :-2]
    second_y = flow_px[..., 2:, :] - 2 * flow_px[..., 1:-1, :] + flow_px[..., :-2, :]
    return second_x.abs().mean() + second_y.abs().mean()
