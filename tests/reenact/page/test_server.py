"""The command itself, on a real address."""

from __future__ import annotations

import datetime
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.sync.client import connect

from model.checkpoint import save_checkpoint
from model.errors import ConfigError
from reenact.page.server import PageServer
from tests.reenact.page.conftest import CONSENT
from tests.support.small_face import small_checkpoint


@pytest.fixture
def run(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "run", small_checkpoint())
    return tmp_path / "run"


def server(run: Path, **choices: object) -> PageServer:
    wanted = {"host": "127.0.0.1", "port": 0} | choices
    return PageServer(run, torch.device("cpu"), **wanted)  # type: ignore[arg-type]


@contextmanager
def started(run: Path, *options: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The printed address, and the command that serves there; killed if it has not ended."""
    command = [sys.executable, "-m", "cli.entry", "serve", str(run), "--port", "0", "--device", "cpu"]
    surroundings = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200", **environment}
    with subprocess.Popen([*command, *options], env=surroundings, stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout is not None
            yield serving.stdout.readline().split()[-1], serving
        finally:
            serving.kill()


@pytest.mark.integration
def test_the_command_serves_until_it_is_told_to_end_and_leaves_nothing(run: Path, people: Path, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    with started(run, TMPDIR=str(files)) as (address, serving):
        _use(address, people / "anna.png")
        assert list(files.rglob("anna.png"))
        serving.send_signal(signal.SIGINT)
        assert serving.wait(30) == 0
    assert not list(files.glob("fedreenact-page-*"))


def _use(address: str, picture: Path) -> None:
    """Give a picture and have it live for a moment, as a browser does."""
    origin = address.rstrip("/")
    with httpx.Client(base_url=address, headers={"origin": origin}) as browser:
        assert "Who" in browser.get("/").text
        number = browser.post("/files?name=anna.png", content=picture.read_bytes()).json()["number"]
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    place = {"origin": origin, "additional_headers": {"cookie": cookie}}
    with connect(address.replace("http", "ws") + "live", **place) as talk:  # type: ignore[arg-type]
        talk.send(json.dumps({"sources": [number], "consent": CONSENT}))
        while "ready" not in (said := str(talk.recv())):
            assert "problem" not in said


def test_a_token_is_in_the_printed_address_where_others_can_reach_it(run: Path) -> None:
    assert server(run).address.startswith("http://localhost:")
    open_to_all = server(run, host="0.0.0.0")
    assert f"http://{socket.gethostname()}:" in open_to_all.address and "?token=" in open_to_all.address
    assert open_to_all.is_open_to_listeners and not server(run).is_open_to_listeners
    assert len(open_to_all.address.partition("?token=")[2]) >= 32
    assert server(run, host="0.0.0.0").address.partition("?")[2] != open_to_all.address.partition("?")[2]


def test_an_address_that_cannot_be_had_is_one_line(run: Path) -> None:
    in_use = pytest.raises(ConfigError, match=r"--port \d+: Address already in use.*; choose another")
    with socket.create_server(("127.0.0.1", 0)) as taken, in_use:
        server(run, port=taken.getsockname()[1])
    with pytest.raises(ConfigError, match="--host nowhere.invalid"):
        server(run, host="nowhere.invalid")


def test_a_certificate_without_a_key_or_that_is_none_is_refused(run: Path) -> None:
    with pytest.raises(ConfigError, match="give both"):
        server(run, certificate=run / "chain.pem")
    (run / "chain.pem").write_text("none")
    with pytest.raises(ConfigError, match=r"chain\.pem: no certificate in it"):
        server(run, certificate=run / "chain.pem", private_key=run / "key.pem")


@pytest.mark.integration
def test_with_a_certificate_it_is_https_under_the_names_in_it(run: Path) -> None:
    certificate, private_key = write_certificate(run, "faces.example")
    options = ("--host", "0.0.0.0", "--certificate", str(certificate), "--private-key", str(private_key))
    trusted = ssl.create_default_context(cafile=str(certificate))
    with started(run, *options) as (address, _):
        assert address.startswith("https://")
        port, token = address.split(":")[2].split("/")
        with httpx.Client(verify=trusted, base_url=f"https://localhost:{port}", timeout=30) as browser:
            assert "Secure" in browser.get(f"/{token}").headers["set-cookie"]
            for name, status in (("faces.example", 200), ("elsewhere.example", 403)):
                assert browser.get(f"/{token}", headers={"host": f"{name}:{port}"}).status_code == status


def write_certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """Signed by itself, for localhost and other names."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in ("localhost", *names)]), False)
    )
    certificate, private_key = folder / "chain.pem", folder / "key.pem"
    pem = serialization.Encoding.PEM
    certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    plain = serialization.NoEncryption()
    private_key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return certificate, private_key
