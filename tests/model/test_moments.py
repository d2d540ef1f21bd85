from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.moments import MomentStore

TENSORS = {"generator.w/exp_avg": torch.tensor([1.0, 2.0]), "generator.w/step": torch.tensor(3.0)}


def store(folder: Path, run_id: str = "run", num_kept: int = 2) -> MomentStore:
    return MomentStore(folder=folder, run_id=run_id, num_kept=num_kept)


def test_moments_come_back_as_saved(tmp_path: Path) -> None:
    store(tmp_path).save(1, TENSORS)
    loaded = store(tmp_path).load(1)
    assert loaded.keys() == TENSORS.keys()
    assert all(torch.equal(loaded[name], TENSORS[name]) for name in TENSORS)


def test_only_the_newest_rounds_are_kept(tmp_path: Path) -> None:
    for round_number in (1, 2, 3):
        store(tmp_path).save(round_number, TENSORS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "moments-round-000002.safetensors",
        "moments-round-000003.safetensors",
    ]


def test_rounds_after_a_resume_from_further_back_are_dropped(tmp_path: Path) -> None:
    for round_number in (6, 7, 6):
        store(tmp_path).save(round_number, TENSORS)
    assert [path.name for path in tmp_path.iterdir()] == ["moments-round-000006.safetensors"]


def test_absent_moments_are_named(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="no optimiser moments of round 4"):
        store(tmp_path).load(4)


def test_moments_of_another_run_are_not_used(tmp_path: Path) -> None:
    store(tmp_path, "yesterday").save(1, TENSORS)
    with pytest.raises(LookupError, match="belongs to another run"):
        store(tmp_path, "today").load(1)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = store(tmp_path).save(1, TENSORS)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(LookupError, match="cannot be read"):
        store(tmp_path).load(1)
