"""A real SuperLink with TLS and registered keys, real SuperNodes, and strangers at the sites' door."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from server.flower.door_connections import HANDSHAKE_S, HEADER_S
from server.monitoring.refusals import Reason, RefusalCounter
from tests.support.paths import ROOT

pytestmark = pytest.mark.integration

CERTS_SCRIPT = ROOT / "deploy" / "certs.sh"
PUSH = "POST /v1/fleet/push-object HTTP/1.1\r\nHost: localhost\r\n"
GIB = 2**30


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_until(what: str, true: Callable[[], bool], timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, f"{what}: not within {timeout_s} s"
        time.sleep(0.25)


class Federation:
    """A SuperLink, and SuperNodes with registered keys, in a folder of their own."""

    def __init__(self, folder: Path, *, keys: bool = True) -> None:
        self.folder = folder
        self.certs = folder / "certs"
        subprocess.run([CERTS_SCRIPT, "make", self.certs], check=True, capture_output=True)
        self.control_port, self.door_port = free_port(), free_port()
        self.log_path = folder / "superlink.log"
        self.counter = RefusalCounter(self.log_path)
        self.processes: list[subprocess.Popen[bytes]] = []
        tls = [
            *("--ssl-ca-certfile", self.certs / "ca.crt", "--ssl-certfile", self.certs / "server.pem"),
            *("--ssl-keyfile", self.certs / "server.key", "--enable-supernode-auth"),
        ]
        self.trust = ("--root-certificates", self.certs / "ca.crt") if keys else ("--insecure",)
        self.superlink = self.start(
            *("server.flower.superlink_process", "superlink.out", *(tls if keys else ["--insecure"])),
            *("--host", "127.0.0.1", "--port", self.control_port, "--database", folder / "superlink.db"),
            *("--isolation", "process", "--log-file", self.log_path, "--disable-runtime-dependency-installation"),
        )
        wait_until("the door", lambda: b"Sites' door" in self.log(), 90)
        self.memory = psutil.Process(self.superlink.pid).memory_info

    def start(self, module: str, out: str, *options: object, first: str = "") -> subprocess.Popen[bytes]:
        """A process of a module's command, with its output in a file, after some code of the test's."""
        environment = {
            **os.environ,
            "FLWR_HOME": str(self.folder / f"{out}.home"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FEDREENACT_FLEET_PORT": str(self.door_port),
            "PYTHONPATH": str(CERTS_SCRIPT.parents[1]),
        }
        function = module.rpartition(".")[2] if module.startswith("flwr") else "main"
        code = f"{first}\nfrom {module} import {function}; {function}()"
        command = [sys.executable, "-c", code, *map(str, options)]
        with (self.folder / out).open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=self.folder)
        self.processes.append(process)
        return process

    def site_key(self, name: str) -> Path:
        """A site's private key; its public key has been registered."""
        key = self.folder / f"{name}.key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", key], check=True)
        control = ["--superlink", f"127.0.0.1:{self.control_port}", "--root-certificates", str(self.certs / "ca.crt")]
        command = [sys.executable, "-m", "cli.entry", "register", f"0={key}.pub", *control]
        subprocess.run(command, check=True, capture_output=True, cwd=CERTS_SCRIPT.parents[1], timeout=120)
        return key

    def supernode(self, name: str, *options: object, first: str = "") -> subprocess.Popen[bytes]:
        """A SuperNode that dials the door."""
        return self.start(
            *("flwr.supernode.cli.flower_supernode", f"{name}.out"),
            *("--superlink", f"localhost:{self.door_port}", *self.trust),
            *("--isolation", "process", "--host", "127.0.0.1", "--port", free_port(), *options),
            first=first,
        )

    def dial(self, address: str = "127.0.0.1") -> ssl.SSLSocket:
        """A TLS connection of a stranger's to the door."""
        context = ssl.create_default_context(cafile=self.certs / "ca.crt")
        plain = socket.create_connection(("127.0.0.1", self.door_port), 30, source_address=(address, 0))
        return context.wrap_socket(plain, server_hostname="localhost")

    def log(self) -> bytes:
        """Of the SuperLink."""
        return self.log_path.read_bytes() if self.log_path.exists() else b""

    def activations(self) -> int:
        """How often a SuperNode has connected."""
        return self.log().count(b"Activated node_id=")

    def refused(self, reason: Reason) -> int:
        """As the exporter counts."""
        self.counter.update()
        return self.counter.counts[reason]

    def open_connections(self) -> int:
        """At the door."""
        connections = psutil.Process(self.superlink.pid).net_connections("tcp")
        return sum(c.laddr.port == self.door_port and c.status != psutil.CONN_LISTEN for c in connections)

    def close(self) -> None:
        """End everything that was started."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait(30)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    running = Federation(tmp_path_factory.mktemp("door"))
    try:
        yield running
    finally:
        for file in sorted(running.folder.glob("*.out")):
            print(f"--- {file.name}\n{file.read_text(errors='replace')[-3000:]}")
        running.close()


def test_a_strangers_large_post_is_refused_and_costs_no_memory(federation: Federation) -> None:
    before, chunk, sent = federation.memory().rss, bytes(2**20), 0
    peak = before
    with federation.dial() as stranger:
        stranger.sendall(f"{PUSH}Content-Length: {3 * GIB // 2}\r\n\r\n".encode())
        with contextlib.suppress(OSError):
            stranger.settimeout(10)
            while sent < 3 * GIB // 2:
                stranger.sendall(chunk)
                sent += len(chunk)
                peak = max(peak, federation.memory().rss)
    wait_until("the refusal", lambda: federation.refused(Reason.NO_KEY) > 0, 30)
    peak = max(peak, federation.memory().rss)
    print(f"sent {sent / 2**20:.0f} MiB; resident before {before / 2**20:.1f}, at most {peak / 2**20:.1f} MiB")
    assert peak - before < 50 * 2**20


def test_half_open_requests_are_gone_within_a_minute_and_sites_work_on(federation: Federation) -> None:
    sites = [f"site-{n}" for n in range(1, 6)]
    keys = [federation.site_key(name) for name in sites]
    nodes = [
        federation.supernode(name, "--auth-supernode-private-key", key)
        for name, key in zip(sites[:4], keys[:4], strict=True)
    ]
    wait_until("four sites", lambda: federation.activations() == 4, 180)
    before = federation.memory().rss
    begun = time.monotonic()
    strangers: list[socket.socket] = []
    for number in range(50):  # one address for all, which is the sites' own: the worst case
        strangers.append(socket.create_connection(("127.0.0.1", federation.door_port), 30))
        for said in (PUSH, f"{PUSH}Content-Length: 9\r\n\r\n", f"{PUSH}Transfer-Encoding: chunked\r\n\r\n5\r\nab"):
            connection = federation.dial()
            strangers.append(connection)
            with contextlib.suppress(OSError):
                connection.sendall(said.encode())
        if number == 25:
            nodes.append(federation.supernode(sites[4], "--auth-supernode-private-key", keys[4]))
    assert len(strangers) == 200
    opened = time.monotonic()
    print(
        f"200 opened in {opened - begun:.1f} s, {federation.open_connections()} open, "
        f"resident {before / 2**20:.1f} -> {federation.memory().rss / 2**20:.1f} MiB"
    )

    def gone(connection: socket.socket) -> bool:
        connection.setblocking(False)
        try:
            return connection.recv(2**16) == b""
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True

    left = strangers
    while left:
        left = [connection for connection in left if not gone(connection)]
        assert time.monotonic() - opened < 60, f"{len(left)} are still open"
        time.sleep(0.25)
    print(f"all gone {time.monotonic() - opened:.1f} s after the last was opened")
    wait_until("the fifth site", lambda: federation.activations() == 5, 180)
    assert [node.poll() for node in nodes] == [None] * 5
    for stranger in strangers:
        stranger.close()
    time.sleep(35)  # a heartbeat of each
    assert [node.poll() for node in nodes] == [None] * 5
    assert federation.refused(Reason.TOO_SLOW) > 0
    assert HANDSHAKE_S < 60 and HEADER_S < 60
    for node in nodes:
        node.send_signal(signal.SIGTERM)
    for node in nodes:
        node.wait(60)


def test_a_site_that_was_killed_and_is_back_is_no_stranger(federation: Federation) -> None:
    key = federation.site_key("killed")
    connected = federation.activations()
    first = federation.supernode("killed", "--auth-supernode-private-key", key)
    wait_until("the site", lambda: federation.activations() == connected + 1, 90)
    first.kill()
    first.wait(30)
    second = federation.supernode("back", "--auth-supernode-private-key", key, "--max-retries", "1")
    assert second.wait(90) != 0
    wait_until("the count", lambda: federation.refused(Reason.ALREADY_CONNECTED) == 1, 30)
    assert federation.refused(Reason.UNKNOWN_KEY) == 0


def test_supernodes_without_a_registered_key_are_told_so_and_counted(federation: Federation) -> None:
    no_key = federation.refused(Reason.NO_KEY)
    strangers = federation.certs / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", strangers], check=True)
    without = federation.supernode("without", "--max-retries", "1")
    unknown = federation.supernode("unknown", "--auth-supernode-private-key", strangers, "--max-retries", "1")
    assert without.wait(90) != 0 and unknown.wait(90) != 0
    wait_until("no-key", lambda: federation.refused(Reason.NO_KEY) == no_key + 1, 30)
    wait_until("unknown-key", lambda: federation.refused(Reason.UNKNOWN_KEY) == 1, 30)
    assert re.search(r"is not\s+registered", (federation.folder / "unknown.out").read_text())


def test_a_site_that_speaks_for_another_sites_node_is_counted_by_its_key(federation: Federation) -> None:
    file = federation.site_key("liar")
    key = load_ssh_private_key(file.read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    root = (federation.certs / "ca.crt").read_bytes()
    signing = [NodeAuthHttpInterceptor(key, key.public_key())]
    with (
        FleetHttpClient.from_server_address(
            f"localhost:{federation.door_port}", False, root, interceptors=signing
        ) as client,
        pytest.raises(httpx.HTTPStatusError, match="401"),
    ):
        client.SendNodeHeartbeat(SendNodeHeartbeatRequest(node=Node(node_id=12345), heartbeat_interval=30))
    wait_until("the count", lambda: federation.refused(Reason.WRONG_NODE) == 1, 30)
    fingerprint = subprocess.run(
        ["ssh-keygen", "-lf", file], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert fingerprint in next(line for line in federation.log().decode().splitlines() if "(wrong-node)" in line)


def test_a_site_whose_clock_is_off_is_told_by_how_much(federation: Federation) -> None:
    fast = (
        "import datetime; from flwr.supernode import node_auth_http_interceptor as signing; right = signing.now; "
        "signing.now = lambda: right() + datetime.timedelta(seconds=61)"
    )
    key = federation.site_key("fast")
    site = federation.supernode("fast", "--auth-supernode-private-key", key, "--max-retries", "1", first=fast)
    assert site.wait(90) != 0
    wait_until("the count", lambda: federation.refused(Reason.CLOCK) == 1, 30)
    fingerprint = subprocess.run(["ssh-keygen", "-lf", key], capture_output=True, text=True, check=True).stdout.split()[
        1
    ]
    line = next(line for line in federation.log().decode().splitlines() if "(clock)" in line)
    assert fingerprint in line
    assert re.search(r"its clock is 6[01]\.\d s ahead of the server's", line)
    assert "ahead of" in (federation.folder / "fast.out").read_text()


def test_without_registered_keys_sites_register_and_half_open_requests_end_all_the_same(tmp_path: Path) -> None:
    plain = Federation(tmp_path, keys=False)
    try:
        stranger = socket.create_connection(("127.0.0.1", plain.door_port), 30)
        stranger.sendall(PUSH.encode())
        nameless = socket.create_connection(("127.0.0.1", plain.door_port), 30)
        nameless.sendall(f"{PUSH}Content-Length: {3 * GIB // 2}\r\n\r\n".encode())
        assert nameless.recv(12) == b"HTTP/1.1 401"
        site = plain.supernode("site")
        wait_until("the site", lambda: plain.activations() == 1, 90)
        stranger.settimeout(60)
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(1) == b""
        time.sleep(35)  # a heartbeat
        assert site.poll() is None
        assert [plain.refused(reason) for reason in (Reason.TOO_SLOW, Reason.NO_KEY, Reason.UNKNOWN_NODE)] == [1, 1, 0]
        site.send_signal(signal.SIGTERM)
        assert site.wait(60) == 0
    finally:
        print((tmp_path / "site.out").read_text() if (tmp_path / "site.out").exists() else "")
        plain.close()
