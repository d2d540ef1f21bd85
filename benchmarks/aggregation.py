"""Peak memory and time of the server for one round, with synthetic updates and no training.

    python benchmarks/aggregation.py [--sites 5] [--preset paper] [--embed-dim 384 576 768 ...]

Each size runs in a process of its own. The updates arrive as Flower delivers them: one reply at a time, as bytes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from deploy.files import PRESETS
from federation.packing import pack
from federation.settings import Settings, read_preset
from model.designs.registry import build_networks
from model.landmarks.geometry import PartSizes
from model.networks.bundle import NamedArrays
from server.rounds.fedgan import FedGAN, to_record
from server.sites.agreement import SiteStatistics
from server.sites.roster import KnownSite, Roster

ROOT = Path(__file__).resolve().parent.parent


class FixedRoster(Roster):
    """Sites that are simply there."""

    def __init__(self, settings: Settings, num_sites: int) -> None:
        super().__init__(settings)
        for index in range(num_sites):
            counts = np.zeros(settings.model.num_identities)
            counts[index] = 1000
            landmarks = np.zeros((settings.model.num_identities, 68, 2))
            statistics = SiteStatistics(
                part_sums_P2=np.ones((4, 2)), sums_IKC=landmarks, squares_IKC=landmarks, counts_I=counts
            )
            self._by_node[index + 1] = KnownSite(partition_id=index, statistics=statistics, labels={})


def replies(messages: list[Message], start: NamedArrays) -> Iterator[Message]:
    """The start plus noise, one reply in memory at a time."""
    rng = np.random.default_rng(0)
    for message in messages:
        vector_L = pack(start)
        arrays = {"0": Array(vector_L + rng.standard_normal(vector_L.shape, np.float32) * np.float32(1e-3))}
        content = RecordDict(
            {
                "fitres.parameters": ArrayRecord(arrays),
                "fitres.num_examples": MetricRecord({"num_examples": 1000}),
                "fitres.metrics": ConfigRecord({"loss_generator": 1.0}),
            }
        )
        del arrays, vector_L
        reply = Message(content, reply_to=message)
        yield reply


def measure(settings: Settings, num_sites: int) -> dict[str, float]:
    """One round."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    start = build_networks(settings.model, PartSizes((32,) * 4, (48,) * 4), seed=0).travelling_tensors()
    before = peak_mib()
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        strategy = FedGAN(start, FixedRoster(settings, num_sites), settings, Path(folder) / "updates")
        messages = strategy.configure_train(1, to_record(start), ConfigRecord({"run-id": "r"}), None)
        for number, message in enumerate(messages):
            message.metadata.__dict__["_message_id"] = str(number)
        begin = time.monotonic()
        strategy.aggregate_train(1, replies(messages, start))
        seconds = time.monotonic() - begin
    num_values = sum(array.size for array in start.values())
    return {
        "million_values": num_values / 1e6,
        "model_mib": num_values * 4 / 2**20,
        "before_mib": before,
        "peak_mib": peak_mib(),
        "seconds": seconds,
    }


def peak_mib() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure each size in a process of its own, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, default=5)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--embed-dim", type=int, nargs="*", default=[384, 768, 1152])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        flat = read_preset(PRESETS / f"{options.preset}.toml")
        settings = Settings.from_flat(
            {**flat, "embed-dim": options.one, "num-clients": options.sites, "num-identities": options.sites}
        )
        sys.stdout.write(json.dumps(measure(settings, options.sites)))
        return
    sys.stdout.write("embed-dim | million values | model MiB | before MiB | peak MiB | (peak - before) / model | s\n")
    for size in options.embed_dim:
        command = [
            sys.executable,
            __file__,
            "--preset",
            options.preset,
            "--sites",
            str(options.sites),
            "--one",
            str(size),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        row = json.loads(done.stdout)
        ratio = (row["peak_mib"] - row["before_mib"]) / row["model_mib"]
        sys.stdout.write(
            f"{size} | {row['million_values']:.1f} | {row['model_mib']:.0f} | {row['before_mib']:.0f} | "
            f"{row['peak_mib']:.0f} | {ratio:.1f} | {row['seconds']:.1f}\n"
        )


if __name__ == "__main__":
    main()
