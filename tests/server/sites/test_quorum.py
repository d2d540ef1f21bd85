"""Waiting for sites: small real runs over a grid whose sites come and go."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, Context, Message, RecordDict

from data_partition.consent.withdrawal import runs_that_learnt
from federation.settings import Settings
from model.checkpoint import load_checkpoint
from model.errors import FederationError
from server.rounds.federation import run_federation
from server.run_folder.history import read_history
from server.run_folder.live_status import Live
from server.run_folder.result import RunResult
from server.sites import quorum, roster
from tests.support.federated_setup import deployed_config, minimal_settings, simulated_grid, write_dataset
from tests.support.inprocess_grid import FIRST_NODE_ID, InProcessGrid
from tests.support.packed import packed


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quorum, "_REPEAT_INTERVAL_S", 0.02)
    monkeypatch.setattr(quorum, "_POLL_INTERVAL_S", 0.02)
    monkeypatch.setattr(roster, "_POLL_INTERVAL_S", 0.02)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return minimal_settings(
        write_dataset(tmp_path / "dataset", 2),
        tmp_path / "run",
        2,
        local_steps=1,
        round_timeout_s=0.2,
        quorum_timeout_s=60.0,
    )


class ComingAndGoing(InProcessGrid):
    """Node 1 is away for some looks at the list of nodes, once round 2 has been sent to it; then it is a new node."""

    num_looks_away = 0
    round_to_leave_in = "2"
    _has_left = False

    def get_node_ids(self) -> Iterable[int]:
        nodes = list(super().get_node_ids())
        if self._has_left:
            self.num_looks_away -= 1
        is_away = self._has_left and self.num_looks_away > 0
        return nodes[:1] if is_away else nodes

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        held = list(messages)
        leaves = any(message.metadata.group_id == self.round_to_leave_in for message in held) and not self._has_left
        if leaves:
            self._has_left = True
            self._tamper = lambda reply, index: None if index == 1 else reply
        ids = list(super().push_messages(held))
        if leaves:
            self._tamper = lambda reply, index: reply
        return ids


def grid_of(settings: Settings, kind: type[InProcessGrid], **options: object) -> InProcessGrid:
    grid = simulated_grid(settings, **options)
    grid.__class__ = kind
    return grid


def bits(folder: Path) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in load_checkpoint(folder).tensors.items()}


def test_a_round_is_repeated_when_a_site_comes_back_and_gives_the_same_bits(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed = settings.replaced({"output-dir": str(tmp_path / "undisturbed")})
    run_federation(simulated_grid(undisturbed), undisturbed)
    grid = grid_of(settings, ComingAndGoing)
    grid.num_looks_away = 12  # type: ignore[attr-defined]
    run_federation(grid, settings)
    assert bits(tmp_path / "run") == bits(tmp_path / "undisturbed")
    assert [row.round for row in read_history(tmp_path / "run")] == [1, 2]
    assert "round 2: 1 valid updates, min-fit-clients is 2 (client 1: no reply within 0.2 s)" in caplog.text
    assert "round 2: 1 sites are connected, min-fit-clients is 2" in caplog.text
    result = RunResult.read(tmp_path / "run")
    assert result is not None and result.state == "completed"


@pytest.mark.integration
def test_sites_that_stay_away_end_the_run_with_the_round_the_sites_and_why(settings: Settings, tmp_path: Path) -> None:
    settings = settings.replaced({"quorum-timeout-s": 0.5})
    grid = grid_of(settings, ComingAndGoing)
    grid.num_looks_away = 10**9  # type: ignore[attr-defined]
    with pytest.raises(
        FederationError, match=r"round 2: 1 sites are connected, min-fit-clients is 2.*; not connected: 1"
    ):
        run_federation(grid, settings)
    assert load_checkpoint(tmp_path / "run").round == 1
    result = RunResult.read(tmp_path / "run")
    assert result is not None
    assert (result.state, result.error) == ("failed", "FederationError")
    assert result.reason.endswith("not connected: 1")


@pytest.mark.integration
def test_a_lost_reply_is_asked_for_again_until_the_limit(settings: Settings, tmp_path: Path) -> None:
    attempts = []

    def lose(reply: Message, index: int) -> Message | None:
        if index == 1 and reply.metadata.group_id == "1":
            attempts.append(1)
            return None
        return reply

    settings = settings.replaced({"quorum-timeout-s": 1.0})
    with pytest.raises(FederationError, match=r"round 1: 1 valid updates, .* \(client 1: no reply within 0.2 s\)"):
        run_federation(simulated_grid(settings, tamper=lose), settings)
    assert len(attempts) > 1


def test_a_site_that_fails_the_same_way_twice_ends_the_run_and_no_update_stays(
    settings: Settings, tmp_path: Path
) -> None:
    attempts = []
    left_by_an_earlier_version = tmp_path / "run" / "updates" / "client-0.float32"
    left_by_an_earlier_version.parent.mkdir(parents=True)
    left_by_an_earlier_version.touch()

    def poison(reply: Message, index: int) -> Message:
        if index == 1 and reply.metadata.group_id == "1":
            attempts.append(1)
            record = reply.content.array_records["fitres.parameters"]
            record["0"] = Array(np.full_like(record["0"].numpy(), np.nan))
        return reply

    with pytest.raises(FederationError, match=r"round 1: 1 valid updates, .* \(client 1: update: "):
        run_federation(simulated_grid(settings, tamper=poison), settings)
    assert len(attempts) == 2
    assert not left_by_an_earlier_version.parent.exists()


def test_a_reply_damaged_once_costs_nothing(settings: Settings, tmp_path: Path) -> None:
    undisturbed = settings.replaced({"output-dir": str(tmp_path / "undisturbed")})
    run_federation(simulated_grid(undisturbed), undisturbed)
    damaged, told = [], []

    def poison_once(reply: Message, index: int) -> Message:
        if damaged:
            told.append(Live.read(tmp_path / "run"))
        if index == 1 and reply.metadata.group_id == "2" and not damaged:
            damaged.append(1)
            del reply.content.array_records["fitres.parameters"]["0"]
        return reply

    run_federation(simulated_grid(settings, tamper=poison_once), settings)
    assert damaged and told[-1] is not None
    assert (told[-1].round, told[-1].attempt, told[-1].num_sites) == (2, 2, 2)
    assert "round 2: 1 valid updates, min-fit-clients is 2 (client 1: " in told[-1].trouble
    assert bits(tmp_path / "run") == bits(tmp_path / "undisturbed")


class Rejoining(InProcessGrid):
    """Site 1 restarts in round 1: its new node is there at once, its old one is missed a round later."""

    is_restarted = False
    sent: dict[str, list[bytes]]
    _num_pushes = 0

    def get_node_ids(self) -> Iterable[int]:
        if not self.is_restarted:
            return [FIRST_NODE_ID, FIRST_NODE_ID + 1]
        old = [FIRST_NODE_ID + 1] if self._num_pushes < 3 else []
        return [FIRST_NODE_ID, *old, FIRST_NODE_ID + 2]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        held = list(messages)
        if any(message.metadata.group_id != "0" for message in held):
            self._num_pushes += 1
            self.is_restarted = True
            arrays = held[-1].content.array_records["fitins.parameters"]
            self.sent[held[-1].metadata.group_id] = [array.numpy().tobytes() for array in arrays.values()]
        return super().push_messages(held)


def test_a_site_that_comes_back_as_a_new_node_joins_the_next_round_from_the_current_model(
    settings: Settings, tmp_path: Path
) -> None:
    settings = settings.replaced({"min-fit-clients": 1, "max-rounds": 5})

    def is_dead(reply: Message, index: int) -> Message | None:
        return None if index == 1 and reply.metadata.group_id not in ("0", "1") else reply

    grid = grid_of(settings, Rejoining, tamper=is_dead)
    assert isinstance(grid, Rejoining)
    grid.sent = {}
    grid._arrival = [0, 1, 2]
    configs = [context.node_config for context in grid._contexts]
    restarted = Context(1, FIRST_NODE_ID + 2, configs[1], RecordDict(), settings.to_flat())
    grid._contexts.append(restarted)
    run_federation(grid, settings)
    rows = read_history(tmp_path / "run")
    assert [list(row.clients) for row in rows] == [[0, 1], [0], [0], [0, 1], [0, 1]]
    assert grid.sent["4"] == [packed(_load(tmp_path / "run" / "round-000003")).tobytes()]


class JoiningLate(InProcessGrid):
    """Node 1 is there once round 1 has been sent."""

    _has_begun = False

    def get_node_ids(self) -> Iterable[int]:
        return list(super().get_node_ids())[: 2 if self._has_begun else 1]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        held = list(messages)
        self._has_begun |= any(message.metadata.group_id == "1" for message in held)
        return super().push_messages(held)


def test_a_run_knows_by_name_who_joined_after_its_first_round(settings: Settings, tmp_path: Path) -> None:
    from client.app import app

    settings = settings.replaced({"min-fit-clients": 1, "max-rounds": 3, "local-steps": 2})
    configs = [
        deployed_config(tmp_path / "dataset", tmp_path, index, settings) | {"identity-label": name}
        for index, name in enumerate(("ada", "bea"))
    ]
    run_federation(JoiningLate(app, configs, settings.to_flat()), settings)
    assert [list(row.clients) for row in read_history(tmp_path / "run")] == [[0], [0, 1], [0, 1]]
    assert load_checkpoint(tmp_path / "run").identities == ["ada", "bea"]
    assert runs_that_learnt(tmp_path / "run", "bea").learnt == (tmp_path / "run",)


def _load(folder: Path) -> list[np.ndarray]:
    checkpoint = load_checkpoint(folder)
    return [checkpoint.tensors[name] for name in checkpoint.networks().travelling_tensors()]
