"""Sites that were late: in rounds of FedGAN on clients that answer with chosen arrays."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Error, Message
from flwr.common.constant import ErrorCode

from federation.settings import Settings
from server.rounds.exchange import Link, TooFewUpdatesError
from server.rounds.fedgan import FedGAN
from server.rounds.loop import RoundOutcome
from server.rounds.messaging import fit_message
from server.sites.arrears import Arrears
from server.sites.roster import Roster
from server.updates.reply import Rejection
from tests.server.replies import Answer, answering_app
from tests.support.inprocess_grid import FIRST_NODE_ID, InProcessGrid

START = {"generator.w": np.zeros(2, np.float32)}
TIMEOUT_S = 0.2


class HoldingGrid(InProcessGrid):
    """Keeps the replies of site 0 to itself for as long as it is told to."""

    def __init__(self) -> None:
        super().__init__(answering_app(_client), [{"partition-id": index} for index in range(3)], {})
        self.is_holding = False
        self.rounds_asked: list[str] = []
        """Groups of the messages to site 0."""
        self._kept: dict[str, Message] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        ids = super().push_messages(messages)
        to_site_0 = [message for message in messages if message.metadata.dst_node_id == FIRST_NODE_ID]
        self.rounds_asked += [message.metadata.group_id for message in to_site_0]
        if self.is_holding:
            self._kept |= {m.metadata.message_id: self._replies.pop(m.metadata.message_id) for m in to_site_0}
        return ids

    def deliver(self) -> None:
        """What was held back."""
        self._replies |= self._kept
        self._kept = {}

    def expire(self) -> None:
        """What Flower says when a message's time to live is over."""
        for name, reply in self._kept.items():
            error = Error(ErrorCode.MESSAGE_UNAVAILABLE, "expired")
            reply.__dict__["_error"], reply.__dict__["_content"] = error, None
            self._replies[name] = reply
        self._kept = {}


def _client(context: Context) -> Answer:
    """Site i has as many frames as the others, and trains every weight to i + 1, and 10 more in every round."""
    index = int(context.node_config["partition-id"])

    def answer(
        parameters: list[np.ndarray], config: dict[str, object]
    ) -> tuple[list[np.ndarray], int, dict[str, object]]:
        if config["phase"] == "statistics":
            landmarks = np.zeros((3, 68, 2))
            arrays = [np.ones((4, 2)), landmarks, landmarks, 10.0 * np.eye(3)[index]]
            return arrays, 10, {"partition-id": index, f"label-{index}": f"Ada {index}"}
        value = 10 * int(str(config["server-round"])) + index + 1
        return [np.full_like(array, value) for array in parameters], 10, {"loss_generator": 1.0}

    return answer


@pytest.fixture
def grid() -> HoldingGrid:
    return HoldingGrid()


@pytest.fixture
def link(grid: HoldingGrid) -> Link:
    roster = Roster(_settings())
    roster.wait_for_sites(grid)
    return Link(grid=grid, roster=roster, timeout_s=TIMEOUT_S, on_wait=lambda: None, min_sites=2)


@pytest.fixture
def strategy(link: Link, tmp_path: Path) -> FedGAN:
    return FedGAN(START, link, _settings(), tmp_path, scalars={"run-id": "r"})


def _settings() -> Settings:
    flat = {"num-clients": 3, "min-fit-clients": 2, "num-identities": 3, "round-timeout-s": TIMEOUT_S}
    return Settings.from_flat(flat)


def _mean(outcome: RoundOutcome) -> float:
    return float(outcome.tensors["generator.w"][0])


def test_a_late_site_is_asked_again_when_it_has_answered(strategy: FedGAN, grid: HoldingGrid) -> None:
    grid.is_holding = True
    late = strategy.train(1, START)
    assert (late.rejected, late.rejected_kinds) == ({0: "no reply within 0.2 s"}, {0: "late"})
    for number in (2, 3):
        outcome = strategy.train(number, START)
        assert outcome.rejected == {0: "has not answered the message of round 1 yet, and is not asked before"}
        assert outcome.rejected_kinds == {0: "late"}
        assert _mean(outcome) == 10 * number + 2.5
    grid.is_holding = False
    grid.deliver()
    outcome = strategy.train(4, START)
    assert (outcome.rejected, _mean(outcome)) == ({}, 42.0)  # its answer of round 1 is in no mean
    assert grid.rounds_asked[-2:] == ["1", "4"]


def test_a_site_whose_answer_is_lost_is_asked_again_and_not_waited_for_until_it_answers(
    strategy: FedGAN, link: Link, grid: HoldingGrid
) -> None:
    grid.is_holding = True
    strategy.train(1, START)
    grid.expire()
    outcome = strategy.train(2, START)
    assert outcome.rejected == {0: "no reply with the others'"}
    assert not link.arrears.is_waited_for(0)
    grid.expire()
    grid.is_holding = False
    outcome = strategy.train(3, START)  # it answers with the others
    assert (outcome.rejected, _mean(outcome)) == ({}, 32.0)
    assert link.arrears.is_waited_for(0)
    assert grid.rounds_asked[-3:] == ["1", "2", "3"]


def test_too_few_answers_do_not_end_a_run_at_once_while_a_site_owes_one(strategy: FedGAN, grid: HoldingGrid) -> None:
    grid.is_holding = True
    strategy.train(1, START)
    with pytest.raises(TooFewUpdatesError, match="client 1: sent the very update of an earlier round") as raised:
        strategy.train(1, START)
    assert raised.value.num_answers == 2  # of three: a wait for the third is not in vain


def test_a_site_that_left_or_came_back_owes_nothing(grid: HoldingGrid, link: Link) -> None:
    late = link.roster.by_partition()[0]
    link.roster.refresh(grid)
    assert link.roster.by_partition()[0] is late
    message = fit_message(FIRST_NODE_ID, ArrayRecord(), {"server-round": 4}, timeout_s=TIMEOUT_S)
    for sites in ({}, {0: copy.copy(late)}):
        arrears = Arrears()
        arrears.note_late(late, message)
        assert arrears.owing(grid, {0: late}) == {
            0: "has not answered the message of round 4 yet, and is not asked before"
        }
        assert arrears.owing(grid, sites) == {}
        assert arrears.is_waited_for(0)


def test_where_a_round_needs_it_a_late_site_is_asked_and_waited_for(grid: HoldingGrid, link: Link) -> None:
    grid.is_holding = True
    message = fit_message(FIRST_NODE_ID, ArrayRecord(), {"server-round": 4}, timeout_s=TIMEOUT_S)
    link.arrears.note_late(link.roster.by_partition()[0], message)
    assert list(link.left_out({})) == [0]
    # Site 1 alone makes no round of two.
    assert link.left_out({2: "in quarantine"}) == {2: ("in quarantine", Rejection.QUARANTINED)}
