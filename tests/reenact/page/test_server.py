"""The command itself, on a real address."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import torch
from websockets.sync.client import connect

from model.checkpoint import save_checkpoint
from model.errors import ConfigError
from reenact.page.server import PageServer
from tests.reenact.page.conftest import CONSENT
from tests.small_face import small_checkpoint


@pytest.fixture
def run(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "run", small_checkpoint())
    return tmp_path / "run"


def server(run: Path, **choices: object) -> PageServer:
    wanted = {"host": "127.0.0.1", "port": 0} | choices
    return PageServer(run, torch.device("cpu"), **wanted)  # type: ignore[arg-type]


def test_the_command_serves_until_it_is_told_to_end_and_leaves_nothing(run: Path, people: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import cli; cli.main()", "serve", str(run), "--port", "0", "--device", "cpu"]
    files = tmp_path / "files"
    files.mkdir()
    environment = {**os.environ, "TMPDIR": str(files), "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout is not None
            _use(serving.stdout.readline().split()[-1], people / "anna.png")
            assert list(files.rglob("anna.png"))
            serving.send_signal(signal.SIGINT)
            assert serving.wait(30) == 0
        finally:
            serving.kill()
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


def test_a_certificate_without_a_key_is_refused(run: Path) -> None:
    with pytest.raises(ConfigError, match="give both"):
        server(run, certificate=run / "chain.pem")
