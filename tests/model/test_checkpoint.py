from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.config import ModelConfig, Settings
from model.errors import CheckpointError, TensorMismatchError
from model.landmarks import PartSizes
from model.networks import Networks, build_networks


@pytest.fixture
def checkpoint(networks: Networks, config: ModelConfig, part_sizes: PartSizes) -> Checkpoint:
    return Checkpoint(
        round=7,
        settings=replace(Settings(), model=config).to_flat(),
        identities=["anna", "ben", "cleo"],
        part_sizes=part_sizes,
        landmark_mean_IKC=np.arange(3 * 136, dtype=np.float32).reshape(3, 68, 2),
        landmark_std_IKC=np.ones((3, 68, 2), np.float32),
        tensors=networks.travelling_tensors(),
        loss_window=[3.5, 2.25],
    )


def test_round_trip_keeps_every_field(tmp_path: Path, checkpoint: Checkpoint) -> None:
    path = save_checkpoint(tmp_path, checkpoint)
    assert path == tmp_path / "round-000007"
    loaded = load_checkpoint(path)
    for name in ("round", "settings", "identities", "part_sizes", "loss_window"):
        assert getattr(loaded, name) == getattr(checkpoint, name)
    assert np.array_equal(loaded.landmark_mean_IKC, checkpoint.landmark_mean_IKC)
    assert list(loaded.tensors) and all(np.array_equal(loaded.tensors[n], v) for n, v in checkpoint.tensors.items())
    assert not list(tmp_path.glob(".*"))  # nothing partial is left


def test_networks_of_a_checkpoint_use_the_average_unless_told_otherwise(
    checkpoint: Checkpoint, config: ModelConfig, part_sizes: PartSizes
) -> None:
    average = build_networks(config, part_sizes, seed=5).travelling_tensors()
    both = replace(checkpoint, ema_tensors=average)
    name = "generator.landmark_head.mlp.0.weight"
    assert np.array_equal(both.networks().travelling_tensors()[name], average[name])
    assert np.array_equal(both.networks(use_ema=False).travelling_tensors()[name], checkpoint.tensors[name])
    assert not both.networks().training


def test_newest_intact_round_is_used_when_the_newest_is_damaged(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path, checkpoint)
    newest = save_checkpoint(tmp_path, replace(checkpoint, round=8))
    assert load_checkpoint(tmp_path).round == 8
    weights = newest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert load_checkpoint(tmp_path).round == 7
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(newest)


def test_saving_a_round_again_replaces_it(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path, checkpoint)
    save_checkpoint(tmp_path, replace(checkpoint, loss_window=[1.0]))
    assert load_checkpoint(tmp_path).loss_window == [1.0]


def test_missing_torn_and_foreign_checkpoints_are_named(tmp_path: Path, checkpoint: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="no usable checkpoint in .*nowhere"):
        load_checkpoint(tmp_path / "nowhere")
    index = save_checkpoint(tmp_path, checkpoint) / "checkpoint.json"
    content = json.loads(index.read_text())
    index.write_text(json.dumps({**content, "schema_version": 99}))
    with pytest.raises(CheckpointError, match="schema version 99, this program reads 1"):
        load_checkpoint(index.parent)
    index.write_text("{")
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_checkpoint(index.parent)


def test_weights_of_another_preset_are_refused(tmp_path: Path, checkpoint: Checkpoint) -> None:
    other = {**checkpoint.settings, "generator-channels": 5}
    with pytest.raises(TensorMismatchError, match="made with another preset"):
        replace(checkpoint, settings=other).networks()


def test_part_sizes_survive(tmp_path: Path, checkpoint: Checkpoint) -> None:
    sizes = PartSizes((8, 12, 16, 20), (24, 28, 32, 8))
    save_checkpoint(tmp_path, replace(checkpoint, part_sizes=sizes))
    assert load_checkpoint(tmp_path).part_sizes == sizes
