from __future__ import annotations

import contextlib
import email.utils
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from flwr.proto.fleet_pb2 import ActivateNodeRequest, ActivateNodeResponse, PullMessagesRequest
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest, SendNodeHeartbeatResponse
from flwr.supercore.error import FlowerError
from flwr.supercore.heartbeat import HeartbeatSender

from client.supernode import fleet_client
from client.supernode.fleet_client import SiteFleetClient, seconds_ahead

NOON = 1_800_000_000.0
NOT_ACTIVATED = FlowerError(2004, "").to_json("Failed to activate SuperNode.")


@pytest.fixture(autouse=True)
def unrefused() -> Iterator[None]:
    yield
    SiteFleetClient.was_refused = False


def client(answer: Callable[[httpx.Request], httpx.Response]) -> SiteFleetClient:
    """Flower's own client, above a SuperLink that is a function."""
    made = SiteFleetClient.from_server_address("superlink:9092", True, None, [])
    made._client = httpx.Client(transport=httpx.MockTransport(answer))
    return made


def at(seconds: float) -> dict[str, str]:
    return {"date": email.utils.formatdate(seconds, usegmt=True)}


@pytest.mark.parametrize(
    ("sent_at", "received_at", "ahead_s"),
    [
        (NOON + 0.2, NOON + 0.3, 0.0),  # the Date has whole seconds
        (NOON - 0.5, NOON + 40.0, 0.0),  # an answer that took long
        (NOON + 7.5, NOON + 8.0, 6.5),
        (NOON - 400.0, NOON - 399.0, -399.0),
    ],
)
def test_the_clock_is_compared_with_the_date_between_question_and_answer(
    sent_at: float, received_at: float, ahead_s: float
) -> None:
    date = email.utils.formatdate(NOON, usegmt=True)
    assert seconds_ahead(date, sent_at=sent_at, received_at=received_at) == pytest.approx(ahead_s)


@pytest.mark.parametrize("date", ["", "yesterday", "99"])
def test_no_date_says_nothing_about_the_clock(date: str) -> None:
    assert seconds_ahead(date, sent_at=NOON, received_at=NOON) == 0.0


def test_a_clock_that_goes_wrong_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    offsets = iter([0.0, -60.0, -60.0, 0.0])
    site = client(lambda _: httpx.Response(200, headers=at(time.time() + next(offsets))))
    with caplog.at_level(logging.WARNING, "client"):
        for _ in range(4):
            site.PullMessages(PullMessagesRequest())
    (line,) = caplog.messages
    assert "s ahead of the SuperLink's" in line and "NTP" in line
    assert not SiteFleetClient.was_refused


@pytest.mark.parametrize(
    ("superlink_s", "reason"),
    [(-60.0, "s ahead of the SuperLink's"), (400.0, "s behind the SuperLink's"), (0.0, "the clocks agree")],
)
def test_a_refusal_has_a_reason(superlink_s: float, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    site = client(lambda _: httpx.Response(401, headers=at(time.time() + superlink_s)))
    with caplog.at_level(logging.ERROR, "client"), pytest.raises(httpx.HTTPStatusError):
        site.PullMessages(PullMessagesRequest())
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert line.startswith("the SuperLink refused this site (401): ") and reason in line
    assert SiteFleetClient.was_refused


@pytest.mark.parametrize("superlink_s", [-60.0, 400.0])
def test_a_site_that_connects_with_a_wrong_clock_says_so_and_does_not_wait(
    superlink_s: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Such an activation is refused as that of a site whose predecessor lives."""
    monkeypatch.setattr(fleet_client.time, "sleep", lambda seconds: pytest.fail("waited"))
    site = client(lambda _: httpx.Response(412, json=NOT_ACTIVATED, headers=at(time.time() + superlink_s)))
    with caplog.at_level(logging.ERROR, "client"), pytest.raises(httpx.HTTPStatusError):
        site.ActivateNode(ActivateNodeRequest())
    (line,) = caplog.messages
    assert line.startswith("the SuperLink refused this site (412): this site's clock is ")
    assert SiteFleetClient.was_refused


def test_a_site_that_was_killed_waits_until_its_heartbeat_lapses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(fleet_client.time, "sleep", waits.append)
    answers = iter([httpx.Response(409, json=NOT_ACTIVATED)] * 4)
    welcome = httpx.Response(200, content=ActivateNodeResponse(node_id=7).SerializeToString())
    site = client(lambda _: next(answers, welcome))
    with caplog.at_level(logging.WARNING, "client"):
        assert site.ActivateNode(ActivateNodeRequest()).node_id == 7
    assert len(waits) == 4
    assert len(caplog.records) == 1


def test_a_site_that_is_not_known_says_so_in_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr(fleet_client.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(fleet_client.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    site = client(lambda _: httpx.Response(409, json=NOT_ACTIVATED))
    with caplog.at_level(logging.WARNING, "client"), pytest.raises(httpx.HTTPStatusError):
        site.ActivateNode(ActivateNodeRequest())
    assert now[0] == pytest.approx(90.0)
    assert "register it there" in caplog.messages[-1]


@pytest.mark.parametrize("error", [httpx.Response(503), httpx.Response(409, json=FlowerError(2001, "").to_json("no"))])
def test_other_failures_are_flowers_own_business(error: httpx.Response, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_client.time, "sleep", lambda seconds: pytest.fail("waited"))
    with pytest.raises(httpx.HTTPStatusError):
        client(lambda _: error).ActivateNode(ActivateNodeRequest())


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500, text="database or disk is full"),
        httpx.Response(507),
        httpx.Response(200, content=b"<html>log in first</html>"),
    ],
)
def test_heartbeats_outlive_an_error_of_the_superlink(answer: httpx.Response, caplog: pytest.LogCaptureFixture) -> None:
    """Flower's own thread, which ends for good where the SuperLink answers with an error that it does not know."""
    alive = SendNodeHeartbeatResponse(success=True).SerializeToString()
    answers = iter([answer, answer, httpx.Response(200, content=alive)])
    site, came = client(lambda _: next(answers)), threading.Event()

    def beat() -> bool:
        try:
            site.SendNodeHeartbeat(SendNodeHeartbeatRequest())
        except httpx.TransportError:  # which `fleet_http_connection` takes for a reason to try again
            return False
        came.set()
        return True

    sender = HeartbeatSender(beat)
    sender._retry_invoker.wait_function = lambda _: None
    sender.start()
    assert came.wait(10) and sender.is_running
    sender.stop()
    assert not SiteFleetClient.was_refused and not caplog.records


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (httpx.Response(404), "answered with 404"),
        (httpx.Response(200, content=b""), "does not know this site's connection any more"),
    ],
)
def test_a_site_whose_heartbeats_would_end_for_good_ends_itself(
    answer: httpx.Response, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    site, signals = client(lambda _: answer), list[int]()
    before = signal.signal(signal.SIGINT, lambda number, _: signals.append(number))  # as Flower, which ends in order
    try:
        with contextlib.suppress(httpx.HTTPStatusError):
            site.SendNodeHeartbeat(SendNodeHeartbeatRequest())
    finally:
        signal.signal(signal.SIGINT, before)
    assert signals == [signal.SIGINT]
    assert SiteFleetClient.was_refused and reason in caplog.text
