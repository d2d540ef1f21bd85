"""Pictures computed back from a site's update, in closed form.

The feature extractor adds a learnt position to each embedded patch: x_p = W patch_p + b + position_p. The gradient of
the position is therefore g_p = dL/dx_p itself, and that of W is sum over p of g_p patch_p^T: with G [P, D] known, all
patches of a single picture follow from one least squares problem, G^T patches = dL/dW. (That gradients of the positions
give a Vision Transformer away: Lu et al. 2022, APRIL.) A round's update is no gradient of one picture: it sums many,
and Adam divides each value by its own size. `set_trap` shows what a server gains that chooses the weights it sends:
with them only one picture of a round has a gradient at all, so small that Adam's division does nothing (trap weights:
Boenisch et al. 2023, When the Curious Abandon Honesty). `set_near_trap` is the same by a server that knows what a site
takes for weights of the run: as near to the trap as training could have come.

Shapes: P patches, D width of the tokens, F pixels of a patch, T target frames, S image side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from data_partition.batches import load_frame
from data_partition.partition import ClientData
from data_partition.shards.shard import Shard
from evaluation.attacks.separation import FloatArray
from evaluation.metrics.pixels import ssim
from federation.local_training import local_batches, local_trainer
from federation.reach import reach
from federation.secure_sum.vector import FRACTION_BITS
from federation.settings import Settings
from model.batch import NUM_LANDMARKS, ReenactmentBatch
from model.designs.glr import GLR
from model.designs.registry import design_of
from model.networks.bundle import NamedArrays, Networks
from model.networks.feature_extractor import ViTExtractor
from model.networks.flow import FlowHead
from model.training.one_sided import one_sided
from model.training.perceptual import PerceptualLoss
from model.training.trainer import run_steps

Steps = Mapping[str, FloatArray]
"""Tensor name to what a round added to it."""

WEIGHT, POSITION = "generator.extractor.embed.weight", "generator.extractor.position"

_LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114])
_CUTS = (1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""Singular values below these shares of the largest are left out; the best result counts, to the attacker's good."""
_MOST_TARGETS = 1000
_TRAP_GAIN, _TRAP_SPREAD, _TRAP_BIAS = 2.0, 0.2, 10.0
_TRAP_SCALE = 1 / 32
"""Of the embedding and the positions: small numbers show small steps, float32 has seven digits."""
_TRAP_GRADIENT = 3e-11
"""Largest gradient of a position under the trap: before the weight of the term; far below Adam's epsilon of 1e-8."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LocalUpdate:
    """A site's round."""

    steps: dict[str, FloatArray]
    one_sided: str
    """Why a deployed site would not send it (`model.training.one_sided`); empty if it would."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Likeness:
    """How like one of the target frames a picture is."""

    target: int
    """Index of the most similar one."""
    psnr_db: float
    """Of luma, with brightness and contrast fitted: a closed form knows neither."""
    ssim: float


@dataclass(frozen=True, eq=False)
class Targets:
    """Luma of frames that an attacker is after, and how pictures are compared with them."""

    luma_THW: FloatArray
    """[T, S, S] in 0..255."""

    @classmethod
    def of(cls, shards: Sequence[Shard], size_px: int) -> Targets:
        """The training frames of people at the model's size, evenly spread if there are very many."""
        frames = []
        for shard in shards:
            rows = np.flatnonzero(~shard.is_test_F)
            for row in rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MOST_TARGETS)).astype(int))]:
                frames.append(np.einsum("c,chw->hw", _LUMA_WEIGHTS, load_frame(shard, int(row), size_px).image_CHW))
        return cls(np.stack(frames))

    @property
    def mean_HW(self) -> FloatArray:
        """[S, S] their mean: what can be guessed without a single update."""
        mean: FloatArray = self.luma_THW.mean(axis=0)
        return mean

    def likeness(self, picture_HW: FloatArray, target: int | None = None) -> Likeness:
        """To one target, or to the one that the picture is most like."""
        chosen = self.luma_THW if target is None else self.luma_THW[target : target + 1]
        centred_TP: FloatArray = chosen.reshape(len(chosen), -1) - chosen.mean(axis=(1, 2))[:, None]
        picture_P = (picture_HW - picture_HW.mean()).ravel()
        energy = max(float(picture_P @ picture_P), 1e-30)
        gain_T: FloatArray = np.maximum(centred_TP @ picture_P / energy, 0)  # a negative is no likeness
        error_T = np.square(centred_TP - gain_T[:, None] * picture_P).mean(axis=1)
        best = int(error_T.argmin())
        fitted_HW = gain_T[best] * picture_P.reshape(picture_HW.shape) + chosen[best].mean()
        return Likeness(
            target=best if target is None else target,
            psnr_db=float(10 * np.log10(255**2 / max(error_T[best], 1e-10))),
            ssim=ssim(_frame(chosen[best]), _frame(fitted_HW)),
        )


def can_invert(settings: Settings) -> bool:
    """Whether the network has the layer that the closed form is about."""
    return WEIGHT in design_of(settings.model.network).watched and settings.model.backbone == "vit"


def patches_from(weight_DF: FloatArray, position_PD: FloatArray, cut: float) -> FloatArray:
    """[P, F] patches with position_PD^T patches = weight_DF, in least squares.

    Args:
        weight_DF: gradient of the embedding's weights, or a step along it.
        position_PD: the same of the positions of the patches.
        cut: singular values below this share of the largest count as zero.
    """
    return np.asarray(np.linalg.lstsq(position_PD.T, weight_DF, rcond=cut)[0], np.float64)


def inverted(steps: Steps, targets: Targets, size_px: int) -> tuple[FloatArray, Likeness]:
    """The best picture that the closed form gives for a round's steps, and how like a target it is.

    Args:
        steps: at least those of `WEIGHT` and `POSITION`.
        targets: to choose among the cuts, which an attacker does by eye.
        size_px: image side S.
    """
    weight_DF, position = steps[WEIGHT], steps[POSITION]
    side_px = round(weight_DF.shape[1] ** 0.5)
    position_PD = position[: (size_px // side_px) ** 2]
    pictures = [_picture(patches_from(weight_DF, position_PD, cut), size_px) for cut in _CUTS]
    return max(((p, targets.likeness(p)) for p in pictures), key=lambda found: found[1].psnr_db)


def round_batches(data: ClientData, settings: Settings, seed: int) -> Iterator[ReenactmentBatch]:
    """The batches of a site's round: local-steps of them, drawn and recoloured as in training."""
    rng = np.random.default_rng((settings.rounds.seed, seed))
    return islice(local_batches(data, settings, rng), settings.rounds.local_steps)


def local_update(
    networks: Networks,
    batches: Iterator[ReenactmentBatch],
    settings: Settings,
    *,
    perceptual: PerceptualLoss | None,
    first_step: int,
    rng: np.random.Generator,
) -> LocalUpdate:
    """What a site has after a round from these networks, less what it was sent; with fresh optimisers.

    A server can have every round begin with fresh optimisers: it sends the number of the round, and in round 1 there
    are no moments.

    Args:
        networks: trained in place.
        batches: local-steps of them.
        settings: of the run; its clipping and noise are applied.
        perceptual: frozen feature distance, or None.
        first_step: steps taken in earlier rounds, for the schedules.
        rng: of the noise.
    """
    before = networks.travelling_tensors()
    trainer = local_trainer(networks, settings, perceptual=perceptual, device=torch.device("cpu"), step=first_step)
    run_steps(trainer, batches, settings.rounds.local_steps)
    after = networks.travelling_tensors()
    steps = {name: np.subtract(after[name], before[name], dtype=np.float64) for name in before}
    rate = settings.optimizer.learning_rate_generator
    reason = one_sided(trainer.tally, before, after, learning_rate=rate, is_fresh=True)
    return LocalUpdate(steps=_noised(steps, settings, rng), one_sided=reason)


def summed(sites: Sequence[Steps], weights: Sequence[float]) -> dict[str, FloatArray]:
    """The weighted mean that a secure sum gives, in its fixed-point numbers: the two tensors that are looked at."""
    scale = 2.0**FRACTION_BITS
    return {
        name: np.sum([np.rint(w * site[name] * scale) for site, w in zip(sites, weights, strict=True)], axis=0)
        / (scale * sum(weights))
        for name in (WEIGHT, POSITION)
    }


@torch.no_grad()
def set_trap(networks: Networks, *, seed: int) -> None:
    """Give GLR's networks weights of which a server can read a picture, within any settings.

    The extractor becomes random, its positions far apart, so that every patch has a gradient of a direction of its own.
    Nothing comes back to it through the flow head, whose first two layers are zero and stay so. All units of the
    landmark head look at one random direction u of the token; their weights onwards are so small that no step counts
    but the first. A picture has a gradient only if u times its token is above a threshold: `set_threshold`. Once a
    picture has passed, these weights are no longer small: one that is drawn twice in a round, without random colours,
    spoils it.
    """
    generator = torch.Generator().manual_seed(seed)
    _spread_extractor(networks, generator)
    _set_gate(networks, generator, scale=1.0, bias=_TRAP_BIAS)


@torch.no_grad()
def set_near_trap(networks: Networks, settings: Settings, *, num_rounds: int, seed: int) -> None:
    """`set_trap` as near as rounds of honest training could have come from the networks as they are.

    Args:
        networks: as a site knows them; changed.
        settings: of the run.
        num_rounds: that a server says there were since the site knew them.
        seed: as of `set_trap`.
    """
    known, generator = networks.travelling_tensors(), torch.Generator().manual_seed(seed)
    _spread_extractor(networks, generator)
    _load_within_reach(networks, known, settings, num_rounds)
    width = networks.config.embed_dim
    bias = reach("generator.landmark_head.mlp.0.bias", width, settings, num_rounds).rms
    _set_gate(networks, generator, scale=min(1.0, 0.5 * bias / width**0.5), bias=bias)  # a token is about as long
    _load_within_reach(networks, known, settings, num_rounds)


@torch.no_grad()
def projections(networks: Networks, batch: ReenactmentBatch) -> Tensor:
    """[2 N] of source and driving frames: what the trap compares with its threshold."""
    extractor, _, first, _ = _layers(networks)
    tokens_ND: Tensor = extractor(torch.cat([batch.source_NCHW, batch.driving_NCHW]))[:, 2]
    return tokens_ND @ first.weight[0]


@torch.no_grad()
def set_threshold(networks: Networks, projection_N: Tensor) -> None:
    """Let the one picture with the largest projection pass, and no other."""
    highest = np.unique(projection_N.numpy().astype(np.float64))[-2:]
    _layers(networks)[2].bias.fill_(-float(highest.mean()))


def gradients_of(networks: Networks, image_NCHW: Tensor, landmarks_NKC: Tensor) -> dict[str, FloatArray]:
    """Gradients of the two tensors by the landmark regression of these pictures: what one plain step would show."""
    networks.requires_grad_(True)
    extractor, *_ = _layers(networks)
    drawn = networks.generator.landmark_head(extractor(image_NCHW)[:, 2])  # type: ignore[operator]
    wanted = {WEIGHT: extractor.embed.weight, POSITION: extractor.position}
    found = torch.autograd.grad(functional.l1_loss(drawn, landmarks_NKC), list(wanted.values()))
    return {name: value.numpy().astype(np.float64) for name, value in zip(wanted, found, strict=True)}


def _layers(networks: Networks) -> tuple[ViTExtractor, FlowHead, nn.Linear, nn.Linear]:
    """Extractor, flow head, and the first and last layer of the landmark head."""
    generator = networks.generator
    assert isinstance(generator, GLR) and isinstance(generator.extractor, ViTExtractor)
    first, last = generator.landmark_head.mlp[0], generator.landmark_head.mlp[-1]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    return generator.extractor, generator.flow_head, first, last


def _spread_extractor(networks: Networks, generator: torch.Generator) -> None:
    extractor, *_ = _layers(networks)
    for name, parameter in extractor.named_parameters():
        is_layer, is_norm_weight = name.startswith("layers"), "norm" in name and name.endswith("weight")
        if parameter.dim() == 1:
            parameter.fill_(1.0 if is_norm_weight else 0.0)
            continue
        deviation = _TRAP_SPREAD if name in ("position", "tokens") else (3 * parameter.shape[1]) ** -0.5
        parameter.normal_(0, deviation * (_TRAP_GAIN if is_layer else _TRAP_SCALE), generator=generator)


def _set_gate(networks: Networks, generator: torch.Generator, *, scale: float, bias: float) -> None:
    """Close the flow head and make a gate of the landmark head, its direction of length `scale`."""
    _, flow, first, last = _layers(networks)
    for parameter in (*flow.compress.parameters(), *flow.mlp[0].parameters(recurse=False)):
        parameter.zero_()
    width = first.in_features
    first.weight.copy_((scale * torch.randn(width, generator=generator) / width**0.5).expand_as(first.weight))
    last.bias.fill_(bias)  # beyond every landmark, if it can be, so that all their errors have one sign
    last.weight.fill_(1.0)
    first.bias.fill_(100.0)  # every unit on, to see how large a gradient is
    size_px = networks.config.image_size_px
    largest = _largest_gradient(networks, torch.rand(1, 3, size_px, size_px, generator=generator) * 2 - 1)
    last.weight.fill_(_TRAP_GRADIENT / max(largest, 1e-30))
    first.bias.zero_()


def _load_within_reach(networks: Networks, known: NamedArrays, settings: Settings, num_rounds: int) -> None:
    """Bring every tensor as near to the known one as a site wants it after so many rounds."""
    tensors = {}
    for name, wanted in networks.travelling_tensors().items():
        rms, largest = (0.999 * limit for limit in reach(name, wanted.size, settings, num_rounds))  # float32 rounds
        step = np.clip(np.subtract(wanted, known[name], dtype=np.float64), -largest, largest)
        step *= min(1.0, rms / max(float(np.sqrt(np.square(step).mean())), 1e-30))
        tensors[name] = np.asarray(known[name] + step, np.float32)
    networks.load_tensors(tensors)


def _largest_gradient(networks: Networks, image_NCHW: Tensor) -> float:
    """Largest gradient of a position through the landmark head, for the error in sides of the frame."""
    with torch.enable_grad():
        found = gradients_of(networks, image_NCHW, torch.zeros(1, NUM_LANDMARKS, 2))
    return float(np.abs(found[POSITION]).max()) / image_NCHW.shape[-1]


def _noised(steps: dict[str, FloatArray], settings: Settings, rng: np.random.Generator) -> dict[str, FloatArray]:
    """Clipped and noised as the run asks; the same where it asks for nothing."""
    clip_norm, deviation = settings.privacy.dp_clip_norm, settings.privacy.dp_noise_multiplier
    if not deviation:
        return steps
    norm = float(np.sqrt(sum(np.square(step).sum() for step in steps.values())))
    factor = min(1.0, clip_norm / max(norm, 1e-30))
    return {name: factor * step + rng.normal(0, deviation * clip_norm, step.shape) for name, step in steps.items()}


def _picture(patches_PF: FloatArray, size_px: int) -> FloatArray:
    """[S, S] the patches in their places; clipped where a closed form runs wild."""
    side_px = round(patches_PF.shape[1] ** 0.5)
    num = size_px // side_px
    tiles: FloatArray = np.clip(patches_PF, -2, 2).reshape(num, num, side_px, side_px)
    return tiles.transpose(0, 2, 1, 3).reshape(size_px, size_px)


def _frame(luma_HW: FloatArray) -> NDArray[np.uint8]:
    """[S, S, 3] grey frame."""
    grey = np.clip(np.rint(luma_HW), 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB))
