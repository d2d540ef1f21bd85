"""The same training on pooled data in one place: what federated training is compared with."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from data_partition.augment import recoloured
from data_partition.batches import iter_batches
from data_partition.partition import ClientData, make_partitions
from data_partition.shards.shard import open_dataset
from data_partition.statistics import local_statistics
from federation.settings import Settings
from model.checkpoint import Checkpoint
from model.designs.registry import build_networks, design_of, has_base
from model.errors import ConfigError
from model.training.moments import MomentStore
from model.training.trainer import GANTrainer, pick_device, run_steps
from server.rounds.recording import RoundHook, RoundOutcome, RunRecorder
from server.run_folder.folder import RunFolder, explaining_full_disks
from server.sites.agreement import SiteStatistics, initial_state
from server.termination import Termination, noticing


def train_centralized(settings: Settings, on_round: RoundHook | None = None) -> Path:
    """Train on all clients' frames together; a "round" is local-steps optimiser steps on the pool.

    The run folder has the same checkpoints and history as a federated run. With one client, federated and centralized
    training give the same bits.

    Args:
        settings: of the run; the partitioner does not matter, everything is pooled.
        on_round: called with every new row of the history.

    Returns:
        The run folder.

    Raises:
        ConfigError: if the settings do not fit the dataset or the run folder.
        DataError: if the dataset cannot be used.
        FederationError: if the run folder is in use.
        NonFiniteLossError: if a loss term stops being finite; the last checkpoint is kept.
        TerminatedError: on SIGTERM, after the step in progress; the round in progress is lost.
    """
    torch.set_num_threads(settings.optimizer.num_threads)
    data, identities = _pool(settings)
    with noticing(signal.SIGTERM) as termination:
        folder, checkpoint = RunFolder.open(settings)
        with folder:
            try:
                with explaining_full_disks(folder.path):
                    state = checkpoint or _new_state(settings, data, identities)
                    recorder = RunRecorder(settings, folder, state, on_round)
                    stop = recorder.run(_round_trainer(settings, data, state, folder, termination))
                    folder.write_completed(stop.reason)
                    return folder.path
            except Exception as error:
                folder.write_failed(error)
                raise


def _pool(settings: Settings) -> tuple[ClientData, list[str]]:
    """All frames as one client's, and the identities' names."""
    if settings.privacy.secure_aggregation or settings.privacy.dp_noise_multiplier:
        raise ConfigError(
            "secure-aggregation and dp-noise-multiplier are about what leaves a site, and centralized training has all "
            "frames in one place; turn them off"
        )
    shards = open_dataset(Path(settings.data.data_dir))
    if len(shards) > settings.model.num_identities:
        raise ConfigError(
            f"{settings.data.data_dir} has {len(shards)} identities, num-identities is "
            f"{settings.model.num_identities}; raise num-identities"
        )
    data = make_partitions(shards, settings.data, num_clients=1, seed=settings.rounds.seed)[0]
    return data, [shard.identity for shard in shards]


def _new_state(settings: Settings, data: ClientData, identities: list[str]) -> Checkpoint:
    model = settings.model
    arrays = local_statistics(
        data, num_identities=model.num_identities, size_px=model.image_size_px, has_base=has_base(model)
    )
    statistics = SiteStatistics.from_arrays(
        arrays, num_identities=model.num_identities, size_px=model.image_size_px, has_base=has_base(model)
    )
    unnamed = [f"identity-{index}" for index in range(len(identities), model.num_identities)]
    return initial_state(settings, [statistics], [*identities, *unnamed])


def _round_trainer(
    settings: Settings, data: ClientData, state: Checkpoint, folder: RunFolder, termination: Termination
) -> Callable[[int], RoundOutcome]:
    """Trains a round on the pool; networks and optimisers go on from round to round."""
    networks = build_networks(settings.model, state.part_sizes, seed=settings.rounds.seed)
    networks.load_tensors(state.tensors)
    trainer = GANTrainer(
        networks,
        loss=settings.loss,
        optimizer=settings.optimizer,
        perceptual=design_of(settings.model.network).load_perceptual(settings.loss),
        device=pick_device(settings.optimizer.device),
        step=state.round * settings.rounds.local_steps,
    )
    moments = MomentStore(folder=folder.path / "moments", run_id=folder.run_id, num_kept=settings.run.keep_checkpoints)
    moments.restore(trainer, state.round + 1)

    def train_round(round_number: int) -> RoundOutcome:
        rng = np.random.default_rng((settings.rounds.seed, 0, round_number))
        batches = iter_batches(
            data,
            size_px=settings.model.image_size_px,
            batch_size=settings.optimizer.batch_size,
            rng=rng,
            split="train",
        )
        batches = recoloured(batches, settings.data.colour_jitter, rng)
        means = run_steps(trainer, batches, settings.rounds.local_steps, on_step=lambda done: termination.check())
        moments.save(round_number, trainer.optimizer_tensors())
        metrics = {name: mean.value for name, mean in means.items()}
        return RoundOutcome(
            tensors=networks.travelling_tensors(),
            metrics=metrics,
            clients={0: metrics | {"num_examples": data.num_examples}},
        )

    return train_round
