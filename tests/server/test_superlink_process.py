from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
from pathlib import Path

import pytest

from server.superlink_process import FleetDoor, Receive, Scope, Send, log_refused_handshakes


def ask(path: str) -> tuple[list[str], list[int]]:
    """Paths that the app behind the door saw, and the door's own statuses."""
    seen: list[str] = []
    statuses: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["path"])

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(int(str(message["status"])))

    scope = {"type": "http", "path": path, "client": ("10.0.0.2", 5)}
    asyncio.run(FleetDoor(app)(scope, None, send))  # type: ignore[arg-type]
    return seen, statuses


@pytest.mark.parametrize("path", ["/v1/fleet/register-node", "/health"])
def test_sites_reach_the_fleet_api(path: str) -> None:
    assert ask(path) == ([path], [])


@pytest.mark.parametrize("path", ["/v1/control/start-run", "/v1/runtime/x", "/", "/docs", "/v1/fleet", "//v1/fleet/x"])
def test_sites_reach_nothing_else(path: str) -> None:
    assert ask(path) == ([], [404])


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    script = Path(__file__).parents[2] / "deploy" / "certs.sh"
    for name in ("ours", "other"):
        subprocess.run([script, "make", folder / name], check=True, capture_output=True)
    return folder


def handshake(certs: Path, ca: str | None) -> str:
    """What is logged when a client that trusts a CA (None: speaks no TLS) connects."""
    messages: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    async def connect() -> None:
        server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_side.load_cert_chain(certs / "ours" / "server.pem", certs / "ours" / "server.key")
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=server_side)
        port = server.sockets[0].getsockname()[1]
        client_side = ssl.create_default_context(cafile=certs / ca / "ca.crt") if ca else None
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_side)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await writer.drain()
        except ssl.SSLError:
            pass
        await asyncio.sleep(0.2)
        server.close()

    keep = Keep()
    logging.getLogger("flwr").addHandler(keep)
    try:
        asyncio.run(connect())
    finally:
        logging.getLogger("flwr").removeHandler(keep)
    return "\n".join(messages)


def test_refused_handshakes_are_logged_with_their_kind(certs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = asyncio.sslproto.SSLProtocol._on_handshake_complete  # type: ignore[attr-defined]
    monkeypatch.setattr(asyncio.sslproto.SSLProtocol, "_on_handshake_complete", original)  # put back afterwards
    log_refused_handshakes()
    assert handshake(certs, "ours") == ""
    assert "refused connection (tls) from 127.0.0.1: TLS handshake failed" in handshake(certs, "other")
    assert "refused connection (plaintext) from 127.0.0.1" in handshake(certs, None)


def test_private_keys_are_for_their_owner_alone(certs: Path) -> None:
    keys = sorted((certs / "ours").glob("*.key"))
    assert len(keys) == 7  # of the CA, the server and five sites
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


def test_a_second_ca_is_not_made_over_the_first(certs: Path) -> None:
    script = Path(__file__).parents[2] / "deploy" / "certs.sh"
    done = subprocess.run([script, "make", certs / "ours"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "already has a CA" in done.stderr
