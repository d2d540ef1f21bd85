"""Connections at the sites' door: real sockets, a real uvicorn, patience of a tenth of a second."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn

from server.flower import door_connections
from server.flower.door_connections import Crowd, Listener, PatientProtocol
from server.monitoring.refusals import Reason, RefusalLog

HALF = b"POST /v1/fleet/push-object HTTP/1.1\r\nHost: x\r\n"
WHOLE = HALF + b"Content-Length: 2\r\n\r\nhi"


class Refusals(RefusalLog):
    """Keeps the reasons."""

    def __init__(self) -> None:
        super().__init__()
        self.reasons: list[Reason] = []

    def add(self, reason: Reason, peer: str, words: str, node: str = "") -> None:
        assert peer == "127.0.0.1"
        self.reasons.append(reason)


@contextlib.asynccontextmanager
async def door(app: Any) -> AsyncIterator[tuple[int, Refusals, Crowd]]:
    """A server at some port."""
    refusals = Refusals()
    crowd = Crowd(refusals.add)
    listener = Listener(0, crowd)
    http: Any = functools.partial(PatientProtocol, refusals)
    config = uvicorn.Config(app, loop="asyncio", http=http, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    yield listener.getsockname()[1], refusals, crowd
    server.should_exit = server.force_exit = True
    await serving


async def greeting(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def run(scenario: Callable[[int, Refusals, Crowd], Awaitable[None]], app: Any = greeting) -> None:
    async def go() -> None:
        async with asyncio.timeout(20), door(app) as opened:
            await scenario(*opened)

    asyncio.run(go())


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_connections, "HEADER_S", 0.1)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("said", [b"", b"P", HALF])
def test_half_a_request_ends(said: bytes) -> None:
    async def scenario(port: int, refusals: Refusals, _: Crowd) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert refusals.reasons == [Reason.TOO_SLOW]

    run(scenario)


@pytest.mark.usefixtures("hurry")
def test_half_a_second_request_ends_too_and_a_request_in_progress_does_not() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.3)  # three times the patience with a header
        await greeting(scope, receive, send)

    async def scenario(port: int, refusals: Refusals, _: Crowd) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(WHOLE)
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.write(HALF)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert refusals.reasons == [Reason.TOO_SLOW]

    run(scenario, slow)


def test_answers_do_not_wait_for_acknowledgements() -> None:
    no_delay: list[bool] = []

    async def scenario(port: int, refusals: Refusals, crowd: Crowd) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(WHOLE)
        await reader.readuntil(b"ok")
        (connection,) = crowd._open.values()
        no_delay.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0)
        writer.close()

    run(scenario)
    assert no_delay == [True]


def test_several_requests_over_one_connection() -> None:
    async def scenario(port: int, refusals: Refusals, _: Crowd) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(WHOLE + WHOLE)
        for _ in range(2):
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.close()
        assert refusals.reasons == []

    run(scenario)


@pytest.mark.parametrize("said", [b"\x16\x03\x01 no HTTP\r\n\r\n", HALF + b"a: " + b"b" * 20_000])
def test_what_is_not_http_or_has_an_endless_header_is_refused(said: bytes) -> None:
    async def scenario(port: int, refusals: Refusals, _: Crowd) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
        assert refusals.reasons == [Reason.MALFORMED]

    run(scenario)


def test_where_one_address_has_too_many_the_oldest_without_a_key_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_connections, "MAX_CONNECTIONS_OF_ONE_ADDRESS", 3)

    async def scenario(port: int, refusals: Refusals, crowd: Crowd) -> None:
        site = await asyncio.open_connection("127.0.0.1", port)
        site[1].write(WHOLE)
        await site[0].readuntil(b"ok")
        crowd.prove(site[1].get_extra_info("sockname"))
        strangers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        for reader, _ in strangers[:3]:
            assert await reader.read() == b""
        assert refusals.reasons == [Reason.TOO_MANY] * 3
        for reader, writer in [*strangers[3:], site]:
            writer.write(WHOLE)
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            writer.close()

    run(scenario)


def test_connections_that_have_ended_make_room_and_other_addresses_have_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door_connections, "MAX_CONNECTIONS_OF_ONE_ADDRESS", 2)
    monkeypatch.setattr(door_connections, "MAX_CONNECTIONS", 4)
    dropped: list[str] = []
    crowd = Crowd(lambda reason, peer, words: dropped.append(peer))
    pairs = [socket.socketpair() for _ in range(7)]
    try:
        for number, (host, (ours, _)) in enumerate(zip("aabbc", pairs, strict=False)):
            crowd.admit(ours, (host, number))
        assert dropped == ["a"]  # the fifth is one too many in all; the oldest goes
        pairs[1][0].close()
        crowd.admit(pairs[5][0], ("c", 5))
        assert dropped == ["a"]
        for port in (2, 3, 4, 5):
            crowd.prove(("b" if port < 4 else "c", port))
        crowd.admit(pairs[6][0], ("d", 6))
        assert dropped == ["a", "d"]  # all others have shown a key
        assert pairs[6][1].recv(1) == b""
    finally:
        for ours, theirs in pairs:
            ours.close()
            theirs.close()
