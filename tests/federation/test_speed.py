"""Promises of federation.speed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_partition.shards.shard import Shard
from federation.settings import Settings
from federation.speed import Speed, measure_speed
from model.errors import DataError
from tests.support.federated_setup import MINIMAL
from tests.support.shards import write_random_shard

SETTINGS = Settings.from_flat(MINIMAL | {"num-identities": 2, "perceptual-every": 2})


@pytest.fixture
def shards(tmp_path: Path) -> list[Shard]:
    return [write_random_shard(tmp_path, f"p{seed}", num_frames=20, seed=seed) for seed in range(2)]


def test_loader_and_trainer_are_measured(shards: list[Shard]) -> None:
    speed = measure_speed(shards, SETTINGS, min_seconds=0.05)
    assert speed.loader_warm > speed.loader_cold > 0 and speed.trainer > 0
    assert speed.device == "cpu"
    # 36 training frames of 32 px: uint8 RGB, float32 landmarks and heatmap.
    assert speed.train_bytes == 36 * (32 * 32 * 3 + 68 * 2 * 4 + 32 * 32 * 4)


def test_the_process_keeps_its_threads(shards: list[Shard]) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        measure_speed(shards, SETTINGS.replaced({"num-threads": before}), min_seconds=0.0)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_a_dataset_without_training_frames_is_refused(shards: list[Shard]) -> None:
    held_out = [replace(shard, is_test_F=np.ones(20, np.bool_)) for shard in shards]
    with pytest.raises(DataError, match="every frame is kept for testing"):
        measure_speed(held_out, SETTINGS, min_seconds=0.0)


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        (25.0, "The loader keeps up with the trainer: training spends at most 20.0 % of its time loading."),
        (300.0, "The loader keeps up only from memory (all training frames take 3 MB there): training spends"),
        (900.0, "The loader does not keep up with the trainer: training spends at most 90.0 %"),
    ],
)
def test_a_sentence_says_whether_the_loader_keeps_up(trainer: float, words: str) -> None:
    speed = Speed(loader_cold=100.0, loader_warm=500.0, trainer=trainer, device="cpu", train_bytes=3_000_000)
    assert words in speed.to_lines()[-1]
