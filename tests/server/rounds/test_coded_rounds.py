"""Federated rounds whose weights travel as rounded steps: everybody has the same bits, and bytes are what was sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message
from safetensors.numpy import load_file

from federation.settings import Settings
from model.checkpoint import Checkpoint, load_checkpoint
from model.designs.registry import IDENTITY_ROWS
from server.rounds.federation import run_federation
from server.run_folder.history import RoundRow, read_history
from tests.support.federated_setup import minimal_settings, simulated_grid, write_dataset
from tests.support.inprocess_grid import lost


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"), 3)


def coded(dataset: Path, folder: Path, codec: str = "int8", **changes: object) -> Settings:
    defaults = {"max_rounds": 3, "update_codec": codec, "min_fit_clients": 2}
    return minimal_settings(dataset, folder, 3, **(defaults | changes))  # type: ignore[arg-type]


def train(settings: Settings, **options: object) -> Checkpoint:
    run_federation(simulated_grid(settings, **options), settings)
    return load_checkpoint(Path(settings.run.output_dir))


def rows(settings: Settings) -> list[RoundRow]:
    return read_history(Path(settings.run.output_dir))


def bits(checkpoint: Checkpoint) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in checkpoint.tensors.items()}


def fails(round_number: int, site: int) -> Callable[[Message, int], Message]:
    return lambda reply, index: (
        lost(reply) if index == site and reply.metadata.group_id == str(round_number) and reply.has_content() else reply
    )


@pytest.mark.integration
@pytest.mark.parametrize("codec", ["bfloat16", "int8"])
@pytest.mark.parametrize("aggregation", ["mean", "median"])
def test_sites_begin_every_round_with_the_bits_of_the_checkpoint_before(
    dataset: Path, tmp_path: Path, codec: str, aggregation: str
) -> None:
    train(coded(dataset, tmp_path, codec, aggregation=aggregation, min_fit_clients=3))
    wanted = load_checkpoint(tmp_path / "round-000002").tensors
    for index in range(3):
        (path,) = (tmp_path / "clients" / str(index)).rglob("known-weights.safetensors")
        known = load_file(path)
        assert known.pop("round") == 3
        assert {name: array.tobytes() for name, array in known.items()} == {n: a.tobytes() for n, a in wanted.items()}


@pytest.mark.integration
def test_bytes_of_a_round_both_ways_are_a_quarter_or_less(dataset: Path, tmp_path: Path) -> None:
    whole, int8 = coded(dataset, tmp_path / "whole", "float32"), coded(dataset, tmp_path / "int8")
    train(whole)
    train(int8)
    ways = [[(m["bytes_up"], m["bytes_down"]) for m in row.measured.values()] for row in (*rows(whole), *rows(int8))]
    assert len({pair for row in ways[:3] for pair in row}) == 1 == len(set(ways[0][0]))
    assert {down for _, down in ways[3]} == {ways[0][0][1]}  # round 1 begins with whole weights
    assert all(4 * (up + down) < sum(ways[0][0]) for row in ways[4:] for up, down in row)


@pytest.mark.integration
@pytest.mark.parametrize("codec", ["bfloat16", "int8"])
def test_the_model_is_that_of_whole_weights_but_for_rounding(dataset: Path, tmp_path: Path, codec: str) -> None:
    whole = train(coded(dataset, tmp_path / "whole", "float32", max_rounds=2))
    rounded = train(coded(dataset, tmp_path / "rounded", codec, max_rounds=2))
    start = load_checkpoint(tmp_path / "whole" / "round-000001").tensors
    squares = [
        (np.square(rounded.tensors[name] - array).sum(), np.square(array - start[name]).sum())
        for name, array in whole.tensors.items()
    ]
    error, step = np.sqrt(np.sum(squares, axis=0, dtype=np.float64))
    assert 0 < error < 0.2 * step  # signs of Adam's first steps turn where gradients are next to nothing
    assert rows(coded(dataset, tmp_path / "rounded", codec))[1].loss_generator == pytest.approx(
        whole.loss_window[1], rel=1e-2
    )


@pytest.mark.integration
@pytest.mark.parametrize("codec", ["bfloat16", "int8"])
def test_a_resumed_run_gives_the_bits_of_an_uninterrupted_one(dataset: Path, tmp_path: Path, codec: str) -> None:
    uninterrupted = train(coded(dataset, tmp_path / "whole", codec))
    settings = coded(dataset, tmp_path / "parts", codec)

    class ServerKilledError(Exception):
        pass

    def kill_in_round_three(reply: Message, index: int) -> Message:
        if reply.metadata.group_id == "3" and index == 1:
            raise ServerKilledError
        return reply

    train(settings.replaced({"max-rounds": 1}))
    with pytest.raises(ServerKilledError):
        train(settings.replaced({"resume": True}), tamper=kill_in_round_three)
    assert bits(train(settings.replaced({"resume": True}))) == bits(uninterrupted)


@pytest.mark.integration
def test_a_site_that_missed_a_round_is_sent_whole_weights_again(dataset: Path, tmp_path: Path) -> None:
    settings = coded(dataset, tmp_path, max_rounds=4)
    train(settings, tamper=fails(2, site=1))
    down = [{site: measured["bytes_down"] for site, measured in row.measured.items()} for row in rows(settings)]
    assert set(down[1]) == {0, 2}
    assert down[2][1] == down[0][1] > 4 * down[2][0]
    assert down[3][1] == down[3][0] < down[0][1] / 4


@pytest.mark.integration
def test_a_site_that_lost_its_state_is_left_out_once(dataset: Path, tmp_path: Path) -> None:
    settings = coded(dataset, tmp_path, max_rounds=4)

    def lose(reply: Message, index: int) -> Message:
        if index == 1 and reply.metadata.group_id == "1":
            for path in (tmp_path / "clients" / "1").rglob("*.safetensors"):
                path.unlink()
        return reply

    train(settings, tamper=lose)
    assert [set(row.clients) for row in rows(settings)] == [{0, 1, 2}, {0, 2}, {0, 1, 2}, {0, 1, 2}]
    assert "UnknownWeightsError: round 2: got the step from the weights of round 1" in rows(settings)[1].rejected[1]


@pytest.mark.integration
def test_a_round_that_is_asked_for_again_begins_with_whole_weights(dataset: Path, tmp_path: Path) -> None:
    """Its sites have forgotten the weights of the round before, and give the bits that they would have given."""
    undisturbed = train(coded(dataset, tmp_path / "undisturbed", min_fit_clients=3))
    settings = coded(dataset, tmp_path / "repeated", min_fit_clients=3, quorum_timeout_s=60.0, round_timeout_s=1.0)
    lost: list[int] = []

    def lose_once(reply: Message, index: int) -> Message | None:
        if reply.metadata.group_id == "2" and index == 2 and not lost:
            lost.append(index)
            return None
        return reply

    assert bits(train(settings, tamper=lose_once)) == bits(undisturbed)
    assert lost and not any(row.rejected for row in rows(settings))
    down = [{measured["bytes_down"] for measured in row.measured.values()} for row in rows(settings)]
    assert down[1] == down[0] and max(down[2]) < min(down[0]) / 4


@pytest.mark.integration
def test_noised_updates_are_rounded_after_the_noise(dataset: Path, tmp_path: Path) -> None:
    settings = coded(dataset, tmp_path, dp_clip_norm=1.0, dp_noise_multiplier=1.0, max_rounds=2)
    train(settings)
    assert [set(row.clients) for row in rows(settings)] == [{0, 1, 2}] * 2
    norms = [measured["update_norm"] for measured in rows(settings)[1].measured.values()]
    size = sum(array.size for array in load_checkpoint(tmp_path).tensors.values())
    assert np.mean(norms) == pytest.approx(np.sqrt(size), rel=0.02)  # noise of deviation 1 on every value


@pytest.mark.integration
def test_noised_updates_are_summed_in_32_bits(dataset: Path, tmp_path: Path) -> None:
    """The model walks by the mean of three sites' noise of deviation 1."""
    private = {"dp_clip_norm": 1.0, "dp_noise_multiplier": 1.0, "secure_aggregation": True}
    train(coded(dataset, tmp_path, min_fit_clients=3, max_rounds=2, **private))
    first, second = (load_checkpoint(tmp_path / f"round-00000{number}").tensors for number in (1, 2))
    steps = [second[name] - first[name] for name in first.keys() - set(IDENTITY_ROWS)]
    assert np.concatenate([step.reshape(-1) for step in steps]).std() == pytest.approx(1 / np.sqrt(3), rel=0.02)
