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

from cli.entry import app
from model.errors import ConfigError
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


def register(address: str, *arguments: object, command: str = "register") -> str:
    done = CliRunner().invoke(app, [command, *map(str, arguments), "--superlink", address])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
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


def test_an_unregistered_key_stays_out_and_keeps_nobody_else_out(address: str, tmp_path: Path) -> None:
    keys = [tmp_path / f"site-{number}.pub" for number in (1, 2, 3)]
    hashes = [write_key(key)[1] for key in keys]
    path = tmp_path / "sites.json"
    register(address, *keys, "--sites-file", path)
    assert "site-2.pub: unregistered" in register(address, keys[1], "--sites-file", path, command="unregister")
    assert [site.key_sha256 for site in read_sites(path)] == [hashes[0], hashes[2]]
    # As when all services are started anew: every key is registered again.
    output = register(address, *keys, "--sites-file", path)
    assert "site-1.pub: partition 0, known" in output and "site-2.pub: partition 1, unregistered before" in output
    assert [site.key_sha256 for site in read_sites(path)] == [hashes[0], hashes[2]]
    with pytest.raises(ConfigError, match="site-2.pub: no site is registered with this key"):
        register(address, keys[0], keys[1], command="unregister")
    assert "known" in register(address, keys[0])  # nothing was done to it
    keys[1].rename(tmp_path / "old.pub")
    new_hash = write_key(keys[1])[1]
    register(address, keys[1], "--sites-file", path)
    assert [site.key_sha256 for site in read_sites(path)] == [hashes[0], new_hash, hashes[2]]
