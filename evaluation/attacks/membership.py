"""How large a model's error is on single frames: what an attacker thresholds to tell what it was trained on.

Yeom et al. 2018 (Privacy Risk in Machine Learning): a frame that was trained on has the smaller loss. Frames are hard
or easy by themselves, so the loss is also compared with what copying the source gets, and with models that were trained
without the person (difficulty calibration: Watson et al. 2022; Carlini et al. 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from data_partition.batches import FrameRef, Pair, make_batch
from data_partition.shards.shard import Shard
from evaluation.attacks.separation import FloatArray
from evaluation.figures.bootstrap import block_numbers
from evaluation.pairs import second_of
from model.designs.registry import design_of
from model.networks.bundle import Networks

_BATCH_SIZE = 8
_LEAST_APART_S = 1.0
"""Seconds between a frame and the source it is drawn from: neighbours are almost the same picture."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Probe:
    """Frames of one person that are asked about, each drawn from a source frame of its clip."""

    shard: Shard
    driving_N: NDArray[np.int64]
    """[N] rows of the frames."""
    source_N: NDArray[np.int64]
    """[N] rows of the sources, all of the training part."""

    @property
    def is_trained_on_N(self) -> NDArray[np.bool_]:
        """[N] whether a frame is of the training part."""
        return ~self.shard.is_test_F[self.driving_N]


def draw_probe(shard: Shard, *, most: int, seed: int) -> Probe:
    """Held-out frames of a person and as many of the training part, evenly spread, each with a random source.

    Args:
        shard: the person.
        most: frames of each kind, at most.
        seed: of the sources.

    Returns:
        The probe; empty if no clip has a training frame at least a second away.
    """
    rng = np.random.default_rng(seed)
    held_out = np.flatnonzero(shard.is_test_F)
    trained = np.flatnonzero(~shard.is_test_F)
    num_each = min(most, len(held_out), len(trained))
    chosen = [rows[np.linspace(0, len(rows) - 1, num_each).astype(int)] for rows in (trained, held_out) if num_each]
    pairs = []
    for row in np.concatenate(chosen) if chosen else ():
        is_far = np.abs(shard.timestamp_s[trained] - shard.timestamp_s[row]) >= _LEAST_APART_S
        sources = trained[is_far & (shard.clip[trained] == shard.clip[row])]
        if len(sources):
            pairs.append((int(row), int(rng.choice(sources))))
    driving, source = np.array(pairs, np.int64).reshape(-1, 2).T
    return Probe(shard=shard, driving_N=driving, source_N=source)


def seconds(shard: Shard, rows_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """[N] number of the second of its clip that each frame is from, different for different clips."""
    return block_numbers([second_of(FrameRef(shard, int(row))) for row in rows_N])


@torch.no_grad()
def losses(networks: Networks, probe: Probe, size_px: int) -> tuple[FloatArray, FloatArray]:
    """Mean absolute error of each drawn frame, and of the source itself in its place.

    Args:
        networks: in evaluation mode, on the CPU.
        probe: N frames.
        size_px: image side S of the networks.

    Returns:
        [N] the model's and [N] the source's, both > 0, in units of the model's range [-1, 1].
    """
    drawn, copied = [], []
    for start in range(0, len(probe.driving_N), _BATCH_SIZE):
        rows = slice(start, start + _BATCH_SIZE)
        pairs = [
            Pair(0, FrameRef(probe.shard, int(source)), FrameRef(probe.shard, int(driving)))
            for source, driving in zip(probe.source_N[rows], probe.driving_N[rows], strict=True)
        ]
        needs_mesh = design_of(networks.config.network).needs_mesh
        batch = make_batch(pairs, size_px, use_irises=networks.config.use_irises, needs_mesh=needs_mesh)
        image_NCHW = networks.generator(batch.generator_inputs()).image_NCHW
        drawn.append((image_NCHW - batch.driving_NCHW).abs().mean(dim=(1, 2, 3)))
        copied.append((batch.source_NCHW - batch.driving_NCHW).abs().mean(dim=(1, 2, 3)))
    return _joined(drawn), _joined(copied)


def _joined(parts: list[torch.Tensor]) -> FloatArray:
    """All values in float64, kept above zero so that their logarithm is finite."""
    values = torch.cat(parts).numpy().astype(np.float64) if parts else np.zeros(0)
    return np.maximum(values, 1e-9)
