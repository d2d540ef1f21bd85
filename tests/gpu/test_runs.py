"""Whole runs on the device: pooled, federated, resumed, and simulated with processes that share it.

Bits are compared for a network whose step has operators that are repeatable on CUDA. Sampling along a flow and bilinear
resizing add their gradients there in whatever order threads come, so with GLR two runs differ by rounding.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from federation.settings import Settings
from model.checkpoint import Checkpoint, load_checkpoint
from server.flower.simulation import run_simulation
from server.rounds.centralized import train_centralized
from server.rounds.federation import run_federation
from server.run_folder.history import read_history
from tests.support.federated_setup import GLR, minimal_settings, simulated_grid, write_dataset

pytestmark = pytest.mark.gpu

REPEATABLE = "neuralhead"
LOSS_TOLERANCE = 0.02
"""Of L_G after four steps of GLR whose gradients were summed in another order."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"), 1)


def bits(checkpoint: Checkpoint) -> dict[str, bytes]:
    return {name: values.tobytes() for name, values in checkpoint.tensors.items()}


def federated(settings: Settings, folder: Path) -> Checkpoint:
    settings = settings.replaced({"output-dir": str(folder)})
    run_federation(simulated_grid(settings), settings)
    return load_checkpoint(folder)


@pytest.mark.usefixtures("repeatable")
def test_one_client_federated_equals_pooled_to_the_bit(device: torch.device, dataset: Path, tmp_path: Path) -> None:
    settings = minimal_settings(dataset, tmp_path / "pooled", 1, device=str(device), network=REPEATABLE)
    pooled = load_checkpoint(train_centralized(settings))
    assert bits(federated(settings, tmp_path / "federated")) == bits(pooled)


def test_one_client_federated_equals_pooled_but_for_rounding(
    device: torch.device, dataset: Path, tmp_path: Path
) -> None:
    settings = minimal_settings(dataset, tmp_path / "pooled", 1, device=str(device), **snake(GLR))
    pooled = load_checkpoint(train_centralized(settings))
    assert list(federated(settings, tmp_path / "federated").loss_window) == pytest.approx(
        list(pooled.loss_window), rel=LOSS_TOLERANCE
    )


def snake(flat: dict[str, object]) -> dict[str, object]:
    return {key.replace("-", "_"): value for key, value in flat.items()}


@pytest.mark.usefixtures("repeatable")
def test_a_resumed_run_has_the_bits_of_one_that_was_never_stopped(
    device: torch.device, dataset: Path, tmp_path: Path
) -> None:
    settings = minimal_settings(dataset, tmp_path / "whole", 1, device=str(device), network=REPEATABLE)
    whole = load_checkpoint(train_centralized(settings))
    stopped = settings.replaced({"output-dir": str(tmp_path / "stopped"), "max-rounds": 1})
    train_centralized(stopped)
    resumed = load_checkpoint(train_centralized(stopped.replaced({"max-rounds": 2, "resume": True})))
    assert bits(resumed) == bits(whole)


def test_two_simulated_clients_share_the_device(device: torch.device, tmp_path: Path) -> None:
    two = write_dataset(tmp_path / "dataset", 2)
    settings = minimal_settings(two, tmp_path / "run", 2, device=str(device), round_timeout_s=300.0, **snake(GLR))
    rows = read_history(run_simulation(settings))
    assert [sorted(row.clients) for row in rows] == [[0, 1]] * 2
    assert not any(row.rejected for row in rows)
    if device.type == "cuda":
        assert all(measured["gpu_peak_memory_bytes"] > 0 for row in rows for measured in row.measured.values())
