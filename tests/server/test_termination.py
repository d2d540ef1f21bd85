"""SIGTERM, sent to this very process in the middle of small real runs."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from flwr.app import Message

from cli import entry as cli
from federation.settings import Settings
from model.checkpoint import load_checkpoint
from server import training
from server.rounds.federation import run_federation
from server.run_folder.folder import RunFolder
from server.run_folder.history import RoundRow, read_history
from server.run_folder.result import RunResult, RunState
from server.termination import TerminatedError, noticing
from server.training import Mode
from tests.server.flower.test_deployment import ThreadedFlower, supervise
from tests.support.federated_setup import minimal_settings, simulated_grid, write_dataset


def terminate(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return minimal_settings(write_dataset(tmp_path / "dataset", 2), tmp_path / "run", 2, max_rounds=4, resume=True)


def assert_stopped(folder: Path, reason: str) -> None:
    assert RunResult.read(folder) == RunResult(state=RunState.STOPPED, reason=reason, error="TerminatedError")


def test_a_federated_round_is_abandoned_and_resumed(settings: Settings, tmp_path: Path) -> None:
    def in_round_two(reply: Message, index: int) -> Message:
        if reply.metadata.group_id == "2" and index == 0:
            terminate()
        return reply

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TerminatedError, match="stopped by SIGTERM"):
        run_federation(simulated_grid(settings, tamper=in_round_two), settings)
    assert signal.getsignal(signal.SIGTERM) is before
    assert_stopped(tmp_path / "run", "stopped by SIGTERM after round 1; resume goes on")
    assert load_checkpoint(tmp_path / "run").round == 1
    run_federation(simulated_grid(settings), settings)
    assert [row.round for row in read_history(tmp_path / "run")] == [1, 2, 3, 4]
    result = RunResult.read(tmp_path / "run")
    assert result is not None and result.state == "completed"


def test_a_round_that_is_finished_is_kept(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(TerminatedError):
        run_federation(simulated_grid(settings), settings, on_round=terminate)
    assert load_checkpoint(tmp_path / "run").round == 1


def test_a_run_that_waits_for_sites_ends(settings: Settings, tmp_path: Path) -> None:
    grid = simulated_grid(settings)
    grid.get_node_ids = lambda: terminate() or []  # type: ignore[method-assign, func-returns-value]
    with pytest.raises(TerminatedError):
        run_federation(grid, settings)
    assert_stopped(tmp_path / "run", "stopped by SIGTERM before the end of round 1; resume goes on")


def test_centralized_training_ends_after_a_step(settings: Settings, tmp_path: Path) -> None:
    def in_round_one(row: RoundRow) -> None:
        terminate()

    with pytest.raises(TerminatedError):
        training.train(Mode.CENTRALIZED, settings, in_round_one)
    assert_stopped(tmp_path / "run", "stopped by SIGTERM after round 1; resume goes on")


def test_local_training_does_not_go_on_with_the_next_person(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(TerminatedError):
        training.train(Mode.LOCAL, settings, terminate)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["person-0"]


def test_a_server_app_that_was_told_to_end_is_submitted_again(settings: Settings, tmp_path: Path) -> None:
    def stopped_first(settings: Settings, attempt: int) -> None:
        if attempt == 0:
            folder, _ = RunFolder.open(settings)
            with folder:
                folder.write_failed(TerminatedError("stopped by SIGTERM"))
        else:
            run_federation(simulated_grid(settings), settings)

    flower = ThreadedFlower(tmp_path / "flower", stopped_first)
    assert supervise(settings, flower)[0] == "round 4 is the last that max-rounds allows"
    assert flower.num_submitted == 2


def test_threads_leave_signals_alone() -> None:
    handlers = []

    def look() -> None:
        with noticing(signal.SIGTERM) as termination:
            handlers.append(signal.getsignal(signal.SIGTERM))
            termination.check()

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join(10)
    assert handlers == [before]


def test_the_command_line_ends_with_143_and_one_line(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> None:
        raise TerminatedError("stopped by SIGTERM")

    monkeypatch.setattr(training, "train", stopped)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["train", settings.data.data_dir, "--out", str(tmp_path / "run")])
    assert exit_.value.code == 143
    assert capsys.readouterr().err == "stopped by SIGTERM; what is finished is kept, --resume goes on\n"
