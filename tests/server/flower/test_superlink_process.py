from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
from asyncio import constants, sslproto
from pathlib import Path

import pytest

from server.flower import door_connections
from server.flower.door_connections import log_refused_handshakes
from server.monitoring.refusals import RefusalLog
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    script = ROOT / "deploy" / "certs.sh"
    for name in ("ours", "other"):
        subprocess.run([script, "make", folder / name], check=True, capture_output=True)
    return folder


@pytest.fixture
def logged_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed handshakes are logged, for one test."""
    for name in ("_on_handshake_complete", "_check_handshake_timeout"):
        monkeypatch.setattr(sslproto.SSLProtocol, name, getattr(sslproto.SSLProtocol, name))  # put back afterwards
    monkeypatch.setattr(constants, "SSL_HANDSHAKE_TIMEOUT", constants.SSL_HANDSHAKE_TIMEOUT)
    monkeypatch.setattr(door_connections, "HANDSHAKE_S", 0.2)
    log_refused_handshakes(RefusalLog())


def handshake(certs: Path, ca: str | None, says: bytes = b"GET / HTTP/1.1\r\n\r\n", stays_s: float = 0.1) -> str:
    """What is logged when a client that trusts a CA (None: speaks no TLS) says something and stays a while."""
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
            writer.write(says)
            await writer.drain()
            await asyncio.sleep(stays_s)
            writer.close()
        except ssl.SSLError:
            pass
        await asyncio.sleep(0.1)
        server.close()

    keep = Keep()
    logging.getLogger("flwr").addHandler(keep)
    try:
        asyncio.run(connect())
    finally:
        logging.getLogger("flwr").removeHandler(keep)
    return "\n".join(messages)


@pytest.mark.usefixtures("logged_handshakes")
def test_refused_handshakes_are_logged_with_their_kind(certs: Path) -> None:
    assert handshake(certs, "ours") == ""
    assert "refused connection (tls) x1 from 127.0.0.1: TLS handshake failed" in handshake(certs, "other")
    assert "refused connection (plaintext) x1 from 127.0.0.1" in handshake(certs, None)


@pytest.mark.usefixtures("logged_handshakes")
def test_a_handshake_that_never_ends_is_ended_and_one_that_the_peer_gives_up_is_no_refusal(certs: Path) -> None:
    assert "refused connection (too-slow) x1 from 127.0.0.1" in handshake(certs, None, says=b"", stays_s=0.5)
    assert handshake(certs, None, says=b"", stays_s=0) == ""


def test_private_keys_are_for_their_owner_alone(certs: Path) -> None:
    keys = sorted((certs / "ours").glob("*.key"))
    assert len(keys) == 2  # of the CA and the server; sites make their own
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


def test_a_second_ca_is_not_made_over_the_first(certs: Path) -> None:
    script = ROOT / "deploy" / "certs.sh"
    done = subprocess.run([script, "make", certs / "ours"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "already has a CA" in done.stderr
