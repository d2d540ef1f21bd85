from __future__ import annotations

import json
from pathlib import Path

import pytest

from server.run_folder import live_status
from server.run_folder.live_status import LIVE_NAME, Live, LiveStatus, Phase


def read(folder: Path) -> Live:
    live = Live.read(folder)
    assert live is not None
    return live


def test_no_file_is_no_status(tmp_path: Path) -> None:
    assert Live.read(tmp_path) is None


def test_a_phase_is_on_disk_at_once(tmp_path: Path) -> None:
    LiveStatus(tmp_path).enter(Phase.TRAINING, 7)
    assert (read(tmp_path).phase, read(tmp_path).round) == ("training", 7)


def test_a_site_that_is_gone_keeps_its_last_contact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_status, "_WRITE_INTERVAL_S", 0.0)
    status = LiveStatus(tmp_path)
    status.see([0, 1], {})
    both = read(tmp_path).last_contact
    status.see([1], {"node 77": "partition-id 1 is taken by another connected site"})
    live = read(tmp_path)
    assert live.connected == [1]
    assert live.last_contact[0] == both[0]
    assert live.last_contact[1] > both[1]
    assert live.refused == {"node 77": "partition-id 1 is taken by another connected site"}


def test_a_restarted_server_remembers_who_was_there(tmp_path: Path) -> None:
    LiveStatus(tmp_path).see([3], {})
    LiveStatus(tmp_path).enter(Phase.WAITING, 2)
    assert list(read(tmp_path).last_contact) == [3]
    assert read(tmp_path).connected == []


def test_who_took_part_was_there_also_where_the_file_is_lost(tmp_path: Path) -> None:
    status = LiveStatus(tmp_path)
    status.see([1], {})
    status.expect(3, {0: 5.0, 1: 6.0})
    status.enter(Phase.WAITING, 2)
    live = read(tmp_path)
    assert (live.num_sites, live.last_contact[0], sorted(live.last_contact)) == (3, 5.0, [0, 1])
    assert live.last_contact[1] > 6.0


@pytest.mark.parametrize("number", [0, 3])
def test_waiting_at_the_start_is_no_repeated_round(tmp_path: Path, number: int) -> None:
    status = LiveStatus(tmp_path)
    status.enter(Phase.WAITING, number)
    assert read(tmp_path).attempt == 1
    status.enter(Phase.TRAINING, 1)
    assert read(tmp_path).attempt == 1


def test_a_round_that_is_repeated_is_one_phase_with_its_attempts_and_their_reason(tmp_path: Path) -> None:
    status = LiveStatus(tmp_path)
    status.enter(Phase.TRAINING, 4)
    began = read(tmp_path).phase_since
    status.tell("2 valid updates, min-fit-clients is 3")
    status.enter(Phase.TRAINING, 4)
    again = read(tmp_path)
    assert (again.phase_since, again.attempt, again.trouble) == (began, 2, "2 valid updates, min-fit-clients is 3")
    status.enter(Phase.TRAINING, 5)
    assert (read(tmp_path).attempt, read(tmp_path).trouble) == (1, "") and read(tmp_path).phase_since > began


@pytest.mark.parametrize("content", ["{", "[]", '{"phase": "asleep"}', "\x00"])
def test_a_damaged_file_stops_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str) -> None:
    (tmp_path / LIVE_NAME).write_text(content)
    LiveStatus(tmp_path).enter(Phase.TRAINING, 2)
    assert read(tmp_path).round == 2 and read(tmp_path).last_contact == {}
    assert "live.json: damaged" in caplog.text and "training goes on" in caplog.text


def test_writing_is_spared_between_phases(tmp_path: Path) -> None:
    status = LiveStatus(tmp_path)
    status.enter(Phase.TRAINING, 1)
    status.see([0], {})
    assert json.loads((tmp_path / LIVE_NAME).read_text())["connected"] == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' /dev/full")
def test_training_goes_on_where_the_file_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    status = LiveStatus(tmp_path)
    status.enter(Phase.TRAINING, 1)
    (tmp_path / "live.json.partial").symlink_to("/dev/full")
    status.enter(Phase.TRAINING, 2)
    assert read(tmp_path).round == 1 and "No space left on device" in caplog.text
    status.enter(Phase.TRAINING, 3)
    assert read(tmp_path).round == 3
