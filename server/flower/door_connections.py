"""Connections at the sites' door before there is a request: how many are kept, and how long half of one may last.

Uvicorn and asyncio bound neither the number of connections nor the time in which a header has to be complete.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from asyncio import constants, sslproto
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from server.monitoring.refusals import Reason, RefusalLog

HANDSHAKE_S = 20.0
"""A TLS handshake takes no longer."""
HEADER_S = 20.0
"""Nor does a connection wait longer for the end of a request's header, or for its own end after a refusal."""
MAX_CONNECTIONS = 256
"""TLS takes 0.3 MiB for each."""
MAX_CONNECTIONS_OF_ONE_ADDRESS = 96
"""A SuperNode has up to 6 at a time, each kept for 5 s after its last request, and five may share one address."""

Address = tuple[str, int]
Refuse = Callable[[Reason, str, str], None]


class Crowd:
    """The door's open connections. Where there are too many, the oldest that has shown no valid key has to go.

    Dropping the oldest, not the newest, lets a site in while a stranger of the same address holds all places: a
    site has shown its key within a second, and a stranger who never does makes room.
    """

    def __init__(self, refuse: Refuse) -> None:
        """An empty one.

        Args:
            refuse: takes the reason, the address and words of each connection that is dropped.
        """
        self._refuse = refuse
        self._open: dict[Address, socket.socket] = {}  # oldest first
        self._proven: set[Address] = set()

    def admit(self, connection: socket.socket, address: Address) -> None:
        """Count a new connection, and drop one if that is one too many."""
        self._open = {a: kept for a, kept in self._open.items() if kept.fileno() >= 0 and a != address}
        self._proven &= self._open.keys()
        self._open[address] = connection
        of_address = [a for a in self._open if a[0] == address[0]]
        if len(of_address) > MAX_CONNECTIONS_OF_ONE_ADDRESS:
            self._drop(of_address)
        elif len(self._open) > MAX_CONNECTIONS:
            self._drop(list(self._open))

    def prove(self, address: Address) -> None:
        """A request with a valid key came over a connection."""
        self._proven.add(address)

    def _drop(self, candidates: list[Address]) -> None:
        address = next((a for a in candidates if a not in self._proven), candidates[-1])
        connection = self._open.pop(address)
        try:
            connection.shutdown(socket.SHUT_RDWR)  # asyncio, which owns it, sees its end and closes it
        except OSError:
            return  # it has ended by itself
        self._refuse(Reason.TOO_MANY, address[0], f"{len(candidates)} connections are open")


class Listener(socket.socket):
    """A listening socket at every IPv4 address whose connections are a `Crowd`."""

    def __init__(self, port: int, crowd: Crowd) -> None:
        """Bound, not yet listening.

        Raises:
            OSError: if the port cannot be had.
        """
        # TCP by name: asyncio switches Nagle's algorithm off only for sockets that say so; answers would wait 40 ms.
        super().__init__(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._crowd = crowd
        self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.bind(("0.0.0.0", port))

    def accept(self) -> tuple[socket.socket, Any]:
        """As of any socket."""
        connection, address = super().accept()
        self._crowd.admit(connection, address)
        return connection, address


class PatientProtocol(H11Protocol):
    """HTTP whose patience ends: a connection without a request in progress is closed after `HEADER_S`.

    h11, because httptools takes headers of any length.
    """

    def __init__(self, refusals: RefusalLog, **options: Any) -> None:
        super().__init__(**options)
        self._refusals = refusals
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        super().connection_lost(exc)
        self._stop_watching()

    def handle_events(self) -> None:
        """See whether a request has begun."""
        super().handle_events()
        self._watch()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refusals.add(Reason.MALFORMED, self._peer, msg)
        super().send_400_response(msg)

    @property
    def _peer(self) -> str:
        return self.client[0] if self.client else "?"

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_watching()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_S, self._give_up)

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self._refusals.add(Reason.TOO_SLOW, self._peer, f"no whole header in {HEADER_S:.0f} s")
        self.transport.abort()


def log_refused_handshakes(refusals: RefusalLog) -> None:
    """Have asyncio end TLS handshakes of this process in time, and log those that fail, with the peer's address."""
    protocol: Any = sslproto.SSLProtocol
    complete, check_timeout = protocol._on_handshake_complete, protocol._check_handshake_timeout
    constants.SSL_HANDSHAKE_TIMEOUT = HANDSHAKE_S

    def peer(self: Any) -> str:
        address = self._transport.get_extra_info("peername") if self._transport else None
        return str(address[0]) if address else "?"

    def logged(self: Any, error: BaseException | None) -> None:
        # A peer that goes away without a word of TLS was not refused: a port check, or one dropped as one too many.
        spoke = isinstance(error, ssl.SSLError) or self._sslobj.shared_ciphers() is not None
        if self._server_side and error is not None and spoke:
            why = error.reason if isinstance(error, ssl.SSLError) else "the peer went away"
            reason = Reason.PLAINTEXT if why == "HTTP_REQUEST" else Reason.TLS
            refusals.add(reason, peer(self), f"TLS handshake failed: {why}")
        complete(self, error)

    def logged_timeout(self: Any) -> None:
        if self._server_side and self._state is sslproto.SSLProtocolState.DO_HANDSHAKE:
            refusals.add(Reason.TOO_SLOW, peer(self), f"no TLS handshake in {HANDSHAKE_S:.0f} s")
        check_timeout(self)

    protocol._on_handshake_complete = logged
    protocol._check_handshake_timeout = logged_timeout
