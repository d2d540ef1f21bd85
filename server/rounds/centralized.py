"""The same training on pooled data in one place: what federated training is compared with."""

from __future__ import annotations

import signal
from pathlib import Path

import torch

from data_partition.consent.check import open_for_training
from data_partition.partition import ClientData, make_partitions
from data_partition.shards.content import contents
from data_partition.shards.shard import require_meshes
from data_partition.statistics import local_statistics
from federation.local_training import RoundTask, train_locally
from federation.reported import OPERATIONS
from federation.settings import Settings
from model.checkpoint import Checkpoint, unnamed
from model.designs.registry import design_of, has_base
from model.errors import ConfigError
from model.landmarks.geometry import PartSizes
from model.networks.bundle import NamedArrays
from model.training.moments import MomentStore
from model.training.trainer import pick_device
from server.rounds.hooks import hooks_of
from server.rounds.loop import RoundLoop, RoundOutcome
from server.run_folder.folder import require_same_people
from server.run_folder.history import RowListener
from server.run_folder.life import Run, running
from server.run_folder.record import People
from server.sites.agreement import SiteStatistics, initial_state


def train_centralized(settings: Settings, on_round: RowListener | None = None) -> Path:
    """Train on all clients' frames together; a "round" is local-steps optimiser steps on the pool.

    The run folder has the same checkpoints and history as a federated run. With one client, federated and centralized
    training give the same bits.

    Args:
        settings: of the run; the partitioner does not matter, everything is pooled.
        on_round: called with every new row of the history.

    Returns:
        The run folder.

    Raises:
        ConfigError: if the settings do not fit the dataset, or settings, people or version the run folder.
        DataError: if the dataset cannot be used or lacks what the network needs, or a person may not be trained on.
        FederationError: if the run folder is in use.
        NonFiniteLossError: if a loss term stops being finite; the last checkpoint is kept.
        TerminatedError: on SIGTERM, after the step in progress; the round in progress is lost.
    """
    torch.set_num_threads(settings.optimizer.num_threads)
    data, people = _pool(settings)
    with running(settings, signal.SIGTERM, people=people) as run:
        if run.checkpoint is not None:
            require_same_people(run.checkpoint.identities, list(people))
        state = run.checkpoint or _new_state(settings, data, list(people))
        loop = RoundLoop(run, state, PooledRounds(run, data, state.part_sizes), hooks_of(run, on_round))
        stop = loop.run()
        run.complete(stop.reason, loop.state.round)
        return run.folder.path


class PooledRounds:
    """Trains rounds as one site that has all frames: local training, and nothing to aggregate."""

    def __init__(self, run: Run, data: ClientData, part_sizes: PartSizes) -> None:
        """Begin or go on.

        Args:
            run: whose rounds these are; the optimiser moments are in its folder.
            data: all frames.
            part_sizes: of the run.
        """
        self._run = run
        self._settings = run.settings.replaced({"proximal-mu": 0.0, "local-time-limit-s": 0.0})  # both are about sites
        self._data = data
        self._part_sizes = part_sizes
        self._perceptual = design_of(run.settings.model.network).load_perceptual(run.settings.loss)
        self._device = pick_device(run.settings.optimizer.device)
        self._moments = MomentStore(
            folder=run.folder.path / "moments", run_id=run.folder.run_id, num_kept=run.settings.run.keep_checkpoints
        )

    def train(self, round_number: int, tensors: NamedArrays) -> RoundOutcome:
        """One round: local-steps optimiser steps from the tensors.

        Raises:
            NonFiniteLossError: if a loss term stops being finite.
            TerminatedError: on a signal, after the step in progress.
        """
        result = train_locally(
            RoundTask(round_number=round_number, partition_id=0, part_sizes=self._part_sizes),
            tensors,
            settings=self._settings,
            data=self._data,
            moments=self._moments,
            perceptual=self._perceptual,
            device=self._device,
            on_step=self._watch,
        )
        metrics = {name: value for name, value in result.metrics.items() if name not in OPERATIONS}
        return RoundOutcome(
            tensors=result.tensors,
            metrics=metrics,
            clients={0: metrics | {"num_examples": result.num_examples}},
        )

    def _watch(self, num_steps: int) -> None:
        self._run.termination.check()
        self._run.live.see([], {})


def _pool(settings: Settings) -> tuple[ClientData, People]:
    """All frames as one client's, and whose they are."""
    if settings.privacy.secure_aggregation or settings.privacy.dp_noise_multiplier:
        raise ConfigError(
            "secure-aggregation and dp-noise-multiplier are about what leaves a site, and centralized training has all "
            "frames in one place; turn them off"
        )
    shards = open_for_training(Path(settings.data.data_dir), settings.data.without_consent)
    if len(shards) > settings.model.num_identities:
        raise ConfigError(
            f"{settings.data.data_dir} has {len(shards)} identities, num-identities is "
            f"{settings.model.num_identities}; raise num-identities"
        )
    if design_of(settings.model.network).needs_mesh:
        require_meshes(shards)
    data = make_partitions(shards, settings.data, num_clients=1, seed=settings.rounds.seed)[0]
    return data, contents(shards)


def _new_state(settings: Settings, data: ClientData, identities: list[str]) -> Checkpoint:
    model = settings.model
    arrays = local_statistics(
        data, num_identities=model.num_identities, size_px=model.image_size_px, has_base=has_base(model)
    )
    statistics = SiteStatistics.from_arrays(
        arrays, num_identities=model.num_identities, size_px=model.image_size_px, has_base=has_base(model)
    )
    nobody = [unnamed(index) for index in range(len(identities), model.num_identities)]
    return initial_state(settings, [statistics], [*identities, *nobody])
