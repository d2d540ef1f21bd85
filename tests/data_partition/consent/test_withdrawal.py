"""Promises of data_partition.consent.withdrawal."""

import shutil
from pathlib import Path

import pytest

from data_partition.consent.withdrawal import (
    mark_withdrawn,
    refuse_withdrawn,
    remove_person,
    runs_that_learnt,
    withdrawn_people,
)
from data_partition.shards.contact_sheet import CONTACT_SHEET_NAME, write_contact_sheet
from data_partition.shards.images import read_image
from data_partition.shards.shard import open_dataset
from model.checkpoint import save_checkpoint
from model.errors import CheckpointError, DataError
from tests.support.shards import write_random_shard
from tests.support.small_face import small_checkpoint


def _dataset(root: Path) -> Path:
    shards = [write_random_shard(root, name, num_frames=2) for name in ("ana", "ben")]
    write_contact_sheet(shards, root / CONTACT_SHEET_NAME)
    return root


def test_a_person_leaves_with_shard_left_overs_and_the_row_of_the_contact_sheet(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path)
    (dataset / "ana.parts").mkdir()
    height = len(read_image(dataset / CONTACT_SHEET_NAME))
    assert remove_person(dataset, "ana") == ""
    assert sorted(path.name for path in dataset.iterdir()) == ["ben", CONTACT_SHEET_NAME]
    assert len(read_image(dataset / CONTACT_SHEET_NAME)) < height
    assert remove_person(dataset, "ana") is None


def test_the_last_person_takes_the_contact_sheet_along(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path)
    assert [remove_person(dataset, name) for name in ("ana", "ben")] == ["", ""]
    assert not list(dataset.iterdir())


def test_a_removal_that_was_killed_leaves_no_shard_and_the_same_call_goes_on(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path)
    (dataset / "ana").rename(dataset / "ana.partial")  # the first step
    assert [shard.identity for shard in open_dataset(dataset)] == ["ben"]
    assert remove_person(dataset, "ana") == "" and not (dataset / "ana.partial").exists()


def test_damaged_shards_of_others_keep_nobody_from_leaving(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path)
    cleo = write_random_shard(dataset, "cleo", num_frames=2)
    (cleo.path / "metadata.parquet").write_bytes(b"PAR1")
    (dataset / "ben" / "frames" / "000000.jpg").write_bytes(b"")
    assert remove_person(dataset, "ana") == ""
    assert len(read_image(dataset / CONTACT_SHEET_NAME)) == 22 + 96
    assert remove_person(dataset, "ben") == "" and not (dataset / CONTACT_SHEET_NAME).exists()


def test_a_name_that_is_no_folders_removes_nothing(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path / "data")
    (tmp_path / "x.partial").mkdir()
    for name in ("../x", "", ".", "a" * 300):
        with pytest.raises(DataError, match="withdraw: identity"):
            remove_person(dataset, name)
    assert (tmp_path / "x.partial").is_dir() and len(open_dataset(dataset)) == 2


def test_runs_and_single_checkpoints_that_learnt_a_person_are_found_and_those_that_cannot_be_read_named(
    tmp_path: Path,
) -> None:
    for name in ("one", "deep/two"):
        save_checkpoint(tmp_path / name, small_checkpoint())
    shutil.copytree(tmp_path / "one" / "round-000001", tmp_path / "copy")
    (tmp_path / "broken" / "round-000001").mkdir(parents=True)
    (tmp_path / "broken" / "round-000001" / "checkpoint.json").write_text("{")
    found = runs_that_learnt(tmp_path, "ana")
    assert set(found.learnt) == {tmp_path / "one", tmp_path / "deep" / "two", tmp_path / "copy"}
    assert len(found.unreadable) == 1 and "broken" in found.unreadable[0]
    assert runs_that_learnt(tmp_path, "eva").learnt == ()
    with pytest.raises(DataError, match="no such folder"):
        runs_that_learnt(tmp_path / "nowhere", "ana")


def test_a_mark_holds_for_the_run_and_each_of_its_rounds_and_is_made_once(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "run", small_checkpoint())
    refuse_withdrawn(folder)
    for _ in range(2):
        mark_withdrawn(tmp_path / "run", "ana")
    mark_withdrawn(tmp_path / "run", "ben")
    assert [one.split()[0] for one in withdrawn_people(folder)] == ["ana", "ben"]
    for checkpoint in (folder, tmp_path / "run"):
        with pytest.raises(CheckpointError, match=r"learnt ana \(.*\), ben \(.*\), who withdrew; train anew"):
            refuse_withdrawn(checkpoint)


def test_a_mark_that_cannot_be_read_refuses_too(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "run", small_checkpoint())
    (tmp_path / "run" / "withdrawn.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="damaged, so who withdrew is not known"):
        refuse_withdrawn(tmp_path / "run")
