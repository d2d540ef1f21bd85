from __future__ import annotations

import logging
from pathlib import Path

import pytest

from client.supernode.refused_tasks import RefusedTasks


def test_the_count_outlives_the_process(tmp_path: Path) -> None:
    assert RefusedTasks(tmp_path).total() == 0
    for _ in range(3):
        RefusedTasks(tmp_path).count_one()
    assert RefusedTasks(tmp_path).total() == 3
    assert [path.name for path in tmp_path.iterdir()] == ["refused-tasks.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"refused_tasks": null}', '{"other": 1}', "7"])
def test_a_damaged_file_is_said_and_counting_goes_on(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "refused-tasks.json").write_text(text)
    with caplog.at_level(logging.ERROR, "client"):
        RefusedTasks(tmp_path).count_one()
    assert "cannot be read" in caplog.messages[0]
    assert RefusedTasks(tmp_path).total() == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' /dev/full")
def test_a_full_disk_does_not_stop_a_refusal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    RefusedTasks(tmp_path).count_one()
    (tmp_path / "refused-tasks.json.partial").symlink_to("/dev/full")
    with caplog.at_level(logging.ERROR, "client"):
        RefusedTasks(tmp_path).count_one()
    assert "is not counted" in caplog.messages[-1] and "No space left" in caplog.messages[-1]
    assert RefusedTasks(tmp_path).total() == 1
