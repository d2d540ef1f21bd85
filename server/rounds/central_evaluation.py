"""What the server can see of the model's quality while it trains: pictures that it may hold, never a site's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from data_partition.batches import PairSampler, make_batch
from data_partition.partition import site_data
from data_partition.shards.shard import open_dataset
from evaluation.metrics.pixels import finite_psnr_db, l1, ssim
from federation.settings import Settings
from model.batch import ReenactmentBatch
from model.checkpoint import Checkpoint
from model.designs.registry import design_of
from model.frames import to_frames
from model.training.trainer import pick_device
from server.run_folder.history import RoundRow

_PAIRS_PER_IDENTITY = 8


class CentralEvaluation:
    """Self-reenactment on held-out frames of the dataset in eval-data-dir; the same pairs in every round.

    The landmarks are the driving frame's own, so the people need not be those of the federation.
    """

    def __init__(self, settings: Settings) -> None:
        """Load the pairs.

        Raises:
            DataError: if eval-data-dir cannot be used.
        """
        self._every = settings.run.eval_every
        self._device = pick_device(settings.optimizer.device)
        self._batches: list[ReenactmentBatch] = []
        for shard in open_dataset(Path(settings.run.eval_data_dir)):
            sampler = PairSampler(site_data(shard, 0), split="test")
            driving = np.linspace(0, sampler.num_frames - 1, min(_PAIRS_PER_IDENTITY, sampler.num_frames))
            pairs = sampler.pairs_driven_by(driving.round().astype(np.int64), np.random.default_rng(0))
            self._batches.append(
                make_batch(
                    pairs,
                    settings.model.image_size_px,
                    use_irises=settings.model.use_irises,
                    needs_mesh=design_of(settings.model.network).needs_mesh,
                )
            )

    def after_round(self, row: RoundRow, state: Checkpoint) -> RoundRow:
        """The row with the measurement, every eval-every rounds."""
        if row.round % self._every:
            return row
        return dataclasses.replace(row, evaluation=self.measure(state))

    def measure(self, state: Checkpoint) -> dict[str, float]:
        """Means over all pairs of a round's networks (their average over rounds, if the run keeps one).

        Returns:
            `l1` (0 to 1), `psnr_db`, `ssim` of the drawing, and of the source itself as `copy_source_...`.
        """
        networks = state.networks().to(self._device)
        values: dict[str, list[float]] = {}
        for batch in self._batches:
            on_device = batch.to(self._device)
            with torch.no_grad():
                drawn_NCHW = networks.generator(on_device.generator_inputs()).image_NCHW
            truths, sources = to_frames(batch.driving_NCHW), to_frames(batch.source_NCHW)
            for prefix, frames in (("", to_frames(drawn_NCHW)), ("copy_source_", sources)):
                for truth, frame in zip(truths, frames, strict=True):
                    for name, metric in (("l1", l1), ("psnr_db", finite_psnr_db), ("ssim", ssim)):
                        values.setdefault(prefix + name, []).append(metric(truth, frame))
        return {name: float(np.mean(per_pair)) for name, per_pair in values.items()}
