"""Federated and centralized runs on an in-process grid: real clients, real networks, 32 px noise."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, Message

from federation.resources import RESOURCES
from federation.settings import Settings, to_toml
from model.checkpoint import Checkpoint, load_checkpoint
from model.config import NETWORKS
from model.errors import ConfigError, FederationError
from server.flower import processes
from server.rounds.centralized import train_centralized
from server.rounds.federation import run_federation
from server.run_folder.history import RoundRow, read_history, spent
from server.run_folder.lock import RunLock
from server.run_folder.result import RunResult
from tests.support.federated_setup import GLR, minimal_settings, simulated_grid, write_dataset, write_diverging_dataset
from tests.support.inprocess_grid import InProcessGrid
from tests.support.shards import write_random_shard

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"), 5, has_mesh=True)


def train(settings: Settings, **options: object) -> Checkpoint:
    run_federation(simulated_grid(settings, **options), settings)
    return load_checkpoint(Path(settings.run.output_dir))


def assert_same_bits(left: Checkpoint, right: Checkpoint) -> None:
    assert left.round == right.round
    assert left.loss_window == right.loss_window
    for group in ("tensors", "ema_tensors"):
        expected, got = getattr(left, group), getattr(right, group)
        assert list(expected) == list(got)
        different = [name for name in expected if expected[name].tobytes() != got[name].tobytes()]
        assert different == []


def without_times(row: RoundRow) -> dict[str, Any]:
    """A row of the history without what differs from run to run: times, memory and CPU."""
    changing = {"seconds", "time", "server", *RESOURCES}

    def cleaned(values: dict[str, Any]) -> dict[str, Any]:
        return {
            key: cleaned(value) if isinstance(value, dict) else value
            for key, value in values.items()
            if key not in changing
        }

    return cleaned(row.to_json())


def test_two_rounds_of_five_clients_repeat_bit_for_bit_in_any_order_of_arrival(dataset: Path, tmp_path: Path) -> None:
    first = train(minimal_settings(dataset, tmp_path / "first", 5, **GLR))
    settings = minimal_settings(dataset, tmp_path / "second", 5, **GLR)
    grid = simulated_grid(settings, arrival=[3, 0, 4, 2, 1])
    run_federation(grid, settings)
    assert grid.pulled == [0, 1, 2, 3, 4] * 3  # statistics and two rounds
    assert_same_bits(first, load_checkpoint(tmp_path / "second"))
    histories = [[without_times(row) for row in read_history(tmp_path / name)] for name in ("first", "second")]
    assert histories[0] == histories[1]


def test_training_changes_every_network(dataset: Path, tmp_path: Path) -> None:
    first, second = (
        train(minimal_settings(dataset, tmp_path / str(rounds), 1, num_identities=5, max_rounds=rounds, **GLR))
        for rounds in (1, 2)
    )
    changed = {n.split(".")[0] for n in first.tensors if not np.array_equal(first.tensors[n], second.tensors[n])}
    assert changed == {"generator", "discriminator", "landmark_generator", "landmark_discriminator"}


@pytest.mark.parametrize("network", NETWORKS)
def test_one_client_one_round_federated_equals_centralized_bit_for_bit(
    dataset: Path, tmp_path: Path, network: str
) -> None:
    changes = GLR | {"max_rounds": 1, "num_identities": 5, "network": network}
    federated = train(minimal_settings(dataset, tmp_path / "federated", 1, **changes))
    centralized = train_centralized(minimal_settings(dataset, tmp_path / "centralized", 1, **changes))
    assert_same_bits(federated, load_checkpoint(centralized))


def test_one_client_three_rounds_federated_equals_centralized_since_moments_stay(dataset: Path, tmp_path: Path) -> None:
    changes = GLR | {"max_rounds": 3, "num_identities": 5}
    federated = train(minimal_settings(dataset, tmp_path / "federated", 1, **changes))
    centralized = train_centralized(minimal_settings(dataset, tmp_path / "centralized", 1, **changes))
    assert_same_bits(federated, load_checkpoint(centralized))


@pytest.mark.parametrize("is_federated", [True, False], ids=["federated", "centralized"])
def test_stop_and_resume_equals_uninterrupted(dataset: Path, tmp_path: Path, is_federated: bool) -> None:
    def run(name: str, **changes: Any) -> Checkpoint:
        changes = GLR | {"num_identities": 5, "server_ema_decay": 0.5} | changes
        settings = minimal_settings(dataset, tmp_path / name, 2, **changes)
        if is_federated:
            return train(settings)
        return load_checkpoint(train_centralized(settings))

    uninterrupted = run("whole", max_rounds=3)
    run("parts", max_rounds=1)
    resumed = run("parts", max_rounds=3, resume=True)
    assert_same_bits(uninterrupted, resumed)
    rows = [[without_times(row) for row in read_history(tmp_path / name)] for name in ("whole", "parts")]
    assert [row | {"stop": None} for row in rows[0]] == [row | {"stop": None} for row in rows[1]]


@pytest.mark.parametrize("keep_checkpoints", [1, 3])
def test_resume_after_a_round_that_clients_trained_but_the_server_lost(
    dataset: Path, tmp_path: Path, keep_checkpoints: int
) -> None:
    uninterrupted = train(minimal_settings(dataset, tmp_path / "whole", 2, num_identities=5, max_rounds=3))

    class ServerKilledError(Exception):
        pass

    def kill_in_round_two(reply: Message, index: int) -> Message:
        if reply.metadata.group_id == "2" and index == 1:
            raise ServerKilledError
        return reply

    changes = {"max_rounds": 3, "keep_checkpoints": keep_checkpoints}
    settings = minimal_settings(dataset, tmp_path / "parts", 2, num_identities=5, **changes)
    with pytest.raises(ServerKilledError):
        train(settings, tamper=kill_in_round_two)
    assert_same_bits(uninterrupted, train(settings.replaced({"resume": True})))


def test_lost_moments_start_fresh_and_say_so(dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = minimal_settings(dataset, tmp_path / "run", 1, num_identities=5, max_rounds=1)
    train(settings)
    for path in (tmp_path / "run" / "clients" / "0").rglob("moments-*"):
        path.unlink()
    train(settings.replaced({"resume": True, "max-rounds": 3}))
    rows = read_history(tmp_path / "run")
    assert [row.clients[0]["has_moments"] for row in rows] == [0.0, 0.0, 1.0]
    assert "the optimisers start fresh: no optimiser moments of round 1" in caplog.text


def test_torn_moments_start_fresh_and_say_so(dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = minimal_settings(dataset, tmp_path / "run", 1, num_identities=5, max_rounds=1)
    train(settings)
    (path,) = (tmp_path / "run" / "clients" / "0").rglob("moments-*")
    path.write_bytes(path.read_bytes()[:-100])
    train(settings.replaced({"resume": True, "max-rounds": 2}))
    assert read_history(tmp_path / "run")[1].clients[0]["has_moments"] == 0.0
    assert f"the optimisers start fresh: {path} cannot be read" in caplog.text


def test_resume_with_other_training_settings_is_refused_with_the_difference(dataset: Path, tmp_path: Path) -> None:
    settings = minimal_settings(dataset, tmp_path / "run", 1, num_identities=5, max_rounds=1)
    train(settings)
    for key, before, now in (
        ("local-steps", 2, 3),
        ("seed", 0, 1),
        ("learning-rate-generator", 0.001, 0.002),
        ("server-ema-decay", 0.0, 0.5),
        ("variance-window", 5, 6),
        ("use-style", True, False),
    ):
        with pytest.raises(ConfigError, match=f"cannot resume with other settings: {key} was {before}, now {now}; put"):
            train(settings.replaced({"resume": True, key: now}))
    with pytest.raises(ConfigError, match="local-steps was 2, now 3; seed was 0, now 1; put them back"):
        train(settings.replaced({"resume": True, "local-steps": 3, "seed": 1}))


def test_settings_that_say_how_long_and_where_may_change_with_a_resume(dataset: Path, tmp_path: Path) -> None:
    settings = minimal_settings(dataset, tmp_path / "run", 2, num_identities=5, max_rounds=1)
    train(settings)
    changes = {
        "max-rounds": 2,
        "tau": 0.5,
        "min-fit-clients": 1,
        "round-timeout-s": 20.0,
        "quorum-timeout-s": 1.0,
        "local-time-limit-s": 10.0,
        "keep-checkpoints": 5,
        "resume": True,
    }
    assert train(settings.replaced(changes)).round == 2


def test_an_unfinished_and_a_damaged_line_of_the_history_are_dropped(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = minimal_settings(dataset, tmp_path / "run", 1, num_identities=5, max_rounds=3)
    train(settings)
    history = tmp_path / "run" / "history.jsonl"
    lines = history.read_bytes().splitlines(keepends=True)
    history.write_bytes(lines[0] + lines[1].replace(b":", b"\xff", 1) + lines[2] + lines[2][:40])
    train(settings.replaced({"resume": True, "max-rounds": 4}))
    assert [row.round for row in read_history(tmp_path / "run")] == [1, 3, 4]
    assert history.read_bytes().endswith(b"\n")
    assert "history.jsonl: 1 damaged lines are dropped" in caplog.text


def test_duplicates_and_late_replies_in_a_resumed_run_leave_the_bits_as_they_were(
    dataset: Path, tmp_path: Path
) -> None:
    uninterrupted = train(minimal_settings(dataset, tmp_path / "whole", 3, num_identities=5, max_rounds=3))
    settings = minimal_settings(dataset, tmp_path / "parts", 3, num_identities=5, max_rounds=3)
    for num_rounds, arrival in ((1, [2, 1, 0]), (2, [1, 2, 0]), (3, [0, 2, 1])):
        part = settings.replaced({"max-rounds": num_rounds, "resume": True})
        grid = simulated_grid(part, arrival=arrival)
        grid.__class__ = EchoingGrid
        run_federation(grid, part)
    assert_same_bits(uninterrupted, load_checkpoint(tmp_path / "parts"))


class EchoingGrid(InProcessGrid):
    """Every message is answered twice, and with the replies that were given out before."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        before: list[Message] = self.__dict__.setdefault("given_out", [])
        fresh = list(super().pull_messages(message_ids))
        before += copy.deepcopy(fresh)
        return [*copy.deepcopy(before), *fresh]


def test_a_client_whose_time_is_over_sends_the_steps_it_made_with_its_full_weight(
    dataset: Path, tmp_path: Path
) -> None:
    train(minimal_settings(dataset, tmp_path / "whole", 2, num_identities=5, max_rounds=1))
    whole = read_history(tmp_path / "whole")
    assert whole[0].clients[0]["num_steps"] == 2.0
    # No machine makes ten thousand steps in a second.
    settings = minimal_settings(
        dataset, tmp_path / "run", 2, num_identities=5, local_steps=10_000, local_time_limit_s=1.0
    )
    checkpoint = train(settings)
    rows = read_history(tmp_path / "run")
    steps = [row.clients[client]["num_steps"] for row in rows for client in (0, 1)]
    assert all(1 <= made < 10_000 for made in steps)
    assert [row.clients[0]["num_examples"] for row in rows] == [whole[0].clients[0]["num_examples"]] * 2
    assert spent(rows, settings) == (sum(steps), 2 * sum(steps))
    assert checkpoint.round == 2


def test_a_folder_with_a_run_is_refused_unless_resumed(dataset: Path, tmp_path: Path) -> None:
    settings = minimal_settings(dataset, tmp_path / "run", 1, num_identities=5, max_rounds=1)
    train(settings)
    with pytest.raises(ConfigError, match="already holds a run"):
        train(settings)


def lowest_loss(rows: list[RoundRow]) -> int:
    return min(rows, key=lambda row: row.loss_generator or 0.0).round


def test_the_newest_checkpoints_and_the_best_are_kept(dataset: Path, tmp_path: Path) -> None:
    train(minimal_settings(dataset, tmp_path, 1, num_identities=5, max_rounds=6, keep_checkpoints=2))
    best = lowest_loss(read_history(tmp_path))
    kept = sorted({best, 5, 6})
    assert sorted(path.name for path in tmp_path.glob("round-*")) == [f"round-{number:06d}" for number in kept]
    named = json.loads((tmp_path / "best.json").read_text())
    assert (named["round"], named["by"]) == (best, "loss_generator")


def test_the_best_round_by_central_evaluation_outlives_a_resume(dataset: Path, tmp_path: Path) -> None:
    write_random_shard(tmp_path / "eval", "person-0", num_frames=60, seed=9)
    changes = {"max_rounds": 2, "keep_checkpoints": 1, "eval_data_dir": str(tmp_path / "eval")}
    settings = minimal_settings(dataset, tmp_path / "run", 1, num_identities=5, **changes)
    tmp_path = tmp_path / "run"
    train(settings)
    train(settings.replaced({"resume": True, "max-rounds": 5, "min-fit-clients": 1}))
    rows = read_history(tmp_path)
    best = max(rows, key=lambda row: row.evaluation["ssim"])
    kept = sorted({best.round, 5})
    assert sorted(path.name for path in tmp_path.glob("round-*")) == [f"round-{number:06d}" for number in kept]
    assert json.loads((tmp_path / "best.json").read_text()) == {
        "round": best.round,
        "by": "ssim",
        "value": best.evaluation["ssim"],
    }


@pytest.mark.parametrize(
    ("tau", "kind", "num_rounds", "words"),
    [(1e9, "variance", 3, "below tau = 1e+09"), (0.0, "max-rounds", 4, "round 4 is the last")],
)
def test_a_run_stops_by_variance_or_at_max_rounds_and_says_which(
    dataset: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    tau: float,
    kind: str,
    num_rounds: int,
    words: str,
) -> None:
    caplog.set_level("INFO", logger="server")
    train(
        minimal_settings(
            dataset, tmp_path, 1, num_identities=5, tau=tau, variance_window=3, max_rounds=4, local_steps=1
        )
    )
    rows = read_history(tmp_path)
    assert [row.stop for row in rows] == [None] * (num_rounds - 1) + [kind]
    assert [row.variance_loss_generator is None for row in rows[:3]] == [True, True, False]
    assert f"training ends after round {num_rounds}" in caplog.text
    assert words in caplog.text
    result = RunResult.read(tmp_path)
    assert result is not None
    assert result.state == "completed"
    assert words in result.reason


def with_nan(reply: Message) -> Message:
    record = reply.content.array_records["fitres.parameters"]
    poisoned = record["0"].numpy().copy()
    poisoned.reshape(-1)[0] = np.nan
    record["0"] = Array(poisoned)
    return reply


def test_the_round_goes_on_without_a_rejected_client_and_names_it(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def poison(reply: Message, index: int) -> Message:
        return with_nan(reply) if index == 1 and reply.metadata.group_id == "1" else reply

    train(minimal_settings(dataset, tmp_path, 3, num_identities=5, min_fit_clients=2), tamper=poison)
    rows = read_history(tmp_path)
    assert list(rows[0].clients) == [0, 2]
    assert "values that are not finite" in rows[0].rejected[1]
    assert rows[1].rejected == {}
    assert "round 1: client 1 is left out: update: " in caplog.text


def test_identity_rows_of_an_absent_owner_keep_their_values(dataset: Path, tmp_path: Path) -> None:
    name = "landmark_generator.condition.identity.weight"

    def lose_client_one(reply: Message, index: int) -> Message | None:
        return None if index == 1 and reply.metadata.group_id == "2" else reply

    settings = minimal_settings(dataset, tmp_path, 3, num_identities=5, min_fit_clients=2, round_timeout_s=1.0, **GLR)
    train(settings, tamper=lose_client_one)
    before, after = (load_checkpoint(tmp_path / f"round-{r:06d}").tensors[name] for r in (1, 2))
    moved = [not np.array_equal(before[row], after[row]) for row in range(5)]
    assert moved == [True, False, True, True, False]  # identity i is client i mod 3's
    assert read_history(tmp_path)[1].rejected == {1: "no reply within 1 s"}


def test_too_few_valid_updates_end_the_run_with_names_and_keep_the_checkpoint(dataset: Path, tmp_path: Path) -> None:
    def poison(reply: Message, index: int) -> Message:
        return with_nan(reply) if index == 1 and reply.metadata.group_id == "2" else reply

    with pytest.raises(FederationError, match=r"round 2: 1 valid updates, min-fit-clients is 2 \(client 1: update"):
        train(minimal_settings(dataset, tmp_path, 2, num_identities=5), tamper=poison)
    assert load_checkpoint(tmp_path).round == 1
    result = RunResult.read(tmp_path)
    assert result is not None
    assert result.state == "failed"


def test_a_client_that_diverges_is_named_with_its_term(tmp_path: Path) -> None:
    dataset = write_diverging_dataset(tmp_path / "dataset")
    settings = minimal_settings(dataset, tmp_path / "run", 1, num_identities=5, **GLR)
    with pytest.raises(FederationError, match=r"client 0: NonFiniteLossError: step \d+: "):
        train(settings)


def test_clients_of_a_simulation_of_the_wrong_size_end_the_run_at_once(dataset: Path, tmp_path: Path) -> None:
    settings = minimal_settings(dataset, tmp_path, 5)
    grid = simulated_grid(settings.replaced({"num-clients": 2, "min-fit-clients": 2}))
    with pytest.raises(FederationError, match="num-supernodes=5"):
        run_federation(grid, settings)


def test_an_unknown_setting_is_refused_with_one_clear_error(dataset: Path, tmp_path: Path) -> None:
    settings = minimal_settings(dataset, tmp_path, 1, num_identities=5)
    with pytest.raises(ConfigError, match="unknown setting local-stepz; did you mean local-steps"):
        settings.replaced({"local-stepz": 3})


def test_history_and_settings_describe_the_run(dataset: Path, tmp_path: Path) -> None:
    seen: list[RoundRow] = []
    settings = minimal_settings(dataset, tmp_path, 2, num_identities=5)
    run_federation(simulated_grid(settings), settings, seen.append)
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert rows == [row.to_json() for row in seen]
    weights = [rows[0]["clients"][c]["num_examples"] for c in ("0", "1")]
    losses = [rows[0]["clients"][c]["loss_generator"] for c in ("0", "1")]
    assert rows[0]["loss_generator"] == pytest.approx(np.average(losses, weights=weights))
    assert Settings.from_flat(tomllib.loads((tmp_path / "settings.toml").read_text())) == settings
    assert load_checkpoint(tmp_path).identities[:2] == ["person-0", "person-1"]


def test_what_clients_send_is_the_travelling_tensors_and_scalars(dataset: Path, tmp_path: Path) -> None:
    sent: list[Message] = []

    def watch(reply: Message, index: int) -> Message:
        sent.append(copy.deepcopy(reply))
        return reply

    checkpoint = train(minimal_settings(dataset, tmp_path, 1, num_identities=5, max_rounds=1), tamper=watch)
    content = sent[-1].content
    (vector_L,) = [array.numpy() for array in content.array_records["fitres.parameters"].values()]
    assert vector_L.size == sum(array.size for array in checkpoint.networks().travelling_tensors().values())
    assert vector_L.dtype == np.float32
    assert {type(value) for value in content.config_records["fitres.metrics"].values()} == {float}


def test_sigterm_ends_a_simulation_with_143_and_all_its_processes(dataset: Path, tmp_path: Path) -> None:
    settings = minimal_settings(dataset, tmp_path / "run", 5, max_rounds=1000, round_timeout_s=300.0)
    preset = tmp_path / "preset.toml"
    preset.write_text(to_toml(settings.to_flat()), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "cli.entry",
        "train",
        str(dataset),
        "--out",
        str(tmp_path / "run"),
        "--preset",
        str(preset),
    ]
    training = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        while training.poll() is None and not read_history(tmp_path / "run"):
            time.sleep(0.5)
        below = processes.descendants(training.pid)
        training.terminate()
        _, words = training.communicate(timeout=120)
    finally:
        training.kill()
    assert training.returncode == 143
    assert words.splitlines()[-1] == "stopped by SIGTERM; what is finished is kept, --resume goes on"
    assert below and not any(processes.is_alive(key) for key in below)
    result = RunResult.read(tmp_path / "run")
    assert result is not None and result.state == "stopped"
    assert f"after round {load_checkpoint(tmp_path / 'run').round}; resume goes on" in result.reason
    RunLock.take(tmp_path / "run").release()
