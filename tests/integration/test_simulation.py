"""Runs on Flower's simulation engine with real processes; about a minute each."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL

from model.checkpoint import load_checkpoint
from model.errors import FederationError
from server.flower import processes
from server.flower.simulation import run_simulation
from server.run_folder.history import RoundRow, read_history
from tests.support.federated_setup import minimal_settings, simulated_grid, write_dataset

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"), 2)


@pytest.fixture
def before() -> set[psutil.Process]:
    """Processes below this one that are not the simulation's, for example multiprocessing's own of an earlier test."""
    return processes.descendants(os.getpid())


def test_a_simulation_equals_the_in_process_run_and_leaves_no_process(
    dataset: Path, tmp_path: Path, before: set[psutil.Process]
) -> None:
    from server.rounds.federation import run_federation

    rows: list[RoundRow] = []
    folder = run_simulation(
        minimal_settings(dataset, tmp_path / "simulated", 2, round_timeout_s=300.0), on_round=rows.append
    )
    assert processes.descendants(os.getpid()) - before == set()
    assert [row.round for row in rows] == [1, 2]
    assert "round 2/2 | L_G" in (folder / "server.log").read_text()
    settings = minimal_settings(dataset, tmp_path / "in-process", 2, round_timeout_s=300.0)
    run_federation(simulated_grid(settings), settings)
    simulated, in_process = load_checkpoint(folder), load_checkpoint(tmp_path / "in-process")
    assert simulated.loss_window == in_process.loss_window
    different = [n for n, a in in_process.tensors.items() if a.tobytes() != simulated.tensors[n].tobytes()]
    assert different == []


def test_a_simulation_that_dies_is_an_error_with_its_log_and_leaves_no_process(
    dataset: Path, tmp_path: Path, before: set[psutil.Process]
) -> None:
    def kill_the_engine(row: RoundRow) -> None:
        if row.round < 2:  # a round's row is written before its checkpoint; the first one's is there by now
            return
        for key in processes.descendants(os.getpid()):
            command = Path(f"/proc/{key.pid}/cmdline").read_bytes()
            if b"flwr-simulation" in command:
                os.kill(key.pid, signal.SIGKILL)

    settings = minimal_settings(dataset, tmp_path, 2, max_rounds=1000, round_timeout_s=300.0)
    with pytest.raises(FederationError, match="the simulation ended without a result"):
        run_simulation(settings, on_round=kill_the_engine)
    assert processes.descendants(os.getpid()) - before == set()
    assert load_checkpoint(tmp_path).round >= 1


def test_a_simulation_goes_on_after_a_sleep_in_which_its_heartbeats_were_missed(dataset: Path, tmp_path: Path) -> None:
    """As a computer that sleeps: for longer than Flower waits for a heartbeat, 60 s, nothing of the run gets on."""

    def sleep(row: RoundRow) -> None:
        if row.round == 1:
            everything = processes.descendants(os.getpid())
            for process in everything:
                process.suspend()
            time.sleep(2 * HEARTBEAT_DEFAULT_INTERVAL + 5)
            for process in everything:
                process.resume()

    settings = minimal_settings(dataset, tmp_path, 2, max_rounds=12, round_timeout_s=300.0)
    assert len(read_history(run_simulation(settings, on_round=sleep))) == 12


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Python's handling of Ctrl-C, also where tests started in the background inherit that it is ignored."""
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, inherited)


@pytest.mark.usefixtures("_interruptible")
def test_ctrl_c_stops_everything_and_keeps_the_checkpoint(
    dataset: Path, tmp_path: Path, before: set[psutil.Process]
) -> None:
    timers: list[threading.Timer] = []

    def press_ctrl_c(row: RoundRow) -> None:  # twice: again while everything is being stopped
        if row.round == 1:
            for delay_s in (0.1, 1.0):
                timers.append(threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGINT)))
                timers[-1].start()

    settings = minimal_settings(dataset, tmp_path, 2, max_rounds=1000, round_timeout_s=300.0)
    with pytest.raises(KeyboardInterrupt):
        try:
            run_simulation(settings, on_round=press_ctrl_c)
        finally:
            for timer in timers:  # one that is late must not interrupt another test
                timer.cancel()
                timer.join()
    assert processes.descendants(os.getpid()) - before == set()
    assert load_checkpoint(tmp_path).round >= 1
