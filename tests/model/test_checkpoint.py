from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federation.settings import Settings
from model.checkpoint import Checkpoint, load_checkpoint, round_folders, save_checkpoint, with_names
from model.config import ModelConfig
from model.designs.registry import build_networks
from model.errors import CheckpointError, TensorMismatchError
from model.landmarks.geometry import PartSizes
from model.networks.bundle import Networks


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


def test_a_name_is_given_to_who_has_none_and_to_one_alone() -> None:
    told = ["eve", "bea", "ada", "identity-3"]
    names = with_names(["ada", "identity-1", "identity-2", "identity-3"], told)
    assert names == ["ada", "bea", "identity-2", "identity-3"]


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


def test_newest_intact_round_is_used_and_told_when_the_newest_is_damaged(
    tmp_path: Path, checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    save_checkpoint(tmp_path, checkpoint)
    newest = save_checkpoint(tmp_path, replace(checkpoint, round=8))
    assert load_checkpoint(tmp_path).round == 8
    assert not caplog.records
    weights = newest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert load_checkpoint(tmp_path).round == 7
    (told,) = caplog.records
    assert told.levelname == "WARNING"
    assert told.getMessage() == (
        f"{weights} is damaged: its SHA-256 is not the recorded one; round 7 is used in its place"
    )
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


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [torn, flipped, emptied, Path.unlink])
@pytest.mark.parametrize("name", ["weights.safetensors", "checkpoint.json"])
def test_the_round_before_takes_the_place_of_a_damaged_one(
    tmp_path: Path, checkpoint: Checkpoint, name: str, damage: Callable[[Path], None]
) -> None:
    save_checkpoint(tmp_path, checkpoint)
    damage(save_checkpoint(tmp_path, replace(checkpoint, round=8)) / name)
    assert load_checkpoint(tmp_path).round == 7
    save_checkpoint(tmp_path, replace(checkpoint, round=8))
    assert load_checkpoint(tmp_path).round == 8


@pytest.mark.integration
def test_no_flipped_bit_of_the_index_goes_unnoticed(tmp_path: Path, checkpoint: Checkpoint) -> None:
    folder = save_checkpoint(tmp_path, checkpoint)
    index = folder / "checkpoint.json"
    whole = index.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        index.write_bytes(damaged)
        try:
            loaded = load_checkpoint(folder)
        except CheckpointError:
            continue
        for name in ("round", "settings", "identities", "part_sizes", "loss_window"):  # white space has no meaning
            assert getattr(loaded, name) == getattr(checkpoint, name), position


def test_an_index_of_before_it_had_a_checksum_is_read(tmp_path: Path, checkpoint: Checkpoint) -> None:
    index = save_checkpoint(tmp_path, checkpoint) / "checkpoint.json"
    content = json.loads(index.read_text())
    del content["index_sha256"]
    index.write_text(json.dumps(content))
    assert load_checkpoint(tmp_path).round == 7


class KilledError(BaseException):
    """Takes the place of SIGKILL: nothing of ours catches it."""


CALLS = ("mkdir", "rename", "fsync", "rmdir", "unlink")


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
def test_a_writer_killed_anywhere_leaves_the_old_round_or_the_new_one(
    tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, is_before: bool
) -> None:
    rewritten = replace(checkpoint, loss_window=[1.0])
    num_kills = 0
    for kill in range(1, 100):
        run = tmp_path / str(kill)
        save_checkpoint(run, checkpoint)
        with monkeypatch.context() as patched, contextlib.suppress(KilledError):
            kill_at_call(patched, kill, is_before=is_before)
            save_checkpoint(run, rewritten)
            break
        num_kills += 1
        assert load_checkpoint(run).round == 7
        assert load_checkpoint(run).loss_window in ([3.5, 2.25], [1.0])
        save_checkpoint(run, replace(checkpoint, round=8))
        assert [path.name.strip(".")[:12] for path in round_folders(run)] == ["round-000007", "round-000008"]
        assert load_checkpoint(run).round == 8
        assert not list(run.glob(".*.partial"))
    assert num_kills >= 8


def kill_at_call(patched: pytest.MonkeyPatch, kill: int, *, is_before: bool) -> None:
    """End at the n-th change of the disk, or at the first after it that succeeds."""
    num_calls = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal num_calls
            num_calls += 1
            if num_calls == kill and is_before:
                raise KilledError
            result = function(*args, **kwargs)
            if num_calls >= kill:
                raise KilledError
            return result

        return wrapper

    for name in CALLS:
        patched.setattr(os, name, counted(getattr(os, name)))
