"""`flower-superlink` with a door for sites that opens to nothing else, and with refusals in its log.

Flower serves sites (Fleet API), operators (Control API: submit and stop runs) and server apps (Runtime API) on one
port, and whoever reaches it may submit a run. This process serves all three on `--host` and `--port`, which belong on
an internal network, and a second port for sites: the Fleet API and the health check alone, behind `FleetDoor`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import os
from collections.abc import Iterator
from logging import ERROR, INFO
from typing import Any, cast

import uvicorn
from flwr.supercore import log, sql_mixin

from server.flower.door_connections import Crowd, Listener, PatientProtocol, log_refused_handshakes
from server.flower.fleet_door import FleetDoor, Keys
from server.monitoring.refusals import RefusalLog

FLEET_PORT_VARIABLE = "FEDREENACT_FLEET_PORT"
_DEFAULT_FLEET_PORT = 9092
_DATABASE_PATIENCE_MS = "300000"


class _Quiet(uvicorn.Server):
    """A server that leaves signals to another one."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def serve_both(app: Any, *, host: str, port: int, workers: int = 1, reload: bool = False, **options: Any) -> None:
    """In place of `uvicorn.run`: everything at (host, port), the sites' door at every address of the fleet port."""
    refusals = RefusalLog()
    log_refused_handshakes(refusals)
    crowd = Crowd(refusals.add)
    listener = _listen(int(os.environ.get(FLEET_PORT_VARIABLE, _DEFAULT_FLEET_PORT)), crowd)
    state = app.state
    keys = Keys(lambda pem: state.linkstate_factory.state().get_node_id_by_public_key(pem), state.enable_supernode_auth)
    # asyncio's own loop: uvloop's TLS cannot be listened to.
    whole = uvicorn.Server(uvicorn.Config(app, host=host, port=port, loop="asyncio", **options))
    door = _Quiet(
        uvicorn.Config(
            FleetDoor(app, keys, refusals, crowd.prove),
            loop="asyncio",
            http=cast(Any, functools.partial(PatientProtocol, refusals)),
            ws="none",
            lifespan="off",
            date_header=False,  # the door's own is never old
            proxy_headers=False,  # an address is what the connection comes from, not what a header says
            **options,
        )
    )

    async def serve() -> None:
        sites = asyncio.create_task(_after(whole, door, listener))
        await whole.serve()
        door.should_exit = True
        await sites
        refusals.flush()

    asyncio.run(serve())


def _listen(port: int, crowd: Crowd) -> Listener:
    try:
        return Listener(port, crowd)
    except OSError as error:
        log(ERROR, "%s: port %d cannot be used (%s); choose another", FLEET_PORT_VARIABLE, port, error.strerror)
        raise SystemExit(2) from error


async def _after(first: uvicorn.Server, second: uvicorn.Server, listener: Listener) -> None:
    while not first.started and not first.should_exit:
        await asyncio.sleep(0.05)
    if first.started:
        log(INFO, "Sites' door at port %d", listener.getsockname()[1])
        await second.serve(sockets=[listener])


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
    wait_for_the_database()
    flower = importlib.import_module("flwr.superlink.cli.flower_superlink")  # its package has a function of that name
    flower.uvicorn.run = serve_both
    flower.flower_superlink()
