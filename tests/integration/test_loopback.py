"""Who reaches a simulation that is under way: its own user on its own machine, and nobody else."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from server.flower import processes
from server.flower.simulation import run_simulation
from server.run_folder.history import RoundRow
from tests.support.federated_setup import minimal_settings, write_dataset

pytestmark = pytest.mark.integration

STRANGER = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
print("ran as a stranger:", ray.get(ray.remote(num_cpus=0)(lambda: "yes").remote()))
"""
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


class Seen(Exception):
    """Ends a run from within."""


def during_a_run(tmp_path: Path, look: Callable[[], None]) -> None:
    """Have a look when the first round is over and the second is trained."""

    def on_round(row: RoundRow) -> None:
        look()
        raise Seen

    dataset = write_dataset(tmp_path / "dataset", 2)
    settings = minimal_settings(dataset, tmp_path / "run", 2, max_rounds=1000, round_timeout_s=300.0)
    with pytest.raises(Seen):
        run_simulation(settings, on_round=on_round)


def below() -> list[psutil.Process]:
    """All processes of the simulation."""
    return list(processes.descendants(os.getpid()))


def listening() -> dict[str, set[str]]:
    """Process name to the addresses on which such processes listen, or take datagrams."""
    found: dict[str, set[str]] = {}
    for process in below():
        try:
            name, connections = process.name(), process.net_connections("inet")
        except psutil.NoSuchProcess:
            continue
        for connection in connections:
            if connection.laddr and not connection.raddr:
                found.setdefault(name, set()).add(connection.laddr.ip)
    return found


def is_loopback(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def gcs() -> tuple[str, dict[str, str]]:
    """Address of Ray's head, and the environment in which it runs."""
    for process in below():
        if process.name() == "gcs_server":
            ports = [c.laddr.port for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
            return f"127.0.0.1:{ports[0]}", process.environ()
    raise AssertionError("no gcs_server runs")


def connect(address: str, environment: dict[str, str], home: Path) -> str:
    """What becomes of a script that knows the address."""
    clean = {"PATH": os.environ["PATH"], "HOME": str(home), "RAY_TMPDIR": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, address],
        env=clean | environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.stdout + done.stderr


def test_a_simulation_listens_on_loopback_alone_and_ray_wants_its_token(tmp_path: Path) -> None:
    home = tmp_path / "stranger"
    home.mkdir()
    folders: list[Path] = []

    def look() -> None:
        heard = listening()
        assert {"gcs_server", "raylet"} <= heard.keys()
        open_to_others = {name: {a for a in addresses if not is_loopback(a)} for name, addresses in heard.items()}
        assert not any(open_to_others.values()), open_to_others
        address, environment = gcs()
        folders.append(Path(environment["RAY_TMPDIR"]))
        assert folders[0].stat().st_mode & 0o777 == 0o700
        token = {key: environment[key] for key in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
        forged = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
        with ThreadPoolExecutor() as pool:  # Ray tries for 20 s
            shown = [{}, forged, token]
            answers = list(pool.map(lambda keys: connect(address, LOOPBACK | keys, home), shown))
        for answer in answers[:2]:
            assert "ran as a stranger" not in answer
            assert "token" in answer, answer
        assert "ran as a stranger: yes" in answers[2]

    during_a_run(tmp_path, look)
    assert not folders[0].exists()
