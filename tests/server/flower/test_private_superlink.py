from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn

from server.flower.private_superlink import SameUser, Scope, user_of


@contextmanager
def serving(uid: int) -> Iterator[tuple[str, list[str]]]:
    """A guarded server's address, and the paths that its app saw."""
    seen: list[str] = []

    async def app(scope: Scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        seen.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})

    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(SameUser(app, uid), lifespan="off", proxy_headers=False, log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}", seen
    finally:
        server.should_exit = True
        thread.join()


def test_its_own_user_is_answered() -> None:
    with serving(os.getuid()) as (address, seen):
        assert httpx.get(f"http://{address}/v1/control/start-run").text == "answer"
    assert seen == ["/v1/control/start-run"]


@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-For": "127.0.0.1"}])
def test_another_user_is_refused(headers: dict[str, str]) -> None:
    with serving(os.getuid() + 1) as (address, seen):
        answer = httpx.post(f"http://{address}/v1/control/start-run", content=b"a run", headers=headers)
    assert (answer.status_code, answer.content, seen) == (403, b"", [])


def test_a_connection_that_the_client_has_closed_is_nobodys() -> None:
    """The kernel shows a closed end as root's: a server of root must not take it for its own user's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        peer, address = server.accept()
        with peer:
            assert user_of(address, server.getsockname()) == os.getuid()
            client.close()
            deadline = time.monotonic() + 5
            while user_of(address, server.getsockname()) is not None and time.monotonic() < deadline:
                time.sleep(0.01)
            assert user_of(address, server.getsockname()) is None
