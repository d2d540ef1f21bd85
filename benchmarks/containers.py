"""Rounds of many sites in containers: `python -m benchmarks.containers [--sites 10]`, where a Docker engine answers.

docker-compose.yml with as many sites more as are wanted, each in a network of its own; images must have been built
(`docker compose build`). A small network and a few steps, so that what is seen is messages and memory, not training.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.e2e.compose import Compose, docker, wait_until
from tests.e2e.settings import SETTINGS, approve, as_options, drawing_people
from tests.support.paths import ROOT

NUM_ROUNDS = 4
IDLE_S = 60.0
CPU_USED = """
if [ -f /sys/fs/cgroup/cpu.stat ]; then sed -n 's/usage_usec \\(.*\\)/\\1000/p' /sys/fs/cgroup/cpu.stat
else cat /sys/fs/cgroup/cpuacct/cpuacct.usage; fi
"""
"""Prints a container's CPU time in nanoseconds, with either version of control groups."""
_IN_COMPOSE = 5
"""Sites of docker-compose.yml."""


def main() -> None:
    """Bring them up, train, wait, print, take them down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, default=10)
    num_sites = parser.parse_args().sites
    changes = {"max-rounds": NUM_ROUNDS, "num-clients": num_sites, "num-identities": num_sites}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        whole, approved = Path(folder) / "many.json", approve(Path(folder) / "approved.toml", SETTINGS | changes)
        environment = {"FEDREENACT_APPROVED": str(approved), "FEDREENACT_SETTINGS": as_options(**changes)}
        five = Compose("fedreenact-many", [ROOT / "docker-compose.yml"], environment, prometheus_port=19092)
        whole.write_text(json.dumps(with_sites(json.loads(five("config", "--format", "json")), num_sites)))
        compose = Compose("fedreenact-many", [whole], environment, prometheus_port=19092)
        try:
            services = ["superlink", "server", "exporter", "run", *(f"site-{n}" for n in range(1, num_sites + 1))]
            compose("up", "-d", *services, timeout_s=900)
            wait_until("the end", lambda: compose.state("run")["Status"] == "exited", timeout_s=3600)
            show(compose.history())
            print(docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}"))
            show_idle(compose, [service for service in services if service != "run"])
        finally:
            compose("down", "-v", "-t", "5", check=False)


def show_idle(compose: Compose, services: list[str]) -> None:
    """What each container uses of a core while nothing is trained, its health checks included."""
    before = {service: int(compose.ask(service, CPU_USED)) for service in services}
    time.sleep(IDLE_S)
    for service in services:
        used_ns = int(compose.ask(service, CPU_USED)) - before[service]
        print(f"{service}: {used_ns / 1e9 / IDLE_S:.1%} of a core while it waits")


def with_sites(model: dict[str, Any], num_sites: int) -> dict[str, Any]:
    """A resolved compose file with copies of its last site, and drawn people for all.

    Args:
        model: docker-compose.yml's; changed.
        num_sites: in the end.
    """
    services, last = model["services"], f"site-{_IN_COMPOSE}"
    everybody = [f"site-{n}" for n in range(1, num_sites + 1)]
    for name in everybody[_IN_COMPOSE:]:
        site = json.loads(json.dumps(services[last]).replace(last, name))
        site["environment"]["PARTITION_ID"] = str(int(name.removeprefix("site-")) - 1)
        services[name] = site
        services["superlink"]["networks"][name] = None
        data = {"type": "volume", "source": f"{name}-data", "target": f"/sites/{name}"}
        services["seed"]["volumes"].append(data)
        model["networks"][name] = {"internal": True}
        model["volumes"] |= {f"{name}-data": {}, f"{name}-state": {}}
    services["seed"]["command"] = ["sh", "-ec", drawing_people(num_sites)]
    return model


def show(rows: list[dict[str, Any]]) -> None:
    """Seconds, sites and memory of each round."""
    for row in rows:
        peaks = [site["peak_memory_bytes"] / 2**20 for site in row["clients"].values()]
        trained = max(site["seconds"] for site in row["clients"].values())
        print(
            f"round {row['round']}: {row['seconds']:.1f} s, of which the slowest site trained {trained:.1f} s; "
            f"{len(row['clients'])} sites, peak of one {statistics.median(peaks):.0f} MiB, "
            f"of the server {row['server']['peak_memory_bytes'] / 2**20:.0f} MiB"
        )


if __name__ == "__main__":
    main()
