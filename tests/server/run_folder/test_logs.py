from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from server.run_folder.folder import LOG_NAME
from server.run_folder.logs import JSON_LOG_NAME, logging_to
from tests.reenact.conftest import checkpoint  # noqa: F401


def test_going_back_to_an_older_checkpoint_is_in_the_runs_logs_once(
    tmp_path: Path,
    checkpoint: Checkpoint,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_checkpoint(tmp_path, replace(checkpoint, round=1))
    weights = save_checkpoint(tmp_path, replace(checkpoint, round=2)) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with logging_to(tmp_path):
        load_checkpoint(tmp_path)
    load_checkpoint(tmp_path)  # nothing is written any more
    says = f"{weights} is damaged: its SHA-256 is not the recorded one; round 1 is used in its place"
    (words,) = (tmp_path / LOG_NAME).read_text().splitlines()
    assert words.endswith(f" WARNING {says}")
    for lines in ((tmp_path / JSON_LOG_NAME).read_text(), capsys.readouterr().err):
        (line,) = map(json.loads, lines.splitlines())
        assert (line["logger"], line["message"]) == ("model.checkpoint", says)
