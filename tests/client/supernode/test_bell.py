"""The sleep of a site's SuperExec ends when there is a message, and is one where nobody rings."""

from __future__ import annotations

import os
import select

import pytest

from client.supernode import bell
from client.supernode.bell import Bell, SleepUntilRung


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept by the clock alone."""
    naps: list[float] = []
    monkeypatch.setattr(bell.time, "sleep", naps.append)  # type: ignore[attr-defined]
    return naps


def hears(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def test_a_ring_ends_the_sleep_and_many_are_one(naps: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    own = Bell()
    superexec = SleepUntilRung(own.heard)
    for _ in range(100_000):  # more than a pipe holds
        own.ring()
    while hears(own.heard):
        superexec.sleep(1.0)  # for good, if it did not hear
    monkeypatch.setattr(bell, "_LOOK_AGAIN_S", 0.01)
    superexec.sleep(1.0)
    assert naps == []
    own.ring()
    assert hears(own.heard)


def test_where_the_supernode_has_ended_it_sleeps_by_the_clock(naps: list[float]) -> None:
    own = Bell()
    os.close(own._rung)
    SleepUntilRung(own.heard).sleep(1.5)
    assert naps == [1.5]


def test_what_the_superexec_starts_does_not_hear(naps: list[float]) -> None:
    own = Bell()
    os.set_inheritable(own.heard, True)
    SleepUntilRung(own.heard)
    assert not os.get_inheritable(own.heard)
