"""A run goes on with the data and the version that it began with, or says why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from data_partition.shards.content import ShardContent, contents
from data_partition.shards.shard import open_dataset
from federation.settings import Settings
from model.errors import CheckpointError, ConfigError
from model.version import own_version
from server.rounds.centralized import train_centralized
from server.rounds.federation import run_federation
from server.run_folder import record
from server.run_folder.history import read_history
from server.run_folder.record import RECORD_NAME, RunRecord
from tests.support.federated_setup import deployed_config, minimal_settings, simulated_grid, write_dataset
from tests.support.inprocess_grid import InProcessGrid
from tests.support.shards import write_random_shard

PEOPLE = {
    name: ShardContent(num_frames=10, frames_sha256=f"frames of {name}", annotations_sha256=f"numbers of {name}")
    for name in ("anna", "ben", "carl")
}
RECORD = RunRecord(run_id="0", version=own_version(), people=PEOPLE)


def federated(settings: Settings) -> None:
    run_federation(simulated_grid(settings), settings)


def federated_from_the_command_line(settings: Settings) -> None:
    from server.flower.simulation import run_simulation

    run_simulation(settings)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a run of two people that was stopped after its first round of two, with one row for somebody else."""
    dataset = write_dataset(tmp_path / "data", 2)
    begun = minimal_settings(dataset, tmp_path / "run", 2, max_rounds=1, num_identities=3)
    train_centralized(begun)
    return begun.replaced({"max-rounds": 2, "resume": True})


def files(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    whole = replace(RECORD, site_frames={0: 12, 3: 40})
    whole.write(tmp_path)
    assert RunRecord.read(tmp_path) == whole


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"run-id": 1, "people": 3}', '{"run-id": 1, "people": {"a": {}}}'])
def test_a_damaged_record_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD_NAME).write_text(text)
    with pytest.raises(CheckpointError, match=r"run\.json cannot be read"):
        RunRecord.read(tmp_path)


def test_a_record_with_a_changed_name_is_damaged(tmp_path: Path) -> None:
    RECORD.write(tmp_path)
    path = tmp_path / RECORD_NAME
    path.write_text(path.read_text().replace("anna", "hans"))
    with pytest.raises(CheckpointError, match="its SHA-256 is not the recorded one"):
        RunRecord.read(tmp_path)


def test_every_difference_is_told_at_once(tmp_path: Path) -> None:
    now = {
        "anna": replace(PEOPLE["anna"], num_frames=12, frames_sha256="more"),
        "ben": replace(PEOPLE["ben"], frames_sha256="others"),
        "dora": PEOPLE["carl"],
    }
    with pytest.raises(ConfigError) as told:
        replace(RECORD, version="0.0.1").require_same(tmp_path, now)
    assert str(told.value) == (
        f"{tmp_path}: cannot resume: trained by fedreenact 0.0.1, now {own_version()}; gone: carl; new: dora; other "
        "frames: anna (10 frames, now 12), ben (10 frames, now as many others); go on with what the run began with, or "
        "use another output-dir (--out)"
    )


def test_a_long_list_of_people_is_cut(tmp_path: Path) -> None:
    many = {f"p{number:02d}": PEOPLE["anna"] for number in range(12)}
    with pytest.raises(ConfigError, match=r"new: p00, .*, p09 and 2 more; go on"):
        RECORD.require_same(tmp_path, PEOPLE | many)


def test_other_annotations_of_the_same_frames_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    RECORD.require_same(tmp_path, PEOPLE | {"ben": replace(PEOPLE["ben"], annotations_sha256="newer")})
    assert caplog.messages == [f"{tmp_path}: the same frames as before with other annotations: ben"]


@pytest.mark.parametrize(("before", "is_refused"), [("1.4.0", False), ("1.3.7", True), ("2.4.1", True)])
def test_a_version_of_the_same_series_is_said_and_any_other_is_refused(
    before: str, is_refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(record, "own_version", lambda: "1.4.1")
    if is_refused:
        with pytest.raises(ConfigError, match=f"cannot resume: trained by fedreenact {before}, now 1.4.1; go on"):
            replace(RECORD, version=before).require_same(tmp_path, PEOPLE)
    else:
        replace(RECORD, version=before).require_same(tmp_path, PEOPLE)
        assert caplog.messages == [f"{tmp_path}: trained by fedreenact {before} so far, now by 1.4.1"]


def one_more_person(dataset: Path) -> str:
    write_random_shard(dataset, "zoe")
    return "cannot resume: new: zoe; go on with what the run began with"


def one_person_less(dataset: Path) -> str:
    shutil.rmtree(dataset / "person-1")
    return "cannot resume: gone: person-1; go"


def other_frames(dataset: Path) -> str:
    write_random_shard(dataset, "person-0", num_frames=11)
    return r"cannot resume: other frames: person-0 \(10 frames, now 11\); go"


@pytest.mark.parametrize("change", [one_more_person, one_person_less, other_frames])
@pytest.mark.parametrize("resume", [train_centralized, federated_from_the_command_line])
def test_a_resume_with_other_data_is_refused_and_leaves_the_folder_as_it_was(
    settings: Settings, tmp_path: Path, change: Callable[[Path], str], resume: Callable[[Settings], object]
) -> None:
    told, before = change(tmp_path / "data"), files(tmp_path / "run")
    with pytest.raises(ConfigError, match=told):
        resume(settings)
    assert files(tmp_path / "run") == before


@pytest.mark.parametrize("train", [train_centralized, federated])
def test_the_same_data_prepared_again_elsewhere_go_on(
    train: Callable[[Settings], object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = write_dataset(tmp_path / "data", 2)
    begun = minimal_settings(dataset, tmp_path / "run", 2, max_rounds=1)
    train(begun)
    shutil.rmtree(dataset)
    again = write_dataset(tmp_path / "elsewhere", 2)
    train(begun.replaced({"max-rounds": 2, "resume": True, "data-dir": str(again)}))
    assert [row.round for row in read_history(tmp_path / "run")] == [1, 2]
    assert not any("annotations" in message or "begun" in message for message in caplog.messages)


def test_a_simulation_whose_people_are_others_is_refused_by_its_server_app(tmp_path: Path) -> None:
    begun = minimal_settings(write_dataset(tmp_path / "data", 2), tmp_path / "run", 2, max_rounds=1, num_identities=3)
    federated(begun)
    write_random_shard(tmp_path / "data", "zoe")
    with pytest.raises(ConfigError, match="cannot resume: new: zoe"):
        federated(begun.replaced({"max-rounds": 2, "resume": True}))


def test_a_run_of_before_there_were_records_goes_on_and_has_one_then(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run" / RECORD_NAME
    run_id = json.loads(path.read_text())["run-id"]
    path.write_text(json.dumps({"run-id": run_id}))
    train_centralized(settings)
    assert sum("begun before runs recorded their data and version" in message for message in caplog.messages) == 1
    people = contents(open_dataset(tmp_path / "data"))
    assert RunRecord.read(tmp_path / "run") == RunRecord(run_id=run_id, version=own_version(), people=people)


def test_the_server_of_real_sites_records_their_numbers_and_says_when_they_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from client.app import app

    dataset = write_dataset(tmp_path / "data", 2)
    begun = minimal_settings(Path(), tmp_path / "run", 2, max_rounds=1)
    nodes = [deployed_config(dataset, tmp_path, index, begun.replaced({"max-rounds": 9})) for index in range(2)]
    run_federation(InProcessGrid(app, nodes, begun.to_flat()), begun)
    before = RunRecord.read(tmp_path / "run")
    assert not before.people and before.site_frames == {0: 9, 1: 11}
    write_random_shard(dataset, "person-1", num_frames=20)
    resumed = begun.replaced({"max-rounds": 2, "resume": True})
    run_federation(InProcessGrid(app, nodes, resumed.to_flat()), resumed)
    assert f"{tmp_path / 'run'}: site 1 has 18 training frames, had 11 before" in caplog.messages
    assert RunRecord.read(tmp_path / "run").site_frames == {0: 9, 1: 18}
