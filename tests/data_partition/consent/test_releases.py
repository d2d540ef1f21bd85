"""Promises of data_partition.consent.releases, and of withdrawals from what was released."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from data_partition.consent.releases import RELEASES_NAME, Release, note_release, read_releases
from data_partition.consent.withdrawal import mark_release, refuse_withdrawn, runs_that_learnt, withdrawn_people
from model.checkpoint import recorded_weights, save_checkpoint
from model.errors import CheckpointError
from tests.support.small_face import small_checkpoint


def _released(root: Path) -> Release:
    """A release of a run of ana and ben, noted in `root`/run."""
    run = save_checkpoint(root / "run", small_checkpoint()).parent
    public = dataclasses.replace(small_checkpoint(), identities=["identity-0", "identity-1"], loss_window=[1.0])
    folder = save_checkpoint(root / "made", public).rename(root / "release")
    people = {"identity-0": "ana", "identity-1": "ben"}
    sha256 = recorded_weights(folder)
    release = Release(folder=folder, released="2026-11-29", weights_sha256=sha256, people=people)
    note_release(run, release)
    return release


def test_releases_are_noted_one_after_the_other(tmp_path: Path) -> None:
    first = _released(tmp_path)
    second = dataclasses.replace(first, folder=tmp_path / "zoë's", people={"identity-0": "jürgen"})
    note_release(tmp_path / "run", second)
    assert read_releases(tmp_path / "run" / RELEASES_NAME) == [first, second]
    assert second.name_of("jürgen") == "identity-0" and second.name_of("identity-0") is None


def test_a_person_is_found_in_a_release_and_marked_there_by_the_name_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = _released(tmp_path)
    shutil.copytree(release.folder, tmp_path / "deep" / "copy")
    found = runs_that_learnt(tmp_path / "run", "ben")
    assert found.releases == (release,) and not runs_that_learnt(tmp_path, "eva").releases
    marked = mark_release(release, "ben", [tmp_path / "run"])
    assert marked == [release.folder]
    with pytest.raises(CheckpointError, match=r"learnt identity-1 \(.*who withdrew"):
        refuse_withdrawn(release.folder)
    assert "ben" not in (release.folder / "withdrawn.json").read_text()
    refuse_withdrawn(tmp_path / "deep" / "copy")
    monkeypatch.chdir(tmp_path)
    copies = mark_release(release, "ben", [Path()])  # the run's own round has the same weights, and other names
    assert copies == [release.folder, tmp_path / "deep" / "copy"]
    assert len(withdrawn_people(release.folder)) == 1


def test_a_release_is_found_when_run_and_release_are_gone(tmp_path: Path) -> None:
    release = _released(tmp_path)
    shutil.rmtree(release.folder)
    shutil.rmtree(tmp_path / "run" / "round-000001")
    found = runs_that_learnt(tmp_path, "ana")
    assert (found.learnt, found.releases) == ((), (release,))
    assert mark_release(release, "ana", [tmp_path]) == []


def test_a_list_that_cannot_be_read_is_named_and_not_written_over(tmp_path: Path) -> None:
    release = _released(tmp_path)
    path = tmp_path / "run" / RELEASES_NAME
    number = '{"folder": "x", "released": "", "weights_sha256": "", "people": 1}'
    for text in ("{", "[1]", '[{"folder": "x"}]', f"[{number}]"):
        path.write_text(text)
        found = runs_that_learnt(tmp_path, "ana")
        assert found.releases == () and "who is in which release is not known" in found.unreadable[0]
        with pytest.raises(CheckpointError, match="damaged"):
            note_release(tmp_path / "run", release)
        assert path.read_text() == text
