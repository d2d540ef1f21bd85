from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from model.config import Settings
from model.errors import ConfigError, FederationError
from server.run_folder import RunFolder, find_checkpoint, read_history, read_result, write_settings
from server.training import Mode, train
from tests.federated_setup import minimal_settings, write_dataset


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


def test_a_line_still_being_written_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text('{"round": 1}\n{"round": 2, "loss_ge')
    assert read_history(tmp_path) == [{"round": 1}]


def test_a_new_run_starts_with_an_empty_history_and_no_result(tmp_path: Path) -> None:
    folder, checkpoint = RunFolder.open(settings(tmp_path))
    assert checkpoint is None
    with folder:
        folder.append_history({"round": 1})
        folder.write_failed(FederationError("why"))
    assert read_result(tmp_path) == {"status": "failed", "reason": "why", "error": "FederationError"}
    again, _ = RunFolder.open(settings(tmp_path))
    assert read_history(tmp_path) == []
    assert read_result(tmp_path) is None
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
