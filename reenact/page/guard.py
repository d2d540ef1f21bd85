"""What stands before every request: who may ask, and what a browser may do with the answer."""

from __future__ import annotations

import ipaddress
import socket

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

_CONTENT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": _CONTENT,
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_READING = ("GET", "HEAD")


def is_loopback(host: str) -> bool:
    """Whether an address to listen at is reached from this machine alone."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def own_names() -> frozenset[str]:
    """Names under which this machine may be asked, beside its addresses."""
    return frozenset(name.lower() for name in ("localhost", socket.gethostname(), socket.getfqdn()))


class Guard:
    """Refuses other sites' requests.

    A name that somebody else's DNS leads here (rebinding) is none of ours. An address is nobody's, so it may be any.
    What changes something, and every WebSocket, must come from the page itself: browsers say in `Origin` where from.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        """Stand before `app`; `names` may be asked for."""
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if not refusal:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await WebSocketClose(code=1008, reason=refusal)(scope, receive, send)
        else:
            await JSONResponse({"problem": refusal}, 403)(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> str:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = _name_of(host)
        if not _is_address(name) and name not in self._names:
            return "this page is asked for under a name that is not this machine's; use the printed address"
        is_reading = scope["type"] == "http" and scope["method"] in _READING
        scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
        if not is_reading and headers.get("origin") != f"{scheme}://{host}":
            return "this was not asked by the page itself; open the printed address"
        return ""


def _name_of(host: str) -> str:
    """Without a port, in lower case, an IPv6 address without its brackets."""
    name = host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    return name.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return sent
