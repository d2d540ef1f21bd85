"""A server that reads a site's frame: it chooses settings and weights so that the update is linear in one frame.

The transformer's first layer multiplies the patches of a frame, p_1 ... p_P, with a matrix E. Its gradient is
sum_p d_p p_p^T, with d_p the gradient at token p, and the gradient of the position embedding is d_p itself: two parts
of the same update, from which the patches follow by least squares. For this
- E is zero and all other weights are fixed by the server, so that the d_p do not depend on the frame;
- the position embeddings point in different directions, so that the d_p are linearly independent;
- the driving frame is cut off: of each pair the source frame alone has a gradient;
- the gradients are as small as Adam's epsilon, where its first step lr * g / (|g| + epsilon) can be undone.
The method is that of gradient inversion in closed form for a linear layer with its bias (Phong et al. 2018); weights
made for it are those of Boenisch et al. 2023, When the Curious Abandon Honesty.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from data_partition.batches import iter_batches
from data_partition.partition import ClientData
from federation.settings import Settings
from model.batch import ReenactmentBatch
from model.designs.registry import build_networks
from model.landmarks.geometry import PartSizes
from model.networks.bundle import Networks
from model.setting import Scalar
from model.training.trainer import GANTrainer

FloatArray = npt.NDArray[np.floating]

READING: dict[str, Scalar] = {
    "batch-size": 1,
    "local-steps": 1,
    "embed-dim": 64,
    "num-vit-layers": 1,
    "learning-rate-generator": 0.01,
    "use-landmark-flow": False,
    "perceptual-backbone": "none",
    "adversarial-from-step": 10_000_000,
    "weight-flow-landmarks": 0.01,
    **dict.fromkeys(("weight-l1-image", "weight-l1-parts", "weight-landmark-regression", "weight-lgan-l1"), 0.0),
}
"""Settings that leave a round one pair and one term."""

_ADAM_EPSILON = 1e-8
_WANTED_GRADIENT = 1e-8
_EMBED, _POSITION = "generator.extractor.embed.weight", "generator.extractor.position"


def reading_weights(settings: Settings, part_sizes: PartSizes) -> list[FloatArray]:
    """The global tensors that the server sends, in their order; gradients are scaled on a frame of its own."""
    networks = build_networks(settings.model, part_sizes, seed=0)
    with torch.no_grad():
        for name, parameter in networks.named_parameters():
            is_read = name.startswith(("generator.extractor.", "generator.flow_head."))
            if not is_read or name.startswith("generator.flow_head.mixer."):
                parameter.zero_()
        extractor, dim = networks.generator.extractor, settings.model.embed_dim
        extractor.embed.weight.zero_()
        extractor.embed.bias.zero_()
        num_patches = len(extractor.position) - 3
        extractor.position.zero_()
        extractor.position[:num_patches, :num_patches] = torch.eye(num_patches)
        for layer in extractor.layers:
            queries_keys, values = layer.to_qkv.weight.split([2 * dim, dim])
            queries_keys.zero_()  # every token looks at all tokens alike
            values.copy_(values[:, :1] * (1 - 2 * (torch.arange(dim) % 2)))  # and d_p is as large along all dimensions
            layer.mlp[2].weight.zero_()
            layer.mlp[2].bias.zero_()
        networks.generator.flow_head.mlp[0].weight[:, 256:].zero_()  # 2 tokens x 128 of the driving frame
        networks.generator.flow_head.to_flow.weight.mul_(_WANTED_GRADIENT / _typical_gradient(networks, settings))
    return list(networks.travelling_tensors().values())


def read_frame(settings: Settings, part_sizes: PartSizes, sent: list[FloatArray], got: list[FloatArray]) -> FloatArray:
    """The luma [S, S], in [-1, 1], of the frame that made an update.

    Args:
        settings: of the run.
        part_sizes: of the run.
        sent: the tensors that the site was sent.
        got: the tensors that it answered.
    """
    names = list(build_networks(settings.model, part_sizes, seed=0).travelling_tensors())
    gradient = {}
    for name in (_EMBED, _POSITION):
        old, new = (np.asarray(arrays[names.index(name)], np.float64) for arrays in (sent, got))
        step = np.clip((old - new) / settings.optimizer.learning_rate_generator / settings.rounds.local_steps, -1, 1)
        gradient[name] = _ADAM_EPSILON * step / np.maximum(1 - np.abs(step), 1e-9)
    num_patches = len(gradient[_POSITION]) - 3
    per_token_PD = gradient[_POSITION][:num_patches]
    patches_PF = np.linalg.lstsq(per_token_PD.T, gradient[_EMBED], rcond=None)[0]
    side, patch = settings.model.image_size_px // settings.model.patch_size_px, settings.model.patch_size_px
    blocks = patches_PF.reshape(side, side, patch, patch)
    return np.clip(blocks.transpose(0, 2, 1, 3).reshape(side * patch, side * patch), -1, 1)


def frames_of_round(settings: Settings, data: ClientData, partition_id: int, round_number: int) -> FloatArray:
    """Luma [B, S, S], in [-1, 1], of the source frames of a round, which the server does not have."""
    rng = np.random.default_rng((settings.rounds.seed, partition_id, round_number))
    batches = iter_batches(
        data,
        size_px=settings.model.image_size_px,
        batch_size=settings.optimizer.batch_size,
        rng=rng,
        split="train",
    )
    frames = [next(batches).source_NCHW.numpy() for _ in range(settings.rounds.local_steps)]
    return np.tensordot(np.concatenate(frames), (0.299, 0.587, 0.114), axes=(1, 0))


def psnr(first: FloatArray, second: FloatArray) -> float:
    """Decibels, of values in [-1, 1]."""
    return float(10 * np.log10(4 / np.square(first - second).mean()))


def _typical_gradient(networks: Networks, settings: Settings) -> float:
    """Median size of the first layer's gradient on a frame of noise."""
    size_px = settings.model.image_size_px
    rng = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=rng)

    batch = ReenactmentBatch(
        source_NCHW=noise(1, 3, size_px, size_px) * 2 - 1,
        driving_NCHW=noise(1, 3, size_px, size_px) * 2 - 1,
        source_landmarks_NKC=noise(1, 68, 2) * size_px,
        driving_landmarks_NKC=noise(1, 68, 2) * size_px,
        source_heatmap_NCHW=torch.zeros(1, 1, size_px, size_px),
        heatmap_NCHW=torch.zeros(1, 1, size_px, size_px),
        pose_NC=torch.zeros(1, 3),
        au_NA=torch.zeros(1, 18),
        au_intensity_NA=torch.zeros(1, 18),
        identity_N=torch.zeros(1, dtype=torch.int64),
    )
    loss = dataclasses.replace(settings.loss, perceptual_backbone="none")
    with torch.enable_grad():
        trainer = GANTrainer(
            networks, loss=loss, optimizer=settings.optimizer, perceptual=None, device=torch.device("cpu")
        )
        drawn = trainer.objective.draw(batch)
        terms = trainer.objective.generator_terms(batch, drawn, 0)
        (settings.loss.weight_flow_landmarks * terms["flow_landmarks"]).backward()
    gradient = networks.generator.extractor.embed.weight.grad
    assert gradient is not None
    nn.Module.zero_grad(networks)
    return float(gradient.abs().median())
