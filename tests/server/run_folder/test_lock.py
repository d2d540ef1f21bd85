from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.errors import FederationError, NonFiniteLossError
from server.run_folder.lock import RunLock
from server.run_folder.result import RunResult
from server.training import Mode, train
from tests.support.federated_setup import GLR, minimal_settings, write_dataset, write_diverging_dataset

HOLDER = """
import sys, time
from pathlib import Path
from server.run_folder.lock import RunLock
lock = RunLock.take(Path(sys.argv[1]))
print("locked", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes to the run folder."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.wait(10)


def test_a_folder_that_another_process_writes_to_is_refused_and_both_are_named(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(FederationError, match=rf"{tmp_path}/run is written to by process {holder.pid} on .*; wait"):
        RunLock.take(tmp_path / "run")


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(10)
    RunLock.take(tmp_path / "run").release()


@pytest.mark.parametrize("mode", [Mode.CENTRALIZED, Mode.FEDERATED])
def test_no_mode_touches_a_folder_in_use(tmp_path: Path, holder: subprocess.Popen[str], mode: Mode) -> None:
    settings = minimal_settings(write_dataset(tmp_path / "dataset", 1), tmp_path / "run", 1)
    with pytest.raises(FederationError, match="is written to by process"):
        train(mode, settings)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.lock"]


def test_a_run_that_failed_leaves_the_folder_free(tmp_path: Path) -> None:
    settings = minimal_settings(write_diverging_dataset(tmp_path / "dataset"), tmp_path / "run", 1, **GLR)
    with pytest.raises(NonFiniteLossError):
        train(Mode.CENTRALIZED, settings)
    result = RunResult.read(tmp_path / "run")
    assert result is not None
    assert (result.state, result.error) == ("failed", "NonFiniteLossError")
    RunLock.take(tmp_path / "run").release()
