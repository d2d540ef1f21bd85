"""Real runs in which one site sends malformed replies from the first round on, in clear and under a secure sum."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from flwr.app import Error, Message

from model.checkpoint import load_checkpoint
from model.setting import Scalar
from server.rounds.federation import run_federation
from server.run_folder.history import read_history
from server.run_folder.result import RunResult
from tests.server import malformed
from tests.server.malformed import header_of, npz, with_data
from tests.support.federated_setup import minimal_settings, simulated_grid, write_dataset
from tests.support.inprocess_grid import Tamper

pytestmark = pytest.mark.integration

CERTAIN = (
    lambda reply: with_data(reply, "0", npz(reply.content.array_records["fitres.parameters"]["0"].numpy())),
    lambda reply: with_data(reply, "0", header_of((2**45,))),
    lambda reply: malformed.arrays_changed(reply, Random(1)),
    lambda reply: with_error(reply),
)
"""Changes that no valid reply is left after."""


def with_error(reply: Message) -> Message:
    reply.__dict__.update(_content=None, _error=Error(2, "fails"))
    return reply


def run(tmp_path: Path, name: str, tamper: Tamper, num_sites: int, **changes: Scalar) -> Path:
    dataset = tmp_path / "dataset"
    if not dataset.exists():
        write_dataset(dataset, num_sites)
    settings = minimal_settings(dataset, tmp_path / name, num_sites, **changes)
    run_federation(simulated_grid(settings, tamper=tamper), settings)
    return tmp_path / name


def bits(folder: Path) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in load_checkpoint(folder).tensors.items()}


def test_a_site_that_sends_malformed_updates_costs_the_others_nothing(tmp_path: Path) -> None:
    def hostile(reply: Message, index: int) -> Message:
        number = int(reply.metadata.group_id)
        return CERTAIN[number % len(CERTAIN)](reply) if index == 2 and number else reply

    def failing(reply: Message, index: int) -> Message:
        return with_error(reply) if index == 2 and reply.metadata.group_id != "0" else reply

    options: dict[str, Scalar] = {"min_fit_clients": 2, "max_rounds": 4, "quarantine_after": 0}
    with_hostile = run(tmp_path, "hostile", hostile, 3, **options)
    without = run(tmp_path, "without", failing, 3, **options)
    assert bits(with_hostile) == bits(without)
    rows = read_history(with_hostile)
    assert [list(row.clients) for row in rows] == [[0, 1]] * 4
    assert [row.rejected_kinds[2] for row in rows] == ["mismatch", "mismatch", "failed", "unreadable"]


@pytest.mark.parametrize("phase", ["secure-keys", "secure-shares", "secure-train", "secure-unmask"])
def test_a_secure_round_goes_on_without_a_site_whose_reply_is_malformed(phase: str, tmp_path: Path) -> None:
    phases: list[str] = []

    def hostile(reply: Message, index: int) -> Message:
        if index != 3 or reply.metadata.group_id == "0":
            return reply
        phases.append(("secure-keys", "secure-shares", "secure-train", "secure-unmask")[len(phases)])
        return with_data(reply, "0", header_of((2**45,))) if phases[-1] == phase else reply

    folder = run(tmp_path, "run", hostile, 4, min_fit_clients=3, max_rounds=1, secure_aggregation=True, tau=0.0)
    (row,) = read_history(folder)
    result = RunResult.read(folder)
    assert result is not None and result.state == "completed"
    others = [0, 1, 2]
    assert list(row.clients) == ([*others, 3] if phase == "secure-unmask" else others)
    assert row.rejected_kinds == ({} if phase == "secure-unmask" else {3: "mismatch"})
