from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from model.run_files import RunFiles
from model.training.moments import MomentStore

TENSORS = {"generator.w/exp_avg": torch.tensor([1.0, 2.0]), "generator.w/step": torch.tensor(3.0)}


def store(folder: Path, run_id: str = "run", num_kept: int = 2) -> MomentStore:
    return MomentStore(folder=folder, run_id=run_id, num_kept=num_kept)


def test_moments_come_back_as_saved(tmp_path: Path) -> None:
    store(tmp_path).save(1, TENSORS)
    loaded = store(tmp_path).load(1)
    assert loaded.keys() == TENSORS.keys()
    assert all(torch.equal(loaded[name], TENSORS[name]) for name in TENSORS)


def test_the_round_just_trained_and_as_many_before_it_as_the_server_keeps_are_kept(tmp_path: Path) -> None:
    for round_number in (1, 2, 3, 4):
        store(tmp_path, num_kept=2).save(round_number, TENSORS)
    assert sorted(path.name for path in tmp_path.glob("run-*/*")) == [
        "moments-round-000002.safetensors",
        "moments-round-000003.safetensors",
        "moments-round-000004.safetensors",
    ]


def test_rounds_after_a_resume_from_further_back_are_dropped(tmp_path: Path) -> None:
    for round_number in (6, 7, 6):
        store(tmp_path).save(round_number, TENSORS)
    assert [path.name for path in tmp_path.glob("run-*/*")] == ["moments-round-000006.safetensors"]


def test_absent_moments_are_named(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="no optimiser moments of round 4"):
        store(tmp_path).load(4)


def test_moments_of_another_run_are_not_used(tmp_path: Path) -> None:
    yesterday, today = store(tmp_path, "yesterday"), store(tmp_path, "today")
    path = yesterday.save(1, TENSORS)
    with pytest.raises(LookupError, match="no optimiser moments of round 1 of this run"):
        today.load(1)
    today.save(1, TENSORS).write_bytes(path.read_bytes())
    with pytest.raises(LookupError, match="belongs to another run"):
        today.load(1)


def test_two_runs_that_take_turns_keep_each_its_own(tmp_path: Path) -> None:
    values = {"a": torch.tensor([1.0]), "b": torch.tensor([2.0])}
    for round_number in (1, 2, 3):
        for run_id, value in values.items():
            store(tmp_path, run_id).save(round_number, {"w": value * round_number})
    for run_id, value in values.items():
        for round_number in (1, 2, 3):
            assert torch.equal(store(tmp_path, run_id).load(round_number)["w"], value * round_number)


def test_a_runs_name_names_no_path(tmp_path: Path) -> None:
    path = store(tmp_path / "state", "../../" + "x" * 400 + "/\0").save(1, TENSORS)
    assert path.parent.parent == tmp_path / "state"
    assert path.resolve() == path


def test_runs_of_long_ago_are_dropped(tmp_path: Path) -> None:
    """Names come from a server: a disk must not fill with them."""
    for day in range(7):
        path = store(tmp_path, f"run {day}").save(1, TENSORS)
        os.utime(path.parent, (day, day))
    (tmp_path / "privacy-ledger.json").touch()
    store(tmp_path, "run 3").save(2, TENSORS)
    kept = [day for day in range(7) if list(RunFiles(folder=tmp_path, run_id=f"run {day}").run_folder.glob("*"))]
    assert kept == [3, 4, 5, 6]
    assert (tmp_path / "privacy-ledger.json").exists()


@pytest.mark.parametrize("num_bytes", [0, 4, 20, 200, -1])
def test_a_torn_file_is_named(tmp_path: Path, num_bytes: int) -> None:
    path = store(tmp_path).save(1, TENSORS)
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(LookupError, match="cannot be read"):
        store(tmp_path).load(1)


def test_no_flipped_bit_goes_unnoticed(tmp_path: Path) -> None:
    path = store(tmp_path).save(1, TENSORS)
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            loaded = store(tmp_path).load(1)
        except LookupError:
            continue
        assert loaded.keys() == TENSORS.keys()  # a flip between the tokens of the header changes nothing
        assert all(torch.equal(loaded[name], TENSORS[name]) for name in TENSORS)


def test_a_file_half_written_by_a_client_that_died_is_not_taken_for_one(tmp_path: Path) -> None:
    whole = store(tmp_path).save(1, TENSORS)
    (whole.parent / "moments-round-000002.partial").write_bytes(whole.read_bytes()[:50])
    with pytest.raises(LookupError, match="no optimiser moments of round 2"):
        store(tmp_path).load(2)
    store(tmp_path).save(2, TENSORS)
    assert store(tmp_path).load(2).keys() == TENSORS.keys()
