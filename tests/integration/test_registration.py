"""`fedreenact register` against Flower's own SuperLink."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from server.flower.commands import QUIET
from server.sites.sites_file import read_sites
from tests.server.sites.test_sites_file import write_key

pytestmark = pytest.mark.integration


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [Path(sys.executable).with_name("flower-superlink"), "--insecure", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--isolation", "process", "--disable-runtime-dependency-installation"]
    environment = os.environ | QUIET | {"FLWR_HOME": str(tmp_path)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)
    try:
        while process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def register(address: str, *arguments: object) -> str:
    done = CliRunner().invoke(app, ["register", *map(str, arguments), "--superlink", address])
    assert done.exit_code == 0, done.output
    return done.output


def test_keys_new_and_known_are_written_down_with_their_nodes(address: str, tmp_path: Path) -> None:
    hashes = [write_key(tmp_path / name)[1] for name in ("site-1.pub", "other.pub", "site-3.pub")]
    path = tmp_path / "runs" / "sites.json"
    keys = [tmp_path / "site-1.pub", f"1={tmp_path / 'other.pub'}"]
    assert "site-1.pub: partition 0, registered as node" in register(address, *keys, "--sites-file", path)
    first = read_sites(path)
    assert [(site.partition_id, site.key_sha256) for site in first] == [(0, hashes[0]), (1, hashes[1])]
    path.unlink()  # as when it is lost: Flower knows the keys still
    output = register(address, *keys, tmp_path / "site-3.pub", "--sites-file", path)
    assert "other.pub: partition 1, known" in output
    assert read_sites(path)[:2] == first
    assert [site.key_sha256 for site in read_sites(path)] == hashes
    assert "not bound to their keys" in register(address, tmp_path / "site-1.pub")
