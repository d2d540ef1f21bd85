"""Promises of deploy/again.sh."""

import os
import subprocess
from pathlib import Path

import pytest

AGAIN = Path(__file__).parents[2] / "deploy" / "again.sh"


@pytest.mark.parametrize(
    ("failures", "exit_code", "asked", "pauses"), [(0, 0, 1, ""), (1, 0, 2, "5\n"), (9, 7, 3, "5\n20\n")]
)
def test_a_command_that_fails_is_tried_three_times(
    failures: int, exit_code: int, asked: int, pauses: str, tmp_path: Path
) -> None:
    """Arguments arrive as they are, spaces too; the last exit code is the command's own."""
    (tmp_path / "sleep").write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/slept\n')
    (tmp_path / "sleep").chmod(0o755)
    (tmp_path / "slept").touch()
    command = f'echo "$1" >> {tmp_path}/asked; [ $(wc -l < {tmp_path}/asked) -gt {failures} ] || exit 7'

    done = subprocess.run(
        ["sh", AGAIN, "sh", "-c", command, "sh", "two words"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == exit_code
    assert (tmp_path / "asked").read_text() == "two words\n" * asked
    assert (tmp_path / "slept").read_text() == pauses
    assert done.stderr.count("trying once more") == asked - 1
