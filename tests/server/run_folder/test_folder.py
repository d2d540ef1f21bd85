from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from flwr.clientapp import ClientApp
from safetensors import SafetensorError
from safetensors.numpy import load_file

from data_partition.consent.withdrawal import mark_withdrawn
from federation.settings import Settings
from model.errors import CheckpointError, ConfigError, FederationError
from server.rounds.centralized import train_centralized
from server.rounds.federation import run_federation
from server.run_folder.folder import RunFolder, explaining_full_disks, find_checkpoint, write_settings
from server.run_folder.history import RoundRow, read_history
from server.run_folder.live_status import Live
from server.run_folder.result import RunResult, RunState
from server.training import Mode, train
from tests.support.federated_setup import minimal_settings, simulated_grid, write_dataset
from tests.support.inprocess_grid import InProcessGrid
from tests.support.rows import round_row


def settings(path: Path | str, **changes: object) -> Settings:
    return Settings.from_flat({"output-dir": str(path), **changes})  # type: ignore[dict-item]


def test_settings_survive_the_way_through_toml(tmp_path: Path) -> None:
    wanted = settings(tmp_path, **{"data-dir": 'C:\\faces of "Zoë"', "learning-rate-generator": 1e-5, "resume": True})
    assert Settings.from_flat(tomllib.loads(write_settings(wanted).read_text("utf-8"))) == wanted


def test_a_relative_folder_is_refused() -> None:
    with pytest.raises(ConfigError, match="output-dir: got 'runs', wanted an absolute path"):
        find_checkpoint(settings("runs"))


def test_no_folder_is_refused() -> None:
    with pytest.raises(ConfigError, match="wanted an absolute path"):
        find_checkpoint(settings(""))


def test_a_new_run_starts_with_an_empty_history_and_no_result(tmp_path: Path) -> None:
    folder, checkpoint = RunFolder.open(settings(tmp_path))
    assert checkpoint is None
    with folder:
        folder.append_history(round_row())
        folder.write_failed(FederationError("why"))
    assert RunResult.read(tmp_path) == RunResult(state=RunState.FAILED, reason="why", error="FederationError")
    again, _ = RunFolder.open(settings(tmp_path))
    assert read_history(tmp_path) == []
    assert RunResult.read(tmp_path) is None
    assert again.run_id != folder.run_id


def test_a_refused_resume_starts_nothing_and_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", 2)
    (run,) = train(Mode.CENTRALIZED, minimal_settings(dataset, tmp_path / "run", 2))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    other = minimal_settings(dataset, run, 2, resume=True, local_steps=3)
    for mode in (Mode.FEDERATED, Mode.CENTRALIZED):
        with pytest.raises(ConfigError, match="cannot resume with other settings: local-steps was 2, now 3; put"):
            train(mode, other)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs Linux' /dev/full")


@needs_full
def test_a_full_disk_is_named_whoever_writes_to_it(tmp_path: Path) -> None:
    told = f"the disk of {tmp_path} is full; make room"
    with pytest.raises(FederationError, match=told), explaining_full_disks(tmp_path):
        FULL.write_text("x")
    words = "Error while serializing: I/O error: No space left on device (os error 28)"  # of `save_file` on such a disk
    with pytest.raises(FederationError, match=told), explaining_full_disks(tmp_path):
        raise SafetensorError(words)


def test_other_errors_of_files_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), explaining_full_disks(tmp_path):
        (tmp_path / "nothing").read_text()
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(SafetensorError), explaining_full_disks(tmp_path):
        load_file(tmp_path / "torn.safetensors")


@needs_full
def test_a_result_that_cannot_be_written_does_not_hide_why_the_run_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, _ = RunFolder.open(settings(tmp_path))
    with folder:
        (tmp_path / "result.json.partial").symlink_to(FULL)
        folder.write_failed(FederationError("two sites are missing"))
    assert RunResult.read(tmp_path) is None and not (tmp_path / "result.json.partial").is_symlink()
    assert "No space left on device): two sites are missing" in caplog.text


def test_a_run_at_its_end_is_completed_again_without_sites_and_knows_who_was_there(tmp_path: Path) -> None:
    """Also where its rounds are more than are allowed by now, and its live file is lost."""
    configured = minimal_settings(write_dataset(tmp_path / "sites", 2), tmp_path / "run", 2, max_rounds=2)
    run_federation(simulated_grid(configured), configured)
    (tmp_path / "run" / "live.json").unlink()
    resumed = configured.replaced({"resume": True, "max-rounds": 1})
    stop = run_federation(InProcessGrid(ClientApp(), [], {}), resumed)
    result = RunResult.read(tmp_path / "run")
    assert result is not None
    assert (result.state, result.reason) == ("completed", stop.reason)
    assert [row.round for row in read_history(tmp_path / "run")] == [1, 2]
    live = Live.read(tmp_path / "run")
    assert live is not None
    assert (live.num_sites, sorted(live.last_contact)) == (2, [0, 1])


@needs_full
def test_a_run_on_a_full_disk_ends_with_a_word_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    configured = minimal_settings(write_dataset(tmp_path / "sites", 2), tmp_path / "run", 2, max_rounds=2)
    history = tmp_path / "run" / "history.jsonl"

    def fill(row: RoundRow) -> None:
        history.rename(tmp_path / "rows")
        history.symlink_to(FULL)

    with pytest.raises(FederationError, match="make room, then go on with resume"):
        run_federation(simulated_grid(configured), configured, fill)
    result = RunResult.read(tmp_path / "run")
    assert result is not None and result.reason.startswith(f"the disk of {tmp_path / 'run'} is full")
    history.unlink()
    (tmp_path / "rows").rename(history)
    resumed = configured.replaced({"resume": True})
    run_federation(simulated_grid(resumed), resumed)
    assert [row.round for row in read_history(tmp_path / "run")] == [1, 2]


@needs_full
@pytest.mark.parametrize("is_federated", [True, False])
def test_a_run_that_cannot_say_that_it_is_complete_fails(tmp_path: Path, is_federated: bool) -> None:
    configured = minimal_settings(write_dataset(tmp_path / "sites", 2), tmp_path / "run", 2, max_rounds=1)

    def fill(row: RoundRow) -> None:
        (tmp_path / "run" / "result.json.partial").symlink_to(FULL)

    with pytest.raises(FederationError, match="is full; make room"):
        if is_federated:
            run_federation(simulated_grid(configured), configured, fill)
        else:
            train_centralized(configured, fill)
    result = RunResult.read(tmp_path / "run")
    assert result is not None and result.state == "failed" and "is full" in result.reason


def test_a_run_that_learnt_somebody_who_withdrew_does_not_go_on(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", 2)
    (run,) = train(Mode.CENTRALIZED, minimal_settings(dataset, tmp_path / "run", 2))
    mark_withdrawn(run, "person-1")
    for mode in (Mode.FEDERATED, Mode.CENTRALIZED):
        with pytest.raises(CheckpointError, match="learnt person-1 .* who withdrew; train anew without them"):
            train(mode, minimal_settings(dataset, run, 2, resume=True, max_rounds=3))
