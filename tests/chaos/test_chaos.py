"""A run that is killed again and again, over clients that crash, stutter and lie, ends as one that was left alone.

CHAOS_SEED picks the schedule, CHAOS_KILLS the number of kills after which the server is left to finish.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from federation.settings import Settings
from model.checkpoint import Checkpoint, load_checkpoint, round_folders
from model.errors import CheckpointError
from model.setting import Scalar
from server.rounds.federation import run_federation
from server.run_folder.history import RoundRow, read_history
from server.run_folder.result import RunResult
from server.sites import quorum
from tests.chaos.grid import ChaosGrid, Weather, kill_at
from tests.support.federated_setup import minimal_settings, write_dataset

pytestmark = pytest.mark.chaos

SEED = int(os.environ.get("CHAOS_SEED", "1"))
NUM_KILLS = int(os.environ.get("CHAOS_KILLS", "12"))
NUM_ROUNDS = max(30, 2 * NUM_KILLS)  # a life of the server lasts a round or two
NUM_CLIENTS = 3
LONGEST_LIFE_S = 60.0 + 10.0 * NUM_ROUNDS
EVENTS_OF_A_ROUND = 40
"""About as many moments at which a process can be killed lie in one round."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"), NUM_CLIENTS)


def in_child(run: Callable[[], object]) -> int:
    """Exit status of a forked process: a fresh start without its imports."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            torch.set_num_threads(1)
            run()
            status = 0
        finally:
            os._exit(status)
    deadline = time.monotonic() + LONGEST_LIFE_S
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"the server hangs: no end within {LONGEST_LIFE_S:g} s")


def settings_of(dataset: Path, folder: Path, **changes: Scalar) -> Settings:
    usual: dict[str, Scalar] = {
        "max_rounds": NUM_ROUNDS,
        "local_steps": 1,
        "resume": True,
        "min_fit_clients": 1,
        "round_timeout_s": 0.05,
        "server_ema_decay": 0.5,
        "num_threads": 1,
    }
    return minimal_settings(dataset, folder, NUM_CLIENTS, **(usual | changes))


def train(settings: Settings, weather: Weather, *, kill: int | None = None) -> int:
    """One life of the server; every round that it calls complete is noted in a file beside the run."""
    folder = Path(settings.run.output_dir)

    def run() -> None:
        quorum._REPEAT_INTERVAL_S = 0.0
        if kill is not None:
            kill_at(kill)
        descriptor = os.open(folder.with_suffix(".done"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        grid = ChaosGrid(settings, weather, SEED)

        def note(row: RoundRow) -> None:
            grid.end_round()
            os.write(descriptor, f"{row.round}\n".encode())

        run_federation(grid, settings, on_round=note)

    return in_child(run)


@pytest.fixture(scope="module")
def undisturbed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """What all clients and the server give when nothing happens to them."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert train(settings_of(dataset, folder), Weather()) == 0
    return load_checkpoint(folder)


def newest_round(folder: Path) -> int:
    return load_checkpoint(folder).round if round_folders(folder) else 0


def survive(settings: Settings, weather: Weather) -> tuple[Checkpoint, int]:
    """Kill the server until enough is enough, then let it finish; the final checkpoint and the rounds done twice."""
    folder = Path(settings.run.output_dir)
    rng = random.Random(SEED)
    num_lost = 0
    for _ in range(NUM_KILLS):
        before = newest_round(folder)
        status = train(settings, weather, kill=rng.randint(1, 2 * EVENTS_OF_A_ROUND))
        assert os.WIFSIGNALED(status), f"the server ended by itself with status {status}"
        done = folder.with_suffix(".done")
        reported = max([0, *map(int, done.read_text().split())]) if done.is_file() else 0
        after = newest_round(folder)
        assert after >= max(before, reported), f"a completed round was lost: {before}, {reported}, {after}"
        num_rows = max([0, *(row.round for row in read_history(folder))])
        assert after <= num_rows <= after + 1, f"history has {num_rows} rounds, the newest checkpoint is {after}"
        num_lost += num_rows - after
    assert train(settings, weather) == 0
    return load_checkpoint(folder), num_lost


def assert_complete(folder: Path, checkpoint: Checkpoint) -> None:
    assert checkpoint.round == NUM_ROUNDS
    assert [row.round for row in read_history(folder)] == list(range(1, NUM_ROUNDS + 1))
    assert all(np.isfinite(tensor).all() for tensor in checkpoint.tensors.values())
    result = RunResult.read(folder)
    assert result is not None and result.state == "completed"
    assert not list(folder.glob(".*.partial")) and not list(folder.glob("*.partial"))
    checkpoint.networks()


def assert_same_bits(left: Checkpoint, right: Checkpoint) -> None:
    assert left.loss_window == right.loss_window
    for one, other in ((left.tensors, right.tensors), (left.ema_tensors, right.ema_tensors)):
        assert [name for name in one if one[name].tobytes() != other[name].tobytes()] == []


def test_kills_of_the_server_leave_the_bits_of_an_undisturbed_run(
    dataset: Path, tmp_path: Path, undisturbed: Checkpoint
) -> None:
    survived, num_lost = survive(settings_of(dataset, tmp_path / "killed"), Weather(duplicate=0.2))
    print(f"{NUM_KILLS} kills, {num_lost} rounds whose history was written and whose checkpoint was not")
    assert_complete(tmp_path / "killed", survived)
    assert_same_bits(survived, undisturbed)


def test_kills_of_the_server_over_failing_clients_leave_the_bits_of_a_run_over_the_same_clients(
    dataset: Path, tmp_path: Path
) -> None:
    weather = Weather(crash=0.1, corrupt=0.1, duplicate=0.2)
    assert train(settings_of(dataset, tmp_path / "unkilled"), weather) == 0
    survived, _ = survive(settings_of(dataset, tmp_path / "killed"), weather)
    assert_complete(tmp_path / "killed", survived)
    assert_same_bits(survived, load_checkpoint(tmp_path / "unkilled"))
    kinds = {kind for row in read_history(tmp_path / "killed") for kind in row.rejected_kinds.values()}
    assert {"late", "mismatch", "not-finite"} <= kinds
    rejected = sum(len(row.rejected) for row in read_history(tmp_path / "killed"))
    assert rejected == sum(len(row.rejected) for row in read_history(tmp_path / "unkilled"))


def test_where_no_update_is_lost_for_good_the_bits_are_those_of_an_undisturbed_run(
    dataset: Path, tmp_path: Path, undisturbed: Checkpoint
) -> None:
    everybody: dict[str, Scalar] = {"min_fit_clients": NUM_CLIENTS, "quorum_timeout_s": 60.0}
    weather = Weather(crash=0.1, corrupt=0.1, duplicate=0.2, is_transient=True)
    survived, num_lost = survive(settings_of(dataset, tmp_path / "killed", **everybody), weather)
    print(f"{NUM_KILLS} kills over failing clients, {num_lost} rounds whose history alone was written")
    assert_complete(tmp_path / "killed", survived)
    assert_same_bits(survived, undisturbed)


@pytest.mark.parametrize("damage", ["torn", "flipped", "no index", "no weights", "half an index"])
def test_a_damaged_checkpoint_costs_one_round(dataset: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "run"
    settings = settings_of(dataset, folder).replaced({"max-rounds": 3})
    assert in_child(lambda: run_federation(ChaosGrid(settings, Weather(), SEED), settings)) == 0
    whole = load_checkpoint(folder)
    newest = round_folders(folder)[-1]
    weights, index = newest / "weights.safetensors", newest / "checkpoint.json"
    data = bytearray(weights.read_bytes())
    if damage == "torn":
        weights.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
        weights.write_bytes(data)
    elif damage == "half an index":
        index.write_text(index.read_text()[:100])
    else:
        (index if damage == "no index" else weights).unlink()
    with pytest.raises(CheckpointError):
        load_checkpoint(newest / "checkpoint.json").networks()
    assert load_checkpoint(folder).round == 2
    assert in_child(lambda: run_federation(ChaosGrid(settings, Weather(), SEED), settings)) == 0
    assert_same_bits(load_checkpoint(folder), whole)
