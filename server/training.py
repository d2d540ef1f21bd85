"""The three ways to train on one machine, behind one call."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from data_partition.consent.check import open_for_training
from federation.settings import Settings
from server.flower.simulation import run_simulation
from server.rounds.centralized import train_centralized
from server.run_folder.history import RowListener


class Mode(StrEnum):
    """Who trains on what."""

    FEDERATED = "federated"
    """One simulated site per person."""
    CENTRALIZED = "centralized"
    """All frames in one place."""
    LOCAL = "local"
    """Every person alone: what a site has without the federation."""


def train(mode: Mode, settings: Settings, on_round: RowListener | None = None) -> list[Path]:
    """Train with the same trainer, history and checkpoints in every mode.

    Args:
        mode: which.
        settings: of the run; data-dir and output-dir must be absolute.
        on_round: called with every new row of a history.

    Returns:
        The run folders: one, or with `local` one for each person, named after the person, in output-dir.

    Raises:
        FedreenactError: as the modes' own functions.
    """
    if mode is Mode.FEDERATED:
        return [run_simulation(settings, on_round=on_round)]
    if mode is Mode.CENTRALIZED:
        return [train_centralized(settings, on_round=on_round)]
    return [
        train_centralized(_alone(settings, shard.path, shard.identity), on_round=on_round)
        for shard in open_for_training(Path(settings.data.data_dir), settings.data.without_consent)
    ]


def _alone(settings: Settings, shard: Path, identity: str) -> Settings:
    """One person's settings: the shard is the dataset, and the network knows this person alone."""
    return settings.replaced(
        {
            "data-dir": str(shard),
            "output-dir": str(Path(settings.run.output_dir) / identity),
            "partitioner": "identity",
            "num-identities": 1,
            "num-clients": 1,
            "min-fit-clients": 1,
        }
    )
