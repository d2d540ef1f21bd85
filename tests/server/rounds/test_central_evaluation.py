from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from data_partition.shards.shard import Shard, open_dataset
from evaluation.metrics.pixels import l1, largest_psnr_db
from federation.settings import Settings
from model.checkpoint import Checkpoint
from model.designs.registry import build_networks
from model.errors import DataError
from model.landmarks.geometry import PartSizes
from server.rounds.central_evaluation import CentralEvaluation
from server.rounds.federation import run_federation
from server.run_folder.history import read_history
from tests.support.federated_setup import GLR, minimal_settings, simulated_grid, write_dataset
from tests.support.shards import write_random_shard

PART_SIZES = PartSizes((8, 8, 8, 8), (8, 8, 8, 12))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Evaluates on two strangers of 40 and 42 frames, 4 of each held out."""
    strangers = tmp_path / "strangers"
    for seed, num_frames in enumerate((40, 42)):
        write_random_shard(strangers, f"stranger-{seed}", num_frames=num_frames, seed=10 + seed)
    return minimal_settings(tmp_path / "sites", tmp_path / "run", 2, eval_data_dir=str(strangers), eval_every=2, **GLR)


def state(settings: Settings, seed: int) -> Checkpoint:
    return Checkpoint(
        round=1,
        settings=settings.to_flat(),
        identities=["a", "b"],
        part_sizes=PART_SIZES,
        landmark_mean_IKC=np.zeros((2, 68, 2), np.float32),
        landmark_std_IKC=np.ones((2, 68, 2), np.float32),
        tensors=build_networks(settings.model, PART_SIZES, seed=seed).travelling_tensors(),
    )


def held_out_l1(shard: Shard) -> list[float]:
    """Of every two different held-out frames."""
    frames = [shard.read_frame(row) for row in range(len(shard.pose_FC)) if shard.is_test_F[row]]
    return [l1(a, b) for a, b in permutations(frames, 2)]


def test_copy_source_is_measured_on_held_out_pairs(settings: Settings) -> None:
    measured = CentralEvaluation(settings).measure(state(settings, 0))
    possible = [value for shard in open_dataset(Path(settings.run.eval_data_dir)) for value in held_out_l1(shard)]
    assert min(possible) <= measured["copy_source_l1"] <= max(possible)
    assert set(measured) == {"l1", "psnr_db", "ssim", "copy_source_l1", "copy_source_psnr_db", "copy_source_ssim"}


def test_identical_frames_are_measured_by_a_finite_number(settings: Settings, tmp_path: Path) -> None:
    still = write_random_shard(tmp_path / "still", "still", grey=90)
    measured = CentralEvaluation(settings.replaced({"eval-data-dir": str(tmp_path / "still")})).measure(
        state(settings, 0)
    )
    assert measured["copy_source_psnr_db"] == pytest.approx(largest_psnr_db(still.read_frame(0)))


def test_pairs_stay_the_same_while_networks_change(settings: Settings) -> None:
    central = CentralEvaluation(settings)
    first, again, other = (central.measure(state(settings, seed)) for seed in (0, 0, 1))
    assert first == again
    assert first["copy_source_l1"] == other["copy_source_l1"]
    assert first["l1"] != other["l1"]


def test_the_average_over_rounds_is_measured_where_there_is_one(settings: Settings) -> None:
    central, now, before = CentralEvaluation(settings), state(settings, 0), state(settings, 1)
    assert central.measure(replace(now, ema_tensors=before.tensors)) == central.measure(before)


@pytest.mark.integration
def test_a_run_measures_every_nth_round_only(settings: Settings, tmp_path: Path) -> None:
    write_dataset(tmp_path / "sites", 2)
    run_federation(simulated_grid(settings), settings)
    rows = read_history(tmp_path / "run")
    assert [bool(row.evaluation) for row in rows] == [False, True]
    assert rows[1].server["peak_memory_bytes"] > 1e6
    assert {"update_norm", "cosine_to_mean", "weight", "bytes_up", "bytes_down"} == set(rows[1].measured[1])
    assert {"cpu_seconds", "peak_memory_bytes"} <= set(rows[1].clients[0])


def test_a_dataset_that_is_not_there_is_an_error_at_the_start(settings: Settings) -> None:
    with pytest.raises(DataError, match="nowhere"):
        CentralEvaluation(settings.replaced({"eval-data-dir": "/nowhere"}))
