"""Self-reenactment on held-out frames: a model against the copy-source baseline (thesis 4.2 and 4.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from data_partition.batches import Pair, PairSampler, make_batch
from data_partition.partition import site_data
from data_partition.shard import Shard
from evaluation.frames import Frame, to_frames
from evaluation.image_metrics import l1, psnr_db, ssim
from model.errors import DataError
from model.metrics import WeightedMean, merge
from model.networks import Networks

_METRICS = {"psnr_db": psnr_db, "ssim": ssim, "l1": l1}


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelQuality:
    """Mean of each pixel metric over pairs."""

    psnr_db: float
    """Peak signal-to-noise ratio (Eq 4.2), decibels, higher is better."""
    ssim: float
    """Windowed structural similarity (Eq 4.3), at most 1, higher is better."""
    l1: float
    """Mean absolute difference, 0 to 1, lower is better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonRow:
    """Model and baseline on the same pairs."""

    identity: str
    num_pairs: int
    model: PixelQuality
    copy_source: PixelQuality
    """The source frame handed back unchanged: what a model that ignores the driving frame would get."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One row per identity and one over all pairs."""

    rows: tuple[ComparisonRow, ...]
    overall: ComparisonRow

    def to_dict(self) -> dict[str, object]:
        """Plain values, ready for JSON."""
        return asdict(self)


def compare_with_copy_source(
    networks: Networks,
    shards: Sequence[Shard],
    identities: Sequence[str],
    *,
    num_pairs: int,
    seed: int,
    batch_size: int = 16,
    device: torch.device,
) -> Comparison:
    """Evaluate self-reenactment on `num_pairs` seeded pairs of every shard's test frames.

    Source and driving are two different test frames of one clip. The pairs of an identity depend on the seed
    and the identity's row alone, and every metric is taken pair by pair, so neither the batch size nor the
    other shards change a value.

    Args:
        networks: in evaluation mode, on `device`.
        shards: at least one; each must belong to one of `identities`.
        identities: names of the federation's identities in embedding-row order.
        num_pairs: pairs per identity, >= 1.
        seed: of the pair draws.
        batch_size: pairs generated at once; only speed depends on it.
        device: where the networks are.

    Raises:
        DataError: for a shard of an unknown identity, without test pairs, or with an unreadable frame.
    """
    rows: list[ComparisonRow] = []
    total: dict[str, WeightedMean] = {}
    for shard in shards:
        pairs = draw_test_pairs(shard, identities, num_pairs=num_pairs, seed=seed)
        means: dict[str, WeightedMean] = {}
        for driving, generated, source in _frames(networks, pairs, batch_size, device):
            means = merge(means, _measure("model", driving, generated))
            means = merge(means, _measure("copy_source", driving, source))
        rows.append(_row(shard.identity, means))
        total = merge(total, means)
    return Comparison(rows=tuple(rows), overall=_row("all", total))


def draw_test_pairs(shard: Shard, identities: Sequence[str], *, num_pairs: int, seed: int) -> list[Pair]:
    """`num_pairs` pairs of different test frames of one clip of the shard, the same for the same seed.

    Raises:
        DataError: if the shard's identity is not among `identities` or has no clip with two test frames.
    """
    if shard.identity not in identities:
        raise DataError(
            f"{shard.path}: identity {shard.identity} is not among the trained ones "
            f"({', '.join(identities)}); evaluate on the dataset the model was trained on"
        )
    index = list(identities).index(shard.identity)
    sampler = PairSampler(site_data(shard, index), split="test")
    return sampler.draw(num_pairs, np.random.default_rng([seed, index]))


@torch.inference_mode()
def _frames(
    networks: Networks, pairs: Sequence[Pair], batch_size: int, device: torch.device
) -> Iterator[tuple[Frame, Frame, Frame]]:
    """(driving, generated, source) of each pair."""
    for start in range(0, len(pairs), batch_size):
        batch = make_batch(pairs[start : start + batch_size], networks.config.image_size_px).to(device)
        output = networks.generator(
            batch.source_NCHW,
            batch.driving_NCHW,
            batch.source_landmarks_NKC,
            batch.driving_landmarks_NKC,
            batch.heatmap_NCHW,
        )
        columns = (batch.driving_NCHW, output.image_NCHW, batch.source_NCHW)
        yield from zip(*map(to_frames, columns), strict=True)


def _measure(who: str, truth: Frame, frame: Frame) -> dict[str, WeightedMean]:
    return {f"{who}/{name}": WeightedMean.of(metric(truth, frame), 1) for name, metric in _METRICS.items()}


def _row(identity: str, means: dict[str, WeightedMean]) -> ComparisonRow:
    def quality(who: str) -> PixelQuality:
        return PixelQuality(**{name: means[f"{who}/{name}"].value for name in _METRICS})

    num_pairs = int(means["model/l1"].weight)
    return ComparisonRow(
        identity=identity, num_pairs=num_pairs, model=quality("model"), copy_source=quality("copy_source")
    )
