from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from server.run_folder.history import HISTORY_NAME, RoundRow, append_row, read_history
from tests.support.rows import round_row

LINE = (
    '{"round": 3, "loss_generator": 2.5, "loss_discriminator": 0.75, "variance_loss_generator": null, "tau": 3.0, '
    '"rounds_until_stop_possible": 2, "seconds": 12.5, "metrics": {"loss_generator": 2.5, "dp_epsilon": 1.5}, '
    '"clients": {"0": {"loss_generator": 2.0, "num_examples": 30}, "10": {"loss_generator": 3.0, "num_examples": 30}}, '
    '"rejected": {"1": "no reply within 30 s"}, "rejected_kinds": {"1": "late"}, '
    '"measured": {"0": {"update_norm": 0.5, "weight": 30}}, "fingerprints": {"0": "0123456789abcdef"}, '
    '"evaluation": {"ssim": 0.5}, "server": {"cpu_seconds": 4.5}, "time": 1700000000.25, "stop": null}\n'
)
ROW = RoundRow(
    round=3,
    loss_generator=2.5,
    loss_discriminator=0.75,
    variance_loss_generator=None,
    tau=3.0,
    rounds_until_stop_possible=2,
    seconds=12.5,
    metrics={"loss_generator": 2.5, "dp_epsilon": 1.5},
    clients={0: {"loss_generator": 2.0, "num_examples": 30}, 10: {"loss_generator": 3.0, "num_examples": 30}},
    rejected={1: "no reply within 30 s"},
    rejected_kinds={1: "late"},
    measured={0: {"update_norm": 0.5, "weight": 30}},
    fingerprints={0: "0123456789abcdef"},
    evaluation={"ssim": 0.5},
    server={"cpu_seconds": 4.5},
    time=1700000000.25,
    stop=None,
)
OLD = {
    "round": 1,
    "loss_generator": 2.0,
    "loss_discriminator": 0.5,
    "variance_loss_generator": None,
    "tau": 3.0,
    "seconds": 1.0,
    "metrics": {},
    "clients": {"0": {}},
    "rejected": {},
    "stop": None,
}
"""A row of the first version of the file."""


def write(folder: Path, *lines: str) -> None:
    (folder / HISTORY_NAME).write_text("".join(lines))


def test_a_row_is_written_as_this_line(tmp_path: Path) -> None:
    append_row(tmp_path, ROW)
    assert (tmp_path / HISTORY_NAME).read_text() == LINE


def test_a_line_is_read_as_this_row(tmp_path: Path) -> None:
    write(tmp_path, LINE)
    assert read_history(tmp_path) == [ROW]


def test_a_discarded_round_says_why_and_only_that_one(tmp_path: Path) -> None:
    append_row(tmp_path, round_row(discarded="no sum"))
    (line,) = (tmp_path / HISTORY_NAME).read_text().splitlines()
    assert line.endswith('"stop": null, "discarded": "no sum"}')
    assert read_history(tmp_path)[0].losses_in_words() == ["discarded: no sum"]


def test_a_row_of_the_first_version_can_be_read(tmp_path: Path) -> None:
    write(tmp_path, json.dumps(OLD) + "\n")
    (row,) = read_history(tmp_path)
    assert (row.round, row.clients, row.time, row.rounds_until_stop_possible) == (1, {0: {}}, 0.0, None)
    assert row.rejected_kinds == row.measured == row.fingerprints == row.evaluation == row.server == {}


@pytest.mark.parametrize("missing", sorted(OLD))
def test_what_every_row_has_must_be_there(missing: str) -> None:
    with pytest.raises(ValueError, match=f"no row of a round: .*{missing}"):
        RoundRow.from_json({key: value for key, value in OLD.items() if key != missing})


@pytest.mark.parametrize("changes", [{"clients": {"one": {}}}, {"rejected": ["0"]}])
def test_sites_are_numbers(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        RoundRow.from_json(OLD | changes)


def test_damaged_lines_and_one_still_being_written_are_not_read(tmp_path: Path) -> None:
    write(tmp_path, LINE, "\x00\x00\x00\x00\n", '{"round": 4}\n', "[]\n", LINE.rstrip("\n"))
    assert read_history(tmp_path) == [ROW]
    assert read_history(tmp_path / "nowhere") == []


def test_a_number_that_json_does_not_know_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        append_row(tmp_path, round_row(loss_generator=float("nan")))
    assert read_history(tmp_path) == []
