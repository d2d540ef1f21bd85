"""What the sites' door asks of a request before it reads its body, and how much of a body it reads.

A SuperNode signs the time with its key and sends key, time and signature as headers; nothing else is signed. All three
can therefore be checked before the body, which Flower reads and decodes first.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import dataclasses
import datetime
import email.utils
import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    MAX_TIMESTAMP_DIFF_SECONDS,
    MIN_TIMESTAMP_DIFF_SECONDS,
)
from flwr.supercore.date import now
from flwr.supercore.error import ApiErrorCode
from flwr.supercore.error.catalog import API_ERROR_MAP
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, verify_signature

from server.monitoring.refusals import Reason, RefusalLog

MAX_BODY_BYTES = 8 * 2**20
"""Flower cuts tensors into chunks of 5 MiB, the largest that a site sends."""
MAX_REQUESTS_OF_ONE_NODE = 8
"""A SuperNode has up to 6 at a time: two pushes, two pulls, a heartbeat, a question for work."""
BODY_GRACE_S = 20.0
BODY_BYTES_PER_S = 32 * 1024
"""A body has `BODY_GRACE_S` seconds and one more for each 32 KiB that have come: 276 s at most, which is within the
305 s after which Flower refuses the signature."""

_FLEET = "/v1/fleet/"
_REGISTER, _ACTIVATE = f"{_FLEET}register-node", f"{_FLEET}activate-node"
_STATUS = {Reason.NOT_FOR_SITES: 404, Reason.TOO_LARGE: 413, Reason.TOO_SLOW: 408, Reason.TOO_MANY: 503}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclasses.dataclass(frozen=True)
class Keys:
    """Which keys a SuperLink knows."""

    node_of: Callable[[bytes], int | None]
    """Node id of a registered public key (PEM), or None; may block."""
    required: bool
    """Keys are registered by the operator; otherwise every SuperNode may register one that it made."""


@dataclasses.dataclass(frozen=True)
class Caller:
    """Who signed a request."""

    name: str
    """Node id, and the key's fingerprint as `ssh-keygen -l` prints it."""
    signed_at: datetime.datetime


class RefusedError(Exception):
    """A request that the door refuses."""

    def __init__(self, reason: Reason, words: str, node: str = "") -> None:
        super().__init__(words)
        self.reason, self.words, self.node = reason, words, node


class FleetDoor:
    """An ASGI app that passes sites' requests for the Fleet API, and the health check, to another app.

    Everything else is refused, logged and counted under its reason: other paths before anything is looked at, requests
    without a valid key before their body is read, bodies that are larger or slower than a site's.
    """

    def __init__(self, app: Asgi, keys: Keys, refusals: RefusalLog, prove: Callable[[Any], None]) -> None:
        """A door to an app.

        Args:
            app: Flower's SuperLink.
            keys: whom it knows.
            refusals: where refusals are written.
            prove: told the address of each connection over which a valid key came.
        """
        self._app = app
        self._keys = keys
        self._refusals = refusals
        self._prove = prove
        self._busy: Counter[str] = Counter()
        # A few threads of its own: strangers' keys do not wait in line with sites' requests.
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="door")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        send = _dated(send)
        try:
            await self._answer(scope, receive, send)
        except RefusedError as refused:
            self._refusals.add(refused.reason, _peer(scope), refused.words, refused.node)
            await _reply(send, str(scope["path"]), refused)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope["path"])
        if path == "/health":
            await self._app(scope, receive, send)
            return
        if not path.startswith(_FLEET):
            raise RefusedError(Reason.NOT_FOR_SITES, f"{path[:60]!r}")
        loop = asyncio.get_running_loop()
        caller = await loop.run_in_executor(self._threads, identify, dict(scope["headers"]), path, self._keys)
        self._prove(scope["client"])
        with self._one_more(caller):
            if (body := await _read(scope, receive, caller)) is not None:
                await self._app(scope, _replay(body, receive), self._watched(send, scope, caller))

    @contextlib.contextmanager
    def _one_more(self, caller: Caller) -> Iterator[None]:
        if self._busy[caller.name] >= MAX_REQUESTS_OF_ONE_NODE:
            raise RefusedError(
                Reason.TOO_MANY, f"{caller.name}: {MAX_REQUESTS_OF_ONE_NODE} requests at once", caller.name
            )
        self._busy[caller.name] += 1
        try:
            yield
        finally:
            self._busy[caller.name] -= 1
            self._busy += Counter()  # forgets who has none

    def _watched(self, send: Send, scope: Scope, caller: Caller) -> Send:
        """Count Flower's own refusals of a request that the door let in."""

        async def watch(message: Any) -> None:
            if message["type"] == "http.response.start":
                refused = _refused_by_flower(int(message["status"]), str(scope["path"]), caller)
                if refused is not None:
                    self._refusals.add(refused.reason, _peer(scope), refused.words, refused.node)
            await send(message)

        return watch


def identify(headers: Mapping[bytes, bytes], path: str, keys: Keys) -> Caller:
    """Who signed a request, from its headers alone.

    Args:
        headers: lower-case name to value.
        path: what is asked for.
        keys: whom the SuperLink knows.

    Raises:
        RefusedError: if there is no key, if it is not registered, or if its signature or the signed time is wrong.
    """
    pem = _decoded(headers, FLEET_HTTP_PUBLIC_KEY_HEADER)
    if pem is None or (keys.required and path == _REGISTER):
        raise RefusedError(Reason.NO_KEY, "it brought no key that could be registered")
    node_id = keys.node_of(pem)
    key = _public_key(pem)
    if key is None or (node_id is None and keys.required):
        raise RefusedError(Reason.UNKNOWN_KEY, f"{_fingerprint(key)} is not registered")
    name = f"node {node_id} ({_fingerprint(key)})"
    timestamp = headers.get(TIMESTAMP_HEADER.encode(), b"")
    if not verify_signature(key, timestamp, _decoded(headers, FLEET_HTTP_SIGNATURE_HEADER) or b""):
        # Under no name: a stranger who knows a site's public key must not fill the log with its refusals.
        raise RefusedError(Reason.BAD_SIGNATURE, f"not signed by the key of {name}")
    caller = Caller(name, _time(timestamp, name))
    _check_clock(caller)
    if node_id is None and path != _REGISTER:
        raise RefusedError(Reason.UNKNOWN_NODE, f"{_fingerprint(key)} has no node here; its SuperNode must start again")
    return caller


def _check_clock(caller: Caller) -> None:
    age_s = (now() - caller.signed_at).total_seconds()
    if not MIN_TIMESTAMP_DIFF_SECONDS < age_s < MAX_TIMESTAMP_DIFF_SECONDS:
        side = "ahead of" if age_s < 0 else "behind"
        words = f"{caller.name}: its clock is {abs(age_s):.1f} s {side} the server's"
        raise RefusedError(Reason.CLOCK, words, caller.name)


def _refused_by_flower(status: int, path: str, caller: Caller) -> RefusedError | None:
    """What a status of Flower's means for a request whose key and signature were right when it began."""
    if status == 401:
        try:
            _check_clock(caller)  # Flower looks again, after the body has come
        except RefusedError as refused:
            return refused
        return RefusedError(Reason.WRONG_NODE, f"{caller.name} spoke for another node", caller.name)
    if status == 412 and path == _ACTIVATE:
        words = f"{caller.name} still counts as connected; a site that was killed is let in within a minute"
        return RefusedError(Reason.ALREADY_CONNECTED, words, caller.name)
    return None


async def _read(scope: Scope, receive: Receive, caller: Caller) -> bytes | None:
    """The body, or None if the peer has gone."""
    loop = asyncio.get_running_loop()
    begun, size, parts, more = loop.time(), int(dict(scope["headers"]).get(b"content-length", 0)), [], True
    _check_size(size, caller)
    size = 0
    while more:
        try:
            async with asyncio.timeout_at(begun + BODY_GRACE_S + size / BODY_BYTES_PER_S):
                message = await receive()
        except TimeoutError as error:
            words = f"{caller.name}: {size} bytes of a body in {loop.time() - begun:.0f} s"
            raise RefusedError(Reason.TOO_SLOW, words, caller.name) from error
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
        size += len(parts[-1])
        _check_size(size, caller)
    return b"".join(parts)


def _check_size(size: int, caller: Caller) -> None:
    if size > MAX_BODY_BYTES:
        words = f"{caller.name}: a body of {size} bytes or more, {MAX_BODY_BYTES} at most"
        raise RefusedError(Reason.TOO_LARGE, words, caller.name)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A receive that gives the body first."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Any:
        return waiting.pop() if waiting else await receive()

    return replay


def _dated(send: Send) -> Send:
    """Says in every answer what time it is here, by which sites look at their clocks.

    uvicorn renews its own Date once in a second or later: on a busy machine it is seconds old.
    """

    async def dated(message: Any) -> None:
        if message["type"] == "http.response.start":
            date = email.utils.formatdate(now().timestamp(), usegmt=True).encode()
            message = {**message, "headers": [*message.get("headers", ()), (b"date", date)]}
        await send(message)

    return dated


async def _reply(send: Send, path: str, refused: RefusedError) -> None:
    """Answer in Flower's form: a SuperNode that starts prints it, and ends with an error."""
    if path in (_REGISTER, _ACTIVATE) and refused.reason not in _STATUS:
        code = (
            ApiErrorCode.FLEET_SUPERNODE_REGISTRATION_DISABLED
            if path == _REGISTER
            else ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED
        )
        known = API_ERROR_MAP[code]
        status, content = known.http_status_code, {"code": int(code), "detail": known.public_message}
        content["extra"] = refused.words
    else:
        status, content = _STATUS.get(refused.reason, 401), {"detail": refused.words}
    body = json.dumps(content).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # what is left of the body is not read
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _decoded(headers: Mapping[bytes, bytes], name: str) -> bytes | None:
    try:
        return base64.b64decode(headers[name.encode()], validate=True)
    except (KeyError, binascii.Error):
        return None


def _public_key(pem: bytes) -> EllipticCurvePublicKey | None:
    try:
        key = bytes_to_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, EllipticCurvePublicKey) else None


def _time(timestamp: bytes, name: str) -> datetime.datetime:
    try:
        signed_at = datetime.datetime.fromisoformat(timestamp.decode("ascii"))
        return signed_at.astimezone(datetime.UTC) if signed_at.tzinfo else signed_at.replace(tzinfo=datetime.UTC)
    except (ValueError, OverflowError) as error:
        raise RefusedError(Reason.BAD_SIGNATURE, f"{name} signed something that is not a time", name) from error


def _fingerprint(key: EllipticCurvePublicKey | None) -> str:
    if key is None:
        return "a key that cannot be read"
    blob = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1]
    digest = hashlib.sha256(base64.b64decode(blob)).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _peer(scope: Scope) -> str:
    return str((scope.get("client") or ["?"])[0])
