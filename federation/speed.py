"""How fast a dataset can be loaded and trained on here: samples a second of the loader and of the trainer.

A sample is one (source, driving) pair. Both are measured as training runs them: in one thread after another, with as
many CPU threads as the settings give it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from data_partition.batches import FrameCache
from data_partition.partition import ClientData, IdentityFrames
from data_partition.shards.shard import Shard
from federation.local_training import local_batches
from federation.settings import Settings
from federation.step_cost import Workload, calls_per_s
from model.errors import DataError

MIN_SECONDS = 3.0
"""Each measurement goes on at least that long."""
NUM_WARM_FRAMES = 64
"""Frames that the warm loader draws from, small enough for any memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """Samples a second."""

    loader_cold: float
    """Every frame decoded anew; the files themselves may be in the operating system's memory."""
    loader_warm: float
    """Every frame in memory."""
    trainer: float
    """Of the optimiser steps alone, with every loss term switched on."""
    device: str
    """Where the trainer ran."""
    train_bytes: int
    """All training frames, decoded as the loader's cache holds them."""

    @property
    def loading_share(self) -> float:
        """Share of the training time that is spent loading if no frame is in memory, 0 to 1."""
        return self.trainer / (self.trainer + self.loader_cold)

    def to_lines(self) -> list[str]:
        """The figures, then one sentence that says whether the loader keeps up."""
        return [
            f"loader: {self.loader_cold:,.0f} samples/s decoding every frame, {self.loader_warm:,.0f} from memory",
            f"trainer: {self.trainer:,.1f} samples/s on {self.device}",
            self._conclusion(),
        ]

    def _conclusion(self) -> str:
        share = f"training spends at most {100 * self.loading_share:.1f} % of its time loading"
        if self.loader_cold >= self.trainer:
            return f"The loader keeps up with the trainer: {share}."
        if self.loader_warm >= self.trainer:
            needed = f"all training frames take {self.train_bytes / 1e6:,.0f} MB there"
            return f"The loader keeps up only from memory ({needed}): {share}; prepare with a smaller --size."
        return f"The loader does not keep up with the trainer: {share}; prepare with a smaller --size."


def measure_speed(shards: Sequence[Shard], settings: Settings, *, min_seconds: float = MIN_SECONDS) -> Speed:
    """Load and train for a few seconds each; nothing is written and no checkpoint is made.

    Args:
        shards: of the dataset, one per identity.
        settings: of the training; num-identities must not be smaller than the number of shards.
        min_seconds: of each of the three measurements; a slow trainer takes longer, as it makes whole steps.

    Raises:
        DataError: if there is no training pair, or a frame cannot be read.
        WeightsError: if the settings need a pretrained file that is not on this machine.
        ConfigError: if they name a device this machine lacks.
    """
    data = ClientData([IdentityFrames(index, shard, np.arange(shard.num_frames)) for index, shard in enumerate(shards)])
    if data.num_examples == 0:
        raise DataError(
            f"{', '.join(str(shard.path) for shard in shards[:3])}: every frame is kept for testing, wanted training "
            "frames to measure the speed with; name a dataset to train on"
        )
    num_threads = torch.get_num_threads()
    torch.set_num_threads(settings.optimizer.num_threads)
    try:
        return _measured(data, settings, min_seconds)
    finally:
        torch.set_num_threads(num_threads)


def _measured(data: ClientData, settings: Settings, min_seconds: float) -> Speed:
    batch_size, size_px = settings.optimizer.batch_size, settings.model.image_size_px
    work = Workload(data, settings)
    cold = work.batches(FrameCache(max_bytes=0))
    held = _few_frames(data)
    cache = FrameCache(max_bytes=2**30)
    for row in held.rows:
        cache.get(held.shard, int(row), size_px)
    warm = local_batches(ClientData([held]), settings, np.random.default_rng(settings.rounds.seed), cache)
    work.train(1)  # the first step also allocates
    return Speed(
        loader_cold=batch_size * calls_per_s(lambda: next(cold), min_seconds),
        loader_warm=batch_size * calls_per_s(lambda: next(warm), min_seconds),
        trainer=batch_size * work.steps_in_cycle * calls_per_s(work.train, min_seconds),
        device=str(work.trainer.device),
        train_bytes=data.num_examples * cache.num_bytes // len(held.rows),
    )


def _few_frames(data: ClientData) -> IdentityFrames:
    """Training frames of one clip, two at least; the caller knows that there are."""
    for part in data.frames:
        rows = part.split_rows("train")
        names, counts = np.unique(part.shard.clip[rows], return_counts=True)
        if len(rows) and counts.max() >= 2:
            of_clip = rows[part.shard.clip[rows] == names[counts.argmax()]]
            return part._replace(rows=of_clip[:NUM_WARM_FRAMES])
    raise AssertionError("a loader was made, so there is a pair")
