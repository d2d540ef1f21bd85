from __future__ import annotations

import time
from collections.abc import Iterable

import httpx
import pytest
from flwr.app import ArrayRecord, Message

from model.errors import FederationError
from server import messaging
from server.messaging import PatientGrid, exchange, fit_message
from tests.inprocess_grid import FIRST_NODE_ID, InProcessGrid
from tests.server.replies import answering_app


class StumblingGrid(InProcessGrid):
    """Fails a number of times, as a SuperLink whose database is locked does."""

    num_failures = 0

    def get_node_ids(self) -> Iterable[int]:
        if self.num_failures > 0:
            self.num_failures -= 1
            raise httpx.HTTPError("500 Internal Server Error")
        return super().get_node_ids()

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self.get_node_ids()
        return super().pull_messages(message_ids)


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> StumblingGrid:
    monkeypatch.setattr(messaging, "_RETRY_INTERVAL_S", 0.01)
    app = answering_app(lambda context: lambda parameters, config: (parameters, 1, {}))
    return StumblingGrid(app, [{}, {}], {})


def test_a_superlink_that_stumbles_is_asked_again(grid: StumblingGrid) -> None:
    grid.num_failures = 3
    assert PatientGrid(grid).get_node_ids() == [FIRST_NODE_ID, FIRST_NODE_ID + 1]
    grid.num_failures = 2
    assert PatientGrid(grid).pull_messages(["unknown"]) == []


def test_patience_ends(grid: StumblingGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messaging, "_PATIENCE_S", 0.05)
    grid.num_failures = 10**9
    with pytest.raises(FederationError, match=r"the SuperLink does not answer for 0.05 s: 500 Internal Server Error"):
        PatientGrid(grid).get_node_ids()


class ExpiringGrid(InProcessGrid):
    """Drops replies when their message's time to live is over, as a SuperLink does."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        held = [self._replies[i] for i in message_ids if i in self._replies]
        return [
            reply
            for reply in super().pull_messages([reply.metadata.reply_to_message_id for reply in held])
            if time.time() < reply.metadata.created_at + reply.metadata.ttl
        ]


def test_one_lost_site_does_not_cost_the_replies_that_are_fetched_after_the_deadline() -> None:
    app = answering_app(lambda context: lambda parameters, config: (parameters, 1, {}))
    grid = ExpiringGrid(app, [{}, {}, {}], {}, tamper=lambda reply, index: None if index == 0 else reply)
    messages = [fit_message(FIRST_NODE_ID + i, ArrayRecord(), {"phase": "train"}, timeout_s=0.3) for i in range(3)]
    replies = list(exchange(grid, messages, timeout_s=0.3))
    assert [reply.metadata.src_node_id for reply in replies] == [FIRST_NODE_ID + 1, FIRST_NODE_ID + 2]
    assert not any(reply.has_error() for reply in replies)
