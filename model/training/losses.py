"""Loss terms (thesis 3.5), each a pure function; weights and schedules are the designs'.

Beyond Eq 3.5: the landmark head's regression (3.1 names it without a formula) and two terms on the flow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from model.networks.warping import sample_at


def l1_loss(generated: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference (Eq 3.6, averaged over batch and channels too); any one shape, [] float32 >= 0.

    Raises:
        ValueError: if the shapes differ (broadcasting would hide it).
    """
    _require_same_shape("l1_loss", generated, target)
    return (generated - target).abs().mean(dtype=torch.float32)


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


def relativistic_loss(better_logits: Tensor, worse_logits: Tensor) -> Tensor:
    """Of a judge that should rank one above the other: mean softplus(worse - better), [] float32 >= 0; ln 2 at chance.

    The discriminator's with (real, fake), the generator's with (fake, real) (Jolicoeur-Martineau 2018; in pairs as
    Huang et al. 2024, R3GAN). A driving frame's logits and those of what was drawn for it are compared at the same
    place. Only differences count: the mean of several sites' discriminators keeps what they rank, not their offsets.

    Raises:
        ValueError: if the shapes differ (broadcasting would hide it).
    """
    _require_same_shape("relativistic_loss", better_logits, worse_logits)
    return functional.softplus(worse_logits - better_logits).mean()


class Adversarial(NamedTuple):
    """The two sides of a loss between generator and discriminator, each from (real, fake) logits of one shape."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]


ADVERSARIAL = {
    "gan": Adversarial(discriminator_loss, lambda real, fake: generator_adversarial_loss(fake)),
    "relativistic": Adversarial(relativistic_loss, lambda real, fake: relativistic_loss(fake, real)),
}
"""By the values of `adversarial-loss`."""


def limited(image_NCHW: Tensor, weight: float) -> Tensor:
    """The same images, of which each pulls back at most as hard as an L1 loss of this weight would.

    A discriminator that nothing opposes grows steep: its gradient can be many times that of all other terms. What it
    points to is kept, how far is not. Without state, so that a step depends on nothing but its batch and weights.

    Args:
        image_NCHW: with a gradient; the mean over N is in the losses that are computed of it.
        weight: > 0, of the L1 loss.
    """
    image_NCHW = image_NCHW.view_as(image_NCHW)
    longest = weight / (len(image_NCHW) * math.sqrt(image_NCHW[0].numel()))

    def shorten(gradient_NCHW: Tensor) -> Tensor:
        length_N111 = torch.linalg.vector_norm(gradient_NCHW, dim=(1, 2, 3), keepdim=True)
        shortened_NCHW: Tensor = gradient_NCHW * (longest / length_N111.clamp_min(longest))
        return shortened_NCHW

    if image_NCHW.requires_grad:
        image_NCHW.register_hook(shorten)  # type: ignore[no-untyped-call]
    return image_NCHW


def ranking_share(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Share of places where the real logit is above the fake one, [] float32; .5 is chance.

    A discriminator's loss depends on its offset, which averaging over sites moves; what it ranks does not.

    Raises:
        ValueError: if the shapes differ.
    """
    _require_same_shape("ranking_share", real_logits, fake_logits)
    return (real_logits > fake_logits).float().mean()


def gram_loss(real_features: Sequence[Tensor], fake_features: Sequence[Tensor]) -> Tensor:
    """Sum over layers of the squared difference of Gram matrices (FILM, Reda et al. 2022), [] float32 >= 0.

    Which features occur together and how strongly, wherever they are: a blur, which L1 forgives, has too little of
    all. Relative to the squares of the real frames' matrices, layer by layer: 1 for frames without any feature.

    Args:
        real_features: each [N, channels, h, w], detached here.
        fake_features: the same layers for generated frames.
    """
    return torch.stack(
        [_gram_distance(real.detach(), fake) for real, fake in zip(real_features, fake_features, strict=True)]
    ).sum()


def _gram_distance(real_NCHW: Tensor, fake_NCHW: Tensor) -> Tensor:
    real_NCC = _gram(real_NCHW)
    return functional.mse_loss(_gram(fake_NCHW), real_NCC) / real_NCC.square().mean().clamp_min(1e-12)


def _gram(features_NCHW: Tensor) -> Tensor:
    flat_NCP = features_NCHW.flatten(2)
    return flat_NCP @ flat_NCP.mT / flat_NCP.shape[-1]


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


def _require_same_shape(where: str, one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape:
        raise ValueError(f"{where}: shapes differ, {tuple(one.shape)} and {tuple(other.shape)}")
