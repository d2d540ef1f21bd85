"""`flower-superlink` with a door for sites that opens to nothing else, and with refusals in its log.

Flower serves sites (Fleet API), operators (Control API: submit and stop runs) and server apps (Runtime API) on one
port, and whoever reaches it may submit a run. This process serves all three on `--host` and `--port`, which belong on
an internal network, and a second port for sites: the Fleet API and the health check alone. Failed TLS handshakes, of
which Flower says nothing, are logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import ssl
from asyncio import sslproto
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from logging import WARNING
from typing import Any

import uvicorn
from flwr.supercore import log, sql_mixin

FLEET_PORT_VARIABLE = "FEDREENACT_FLEET_PORT"
_DEFAULT_FLEET_PORT = 9092
_DATABASE_PATIENCE_MS = "300000"
_OPEN_TO_SITES = ("/v1/fleet/", "/health")
REFUSED = "refused connection"
"""How every line about a refusal begins; `server/refusals.py` counts them."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


class FleetDoor:
    """An ASGI app that passes the Fleet API and the health check on to another, and answers 404 to the rest."""

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = str(scope.get("path", ""))
        if scope["type"] == "http" and path.startswith(_OPEN_TO_SITES):
            await self._app(scope, receive, send)
            return
        log(WARNING, "%s (not-for-sites) from %s: %.60r", REFUSED, (scope.get("client") or ["?"])[0], path)
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


class _Quiet(uvicorn.Server):
    """A server that leaves signals to another one."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def serve_both(app: Asgi, *, host: str, port: int, workers: int = 1, reload: bool = False, **options: Any) -> None:
    """In place of `uvicorn.run`: everything at (host, port), the Fleet API at every address of the fleet port."""
    fleet_port = int(os.environ.get(FLEET_PORT_VARIABLE, _DEFAULT_FLEET_PORT))
    # asyncio's own loop: uvloop's TLS cannot be listened to.
    whole = uvicorn.Server(uvicorn.Config(app, host=host, port=port, loop="asyncio", **options))
    door = _Quiet(
        uvicorn.Config(FleetDoor(app), host="0.0.0.0", port=fleet_port, loop="asyncio", lifespan="off", **options)
    )

    async def serve() -> None:
        sites = asyncio.create_task(_after(whole, door))
        await whole.serve()
        door.should_exit = True
        await sites

    asyncio.run(serve())


async def _after(first: uvicorn.Server, second: uvicorn.Server) -> None:
    while not first.started and not first.should_exit:
        await asyncio.sleep(0.05)
    if first.started:
        await second.serve()


def log_refused_handshakes() -> None:
    """Have asyncio log every TLS handshake that fails at this process, with the peer's address."""
    protocol: Any = sslproto.SSLProtocol
    complete = protocol._on_handshake_complete

    def logged(self: Any, error: BaseException | None) -> None:
        if error is not None and self._server_side:
            peer = self._transport.get_extra_info("peername") if self._transport else None
            kind = "plaintext" if getattr(error, "reason", "") == "HTTP_REQUEST" else "tls"
            why = error.reason if isinstance(error, ssl.SSLError) else repr(error)  # or a class, of a lost connection
            log(WARNING, "%s (%s) from %s: TLS handshake failed: %s", REFUSED, kind, (peer or ["?"])[0], why)
        complete(self, error)

    protocol._on_handshake_complete = logged


def wait_for_the_database() -> None:
    """Let writers of Flower's SQLite database wait for each other.

    Five sites that send tensors at once hold it for longer than the five seconds after which Flower gives up, and a
    message is lost.
    """
    others = tuple((name, value) for name, value in sql_mixin.SQLITE_PRAGMAS if name != "busy_timeout")
    sql_mixin.SQLITE_PRAGMAS = (("busy_timeout", _DATABASE_PATIENCE_MS), *others)


def main() -> None:
    """Run Flower's SuperLink."""
    os.umask(0o077)  # its database holds the updates in flight
    log_refused_handshakes()
    wait_for_the_database()
    flower = importlib.import_module("flwr.superlink.cli.flower_superlink")  # its package has a function of that name
    flower.uvicorn.run = serve_both
    flower.flower_superlink()
