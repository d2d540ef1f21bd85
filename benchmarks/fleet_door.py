"""What the sites' door costs a site: a push of 5 MiB and a heartbeat, through the door and past it.

    python benchmarks/fleet_door.py [--repeats 4]

A real SuperLink with TLS and a registered key. The control port serves the same API without the door; the two take
turns. The pushes belong to no run, so Flower reads them whole and then refuses them.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from tests.integration.test_fleet_door import Federation


def client(federation: Federation, port: int, key: EllipticCurvePrivateKey) -> FleetHttpClient:
    """A site's, at some port."""
    root = (federation.certs / "ca.crt").read_bytes()
    signing = [NodeAuthHttpInterceptor(key, key.public_key())]
    return FleetHttpClient.from_server_address(f"localhost:{port}", False, root, interceptors=signing)


def milliseconds(superlink: psutil.Process, call: Callable[[], object], times: int) -> tuple[float, float]:
    """Of one call: wall time, and CPU time of the SuperLink."""
    wall, cpu = time.perf_counter(), sum(superlink.cpu_times()[:2])
    for _ in range(times):
        with contextlib.suppress(httpx.HTTPStatusError):
            call()
    return (time.perf_counter() - wall) * 1e3 / times, (sum(superlink.cpu_times()[:2]) - cpu) * 1e3 / times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=4)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Federation(Path(folder))) as federation:
        key = load_ssh_private_key(federation.site_key("site").read_bytes(), None)
        assert isinstance(key, EllipticCurvePrivateKey)
        ports = {"door": federation.door_port, "past it": federation.control_port}
        clients = {name: client(federation, port, key) for name, port in ports.items()}
        public = public_key_to_bytes(key.public_key())
        activation = ActivateNodeRequest(public_key=public, heartbeat_interval=30)
        node = Node(node_id=clients["door"].ActivateNode(activation).node_id)
        push = PushObjectRequest(node=node, run_id=1, object_id="0" * 64, object_content=bytes(5 * 2**20))
        beat = SendNodeHeartbeatRequest(node=node, heartbeat_interval=30)
        superlink = psutil.Process(federation.superlink.pid)
        for what, request, times in (("PushObject", push, 20), ("SendNodeHeartbeat", beat, 100)):
            taken: dict[str, list[tuple[float, float]]] = {name: [] for name in clients}
            for _ in range(repeats):
                for name, connected in clients.items():
                    call = getattr(connected, what)
                    taken[name].append(milliseconds(superlink, functools.partial(call, request), times))
            for name, values in taken.items():
                wall, cpu = (statistics.median(value) for value in zip(*values, strict=True))
                print(f"{what:18} {name:8} {wall:6.1f} ms, CPU of the SuperLink {cpu:5.1f} ms")


if __name__ == "__main__":
    main()
