"""`flower-superlink` that serves the user who started it and no other user of the machine.

Whoever reaches the Control API may have code run as the SuperLink's user, and a port of the loopback interface is
reached by every user of the machine. The kernel knows whose a connection is, and Linux says so in /proc/net/tcp;
elsewhere nothing is refused.

Nor does it give up a run that was silent for a minute: a computer that sleeps stays silent for longer, and a run whose
processes have died is noticed by whoever watches them (simulation.py).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn
from flwr.common import constant

CONNECTIONS = Path("/proc/net/tcp")
HEARTBEAT_PATIENCE = 1_000_000
"""Heartbeats, one in half a minute, that a run may miss; Flower's own is 2."""
_ESTABLISHED = "01"
_serve_anybody = uvicorn.run

Scope = MutableMapping[str, Any]
Asgi = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


class SameUser:
    """An ASGI app that passes requests of one user on to another app, and answers 403 to everybody else's."""

    def __init__(self, app: Asgi, uid: int) -> None:
        self._app = app
        self._uid = uid

    async def __call__(self, scope: Scope, receive: Callable[[], Any], send: Callable[[Any], Awaitable[None]]) -> None:
        """Answer one request; the body of one that is refused is not read."""
        if scope["type"] == "lifespan" or user_of(scope["client"], scope["server"]) == self._uid:
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


def user_of(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """User id of the process that has the client's end of a connection within this machine.

    Args:
        client: IPv4 address and port of the end.
        server: of the other end.

    Returns:
        None if there is no such connection, or the client has closed its end: nobody owns it then.
    """
    ends = [_as_the_kernel_writes(client), _as_the_kernel_writes(server)]
    for line in CONNECTIONS.read_text("ascii").splitlines()[1:]:
        fields = line.split()
        if fields[1:4] == [*ends, _ESTABLISHED]:
            return int(fields[7])
    return None


def _as_the_kernel_writes(end: tuple[str, int]) -> str:
    address = int.from_bytes(bytes(map(int, end[0].split("."))), sys.byteorder)
    return f"{address:08X}:{end[1]:04X}"


def serve(app: Asgi, **options: Any) -> None:
    """In place of `uvicorn.run`; no header of a request may say that it comes from elsewhere."""
    guarded = SameUser(app, os.getuid()) if CONNECTIONS.exists() else app
    _serve_anybody(guarded, proxy_headers=False, **options)


def wait_for_heartbeats() -> None:
    """Have a SuperLink of this process miss as many heartbeats as it may; before Flower's modules take their copies."""
    constant.HEARTBEAT_PATIENCE = HEARTBEAT_PATIENCE


def main() -> None:
    """Run Flower's SuperLink."""
    wait_for_heartbeats()
    flower = importlib.import_module("flwr.superlink.cli.flower_superlink")  # its package has a function of that name
    flower.uvicorn.run = serve
    flower.flower_superlink()


if __name__ == "__main__":
    main()
