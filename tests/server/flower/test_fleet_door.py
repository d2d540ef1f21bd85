"""The sites' door on an app that tells what it was given; keys and signatures are real, the network is left out."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import datetime
import email.utils
import json
import logging
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.supercore.error import FlowerError
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree

from server.flower import fleet_door
from server.flower.fleet_door import MAX_BODY_BYTES, MAX_REQUESTS_OF_ONE_NODE, FleetDoor, Keys, Scope, Send
from server.monitoring.refusals import Reason, RefusalLog

SITE, STRANGER = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
PUSH, ACTIVATE, REGISTER = "/v1/fleet/push-object", "/v1/fleet/activate-node", "/v1/fleet/register-node"
REGISTERED = {
    SITE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo): 77,
}


def signed(key: Any = SITE, ahead_s: float = 0.0, by: Any = None, time: str | None = None) -> dict[bytes, bytes]:
    """Headers of a SuperNode, whose clock may be ahead, and whose signature may be another's."""
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=ahead_s)
    timestamp = (now.isoformat() if time is None else time).encode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signature = (by or SITE).sign(timestamp, ec.ECDSA(hashes.SHA256()))
    return {
        b"flwr-public-key": base64.b64encode(public),
        b"flwr-timestamp": timestamp,
        b"flwr-signature": base64.b64encode(signature),
    }


@dataclasses.dataclass
class Visit:
    """What became of a request."""

    status: int = 0
    answer: bytes = b""
    headers: dict[bytes, bytes] = dataclasses.field(default_factory=dict)
    parts_read: int = 0
    app_got: bytes | None = None
    proven: list[Any] = dataclasses.field(default_factory=list)


class Doorway:
    """A door before an app that answers with one status."""

    def __init__(self, required: bool = True, app_says: int = 200) -> None:
        self.app_says = app_says
        self.visits: list[Visit] = []
        self.proven: list[Any] = []
        self.door = FleetDoor(self.app, Keys(REGISTERED.get, required), RefusalLog(), self.proven.append)
        self.hold = asyncio.Event()
        self.hold.set()

    async def app(self, scope: Scope, receive: Callable[[], Any], send: Send) -> None:
        await self.hold.wait()
        body, more = b"", scope["path"] != "/health"
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        scope["visit"].app_got = body
        await send({"type": "http.response.start", "status": self.app_says, "headers": []})
        await send({"type": "http.response.body", "body": b"from Flower"})

    async def ask(
        self,
        path: str,
        headers: dict[bytes, bytes],
        body: AsyncIterator[bytes] | bytes = b"",
        client: tuple[str, int] = ("10.0.0.2", 5),
    ) -> Visit:
        visit = Visit()

        async def parts() -> AsyncIterator[bytes]:
            if isinstance(body, bytes):
                yield body
            else:
                async for part in body:
                    yield part

        coming = parts()

        async def receive() -> dict[str, Any]:
            visit.parts_read += 1
            try:
                return {"type": "http.request", "body": await anext(coming), "more_body": not isinstance(body, bytes)}
            except StopAsyncIteration:
                return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                visit.status, visit.headers = message["status"], dict(message["headers"])
            visit.answer += message.get("body", b"")

        scope = {"type": "http", "path": path, "client": client, "headers": list(headers.items()), "visit": visit}
        await self.door(scope, receive, send)
        return visit


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    keep = Keep()
    logging.getLogger("flwr").addHandler(keep)
    yield lines
    logging.getLogger("flwr").removeHandler(keep)


def visit(
    path: str, headers: dict[bytes, bytes], body: Any = b"", *, required: bool = True, app_says: int = 200
) -> Visit:
    return asyncio.run(Doorway(required, app_says).ask(path, headers, body))


def reason(log: list[str]) -> str:
    """Of the one refusal."""
    (line,) = log
    return line.partition("(")[2].partition(")")[0]


@pytest.mark.parametrize("path", [PUSH, ACTIVATE, "/v1/fleet/pull-messages"])
def test_a_registered_site_reaches_the_fleet_api_with_its_whole_body(path: str, log: list[str]) -> None:
    seen = visit(path, signed(), b"a body")
    assert (seen.status, seen.app_got, seen.answer, log) == (200, b"a body", b"from Flower", [])


def test_the_health_check_needs_no_key(log: list[str]) -> None:
    assert (visit("/health", {}).status, log) == (200, [])


@pytest.mark.parametrize(
    "path", ["/v1/control/start-run", "/v1/runtime/x", "/", "/docs", "/v1/fleet", "//v1/fleet/x", "/healthy"]
)
def test_sites_reach_nothing_else(path: str, log: list[str]) -> None:
    seen = visit(path, signed(), b"a body")
    assert (seen.status, seen.app_got, seen.parts_read, reason(log)) == (404, None, 0, "not-for-sites")


def without(name: bytes) -> dict[bytes, bytes]:
    return {key: value for key, value in signed().items() if key != name}


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        (dict, "no-key"),
        (lambda: signed() | {b"flwr-public-key": b"%%%"}, "no-key"),
        (lambda: signed() | {b"flwr-public-key": base64.b64encode(b"not a key")}, "unknown-key"),
        (lambda: signed(key=rsa.generate_private_key(65537, 2048)), "unknown-key"),
        (lambda: signed(key=STRANGER, by=STRANGER), "unknown-key"),
        (lambda: signed(by=STRANGER), "bad-signature"),
        (lambda: without(b"flwr-signature"), "bad-signature"),
        (lambda: without(b"flwr-timestamp"), "bad-signature"),
        (lambda: signed(time="yesterday"), "bad-signature"),
        (lambda: signed(by=STRANGER, ahead_s=60), "bad-signature"),
        (lambda: signed(ahead_s=6), "clock"),
        (lambda: signed(ahead_s=-306), "clock"),
    ],
)
def test_a_request_without_a_valid_key_is_refused_before_its_body_is_read(
    headers: Callable[[], dict[bytes, bytes]], why: str, log: list[str]
) -> None:
    seen = visit(PUSH, headers(), b"x" * 100)
    assert (seen.status, seen.parts_read, seen.app_got, reason(log)) == (401, 0, None, why)
    assert seen.headers[b"connection"] == b"close"
    assert log[0].startswith(f"refused connection ({why}) x1 from 10.0.0.2: ")


@pytest.mark.parametrize("ahead_s", [4, -300])
def test_clocks_that_flower_accepts_are_let_in(ahead_s: float, log: list[str]) -> None:
    assert (visit(PUSH, signed(ahead_s=ahead_s)).status, log) == (200, [])


@pytest.mark.parametrize("ahead_s", [0.0, 61.0])
def test_every_answer_says_the_time_at_which_it_is_given(ahead_s: float, log: list[str]) -> None:
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    date = email.utils.parsedate_to_datetime(visit(PUSH, signed(ahead_s=ahead_s)).headers[b"date"].decode())
    assert before <= date <= datetime.datetime.now(datetime.UTC)


def test_a_wrong_clock_is_told_with_its_offset_and_key_to_both_sides(log: list[str], tmp_path: Path) -> None:
    seen = visit(ACTIVATE, signed(ahead_s=61.04))
    public = tmp_path / "site.pub"
    public.write_bytes(SITE.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    fingerprint = subprocess.run(
        ["ssh-keygen", "-lf", public], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    words = f"node 77 ({fingerprint}): its clock is 61.0 s ahead of the server's"
    assert log == [f"refused connection (clock) x1 from 10.0.0.2: {words}"]
    told = FlowerError.from_json(seen.answer.decode())  # what a SuperNode that starts prints, and ends with an error
    assert told is not None
    assert (seen.status, told.code, told.public_details) == (412, 2004, words)


def test_a_clock_that_is_behind(log: list[str]) -> None:
    visit(PUSH, signed(ahead_s=-400))
    assert log[0].endswith("its clock is 400.0 s behind the server's")


def test_a_supernode_without_a_key_makes_one_and_is_told_that_registered_ones_are_wanted(log: list[str]) -> None:
    seen = visit(REGISTER, signed(key=STRANGER, by=STRANGER), b"x")
    told = FlowerError.from_json(seen.answer.decode())
    assert told is not None
    assert (seen.status, told.code, seen.parts_read, reason(log)) == (412, 2001, 0, "no-key")


def test_without_registered_keys_every_node_may_register_but_signs_its_requests(log: list[str]) -> None:
    assert visit(REGISTER, signed(key=STRANGER, by=STRANGER), required=False).status == 200
    assert log == []
    assert visit(PUSH, signed(key=STRANGER, by=STRANGER), required=False).status == 401
    assert reason(log) == "unknown-node"
    log.clear()
    assert visit(PUSH, signed(key=SITE, by=STRANGER), required=False).status == 401
    assert reason(log) == "bad-signature"


@pytest.mark.parametrize(
    ("path", "app_says", "why"),
    [(PUSH, 401, "wrong-node"), (ACTIVATE, 412, "already-connected")],
)
def test_what_flower_refuses_by_itself_is_counted_too(path: str, app_says: int, why: str, log: list[str]) -> None:
    seen = visit(path, signed(), b"x", app_says=app_says)
    assert (seen.status, seen.answer, reason(log)) == (app_says, b"from Flower", why)
    assert "node 77 (SHA256:" in log[0]


@pytest.mark.parametrize(("path", "app_says"), [(PUSH, 403), (PUSH, 412), (PUSH, 500), (ACTIVATE, 400)])
def test_other_errors_of_flower_are_no_refusals(path: str, app_says: int, log: list[str]) -> None:
    assert (visit(path, signed(), b"x", app_says=app_says).status, log) == (app_says, [])


def test_a_body_that_says_it_is_too_large_is_not_read(log: list[str]) -> None:
    length = {b"content-length": str(MAX_BODY_BYTES + 1).encode()}
    seen = visit(PUSH, signed() | length, b"x")
    assert (seen.status, seen.parts_read, seen.app_got, reason(log)) == (413, 0, None, "too-large")


def test_a_body_that_does_not_say_so_is_read_to_the_limit_and_no_further(log: list[str]) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(2**20)

    seen = visit(PUSH, signed(), endless())
    assert (seen.status, seen.parts_read, seen.app_got, reason(log)) == (413, 9, None, "too-large")


def test_a_body_that_never_comes_is_given_up(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_door, "BODY_GRACE_S", 0.05)

    async def silence() -> AsyncIterator[bytes]:
        yield b"begun"
        await asyncio.Event().wait()

    seen = visit(PUSH, signed(), silence())
    assert (seen.status, seen.app_got, reason(log)) == (408, None, "too-slow")
    assert "5 bytes of a body" in log[0]


def test_a_node_has_few_requests_at_once_and_another_node_is_not_in_its_way(
    log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        REGISTERED, STRANGER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 78
    )

    async def many() -> list[int]:
        doorway = Doorway()
        doorway.hold.clear()
        waiting = [asyncio.create_task(doorway.ask(PUSH, signed(), b"x")) for _ in range(MAX_REQUESTS_OF_ONE_NODE + 2)]
        refused, _ = await asyncio.wait(waiting, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait([w for w in waiting if w not in refused], timeout=0.1)
        refused = {w for w in waiting if w.done()}
        other = asyncio.create_task(doorway.ask(PUSH, signed(key=STRANGER, by=STRANGER), b"x"))
        doorway.hold.set()
        statuses = [(await w).status for w in waiting if w not in refused]
        assert [(await w).status for w in refused] == [503, 503]
        assert (await other).status == (await doorway.ask(PUSH, signed(), b"x")).status == 200
        assert not doorway.door._busy
        return statuses

    assert asyncio.run(many()) == [200] * MAX_REQUESTS_OF_ONE_NODE
    assert reason(log) == "too-many"


def test_a_connection_is_proven_by_a_valid_key_alone() -> None:
    async def three() -> list[Any]:
        doorway = Doorway()
        await doorway.ask("/health", {}, client=("10.0.0.9", 1))
        await doorway.ask(PUSH, signed(by=STRANGER), client=("10.0.0.9", 2))
        await doorway.ask(PUSH, signed(), client=("10.0.0.9", 3))
        return doorway.proven

    assert asyncio.run(three()) == [("10.0.0.9", 3)]


def test_what_flower_sends_fits() -> None:
    """A tensor of 33 M values is cut into chunks, and the list of a message's 5,000 objects is no longer than one."""
    record = RecordDict({"arrays": ArrayRecord({"w": Array(np.zeros(33_000_000, np.float32))})})
    largest = max(len(part.deflate()) for part in get_all_nested_objects(record).values())
    assert 5 * 2**20 < PushObjectRequest(object_content=bytes(largest), object_id="0" * 64).ByteSize() < MAX_BODY_BYTES
    many = RecordDict({"arrays": ArrayRecord({f"w{n}": Array(np.full(2, n)) for n in range(1_700)})})
    tree = get_object_tree(many)
    assert PushMessagesRequest(message_object_trees=[tree]).ByteSize() < MAX_BODY_BYTES / 8


def test_the_longest_body_ends_before_flower_refuses_its_signature() -> None:
    assert fleet_door.BODY_GRACE_S + MAX_BODY_BYTES / fleet_door.BODY_BYTES_PER_S < 305


def test_a_reply_is_json(log: list[str]) -> None:
    seen = visit("/v1/control/x\n", {})
    assert json.loads(seen.answer) == {"detail": "'/v1/control/x\\n'"}
    assert Reason(reason(log)) is Reason.NOT_FOR_SITES
    assert "\n" not in log[0]
