"""CPU-seconds and bytes of a round under secure sums against one in clear, with synthetic updates and no training.

    python -m benchmarks.secure_aggregation [--sites 5] [--preset tiny] [--repeats 5]

Rounds in clear, under a secure sum, and under one with an update-codec take turns in one process, after one of each
that is not counted. All are first rounds, in which whole weights go down. Messages are handed over in
memory: what is timed is packing, masking, summing and unmasking, not the network and not the start of a process for
each of a round's five messages in place of one. Sites sign with node keys, which they read from files anew in each
message, as in a deployed federation.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from client.secure_sum.node_keys import NodeKeys
from client.secure_sum.update import SecureUpdate
from deploy.files import PRESETS
from federation.local_training import LocalResult
from federation.packing import Shapes, pack, unpack
from federation.secure_sum.masking import Phase
from federation.settings import Settings, read_preset
from model.designs.registry import build_networks, travelling_shapes
from model.landmarks.geometry import PartSizes
from model.setting import Scalar
from server.rounds.exchange import Link
from server.rounds.fedgan import FedGAN
from server.rounds.secure_round import SecureRounds, SecureSums
from server.sites.agreement import SiteStatistics
from server.sites.roster import KnownSite, Roster
from tests.support.node_keys import write_node_keys

ROOT = Path(__file__).resolve().parent.parent
NUM_FRAMES = 1000
PART_SIZES = PartSizes((32,) * 4, (48,) * 4)


class FixedRoster(Roster):
    """Sites that are simply there; node ids are partition ids + 1."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        for index in range(settings.rounds.num_clients):
            counts = np.zeros(settings.model.num_identities)
            counts[index] = NUM_FRAMES
            landmarks = np.zeros((settings.model.num_identities, 68, 2))
            sums = SiteStatistics(
                part_sums_P2=np.ones((4, 2)), sums_IKC=landmarks, squares_IKC=landmarks, counts_I=counts
            )
            self._by_node[index + 1] = KnownSite(partition_id=index, statistics=sums, labels={}, num_simulated=0)


class SyntheticGrid(Grid):
    """Sites that answer with the global tensors plus noise, when they are asked for it, so that no answers pile up.

    `site_seconds` is the CPU-seconds that they took together.
    """

    def __init__(self, settings: Settings, shapes: Shapes, folder: Path) -> None:
        self._settings, self._shapes, self._folder = settings, shapes, folder
        self._unanswered: dict[str, Message] = {}
        self._num_messages = 0
        self.site_seconds = 0.0
        self.num_bytes = 0

    def set_run(self, run: Run) -> None:
        """There is none."""

    @property
    def run(self) -> Run:
        """An empty one."""
        return Run.create_empty(1)

    def create_message(self, *args: object, **kwargs: object) -> Message:
        """Not the way to make one."""
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        """All of them."""
        return range(1, self._settings.rounds.num_clients + 1)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Keep each."""
        ids = []
        for message in messages:
            self._num_messages += 1
            ids.append(str(self._num_messages))
            message.metadata.__dict__["_message_id"] = ids[-1]
            self._unanswered[ids[-1]] = message
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The answers."""
        return [self._answer(self._unanswered.pop(i)) for i in message_ids if i in self._unanswered]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Both."""
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Message) -> Message:
        received = message.content.array_records["fitins.parameters"]
        site = message.metadata.dst_node_id - 1
        arrays = [array.numpy() for array in received.values()]
        config = dict(message.content.config_records["fitins.config"])
        updates = self._update(arrays, config, site)
        begin = time.process_time()
        answer, num_examples, metrics = self._site(site, arrays, config, updates)
        record = ArrayRecord(answer)
        self.site_seconds += time.process_time() - begin
        self.num_bytes += sum(len(array.data) for r in (received, record) for array in r.values())
        content = {
            "fitres.parameters": record,
            "fitres.num_examples": MetricRecord({"num_examples": num_examples}),
            "fitres.metrics": ConfigRecord(metrics),
        }
        return Message(RecordDict(content), reply_to=message)

    def _update(self, arrays: list[np.ndarray], config: dict[str, Any], site: int) -> dict[str, np.ndarray]:
        if config["phase"] not in ("train", Phase.TRAIN):
            return {}
        rng = np.random.default_rng(site)
        return {
            name: array + rng.standard_normal(array.shape, np.float32) * np.float32(1e-3)
            for name, array in unpack(arrays[0], self._shapes).items()
        }

    def _site(self, site: int, arrays: list[np.ndarray], config: dict[str, Any], trained: dict[str, np.ndarray]) -> Any:
        if config["phase"] == "train":
            return [pack(trained)], NUM_FRAMES, {"loss_generator": 1.0}
        keys = NodeKeys.read(self._folder / f"site-{site + 1}.key", self._folder, site)
        own = SecureUpdate(self._folder / str(site), site, self._settings, keys, config)
        if config["phase"] == Phase.KEYS:
            return own.keys()
        if config["phase"] == Phase.SHARES:
            return own.shares(arrays)
        if config["phase"] == Phase.AGREE:
            return own.agreed(arrays)
        if config["phase"] == Phase.UNMASK:
            return own.revealed(arrays)
        counts = np.zeros(self._settings.model.num_identities, np.int64)
        counts[site] = NUM_FRAMES
        result = LocalResult(tensors=trained, num_examples=NUM_FRAMES, metrics={"loss_generator": 1.0})
        return own.masked_update(
            arrays,
            part_sizes=PART_SIZES,
            identity_counts_I=counts,
            received=lambda weights_L: unpack(weights_L, self._shapes),
            train=lambda _: result,
        )


def settings_of(preset: str, num_sites: int, *, is_secure: bool = True) -> Settings:
    """Of a run; a plain one may have more sites."""
    changes: dict[str, Scalar] = {"num-clients": num_sites, "num-identities": num_sites, "min-fit-clients": num_sites}
    changes |= {"update-codec": "float32", "secure-aggregation": is_secure}
    return Settings.from_flat({**read_preset(PRESETS / f"{preset}.toml"), **changes})


def measure(settings: Settings) -> dict[str, float]:
    """One round: CPU-seconds of a site and of the server, and bytes of tensors in both directions for a site."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    start = build_networks(settings.model, PART_SIZES, seed=0).travelling_tensors()
    roster = FixedRoster(settings)
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        grid = SyntheticGrid(
            settings,
            travelling_shapes(settings.model),
            write_node_keys(Path(folder), settings.rounds.num_clients),
        )
        answering = _timed_answers(grid)
        begin = time.process_time()
        min_sites = settings.rounds.min_fit_clients
        link = Link(grid=grid, roster=roster, timeout_s=60.0, on_wait=lambda: None, min_sites=min_sites)
        scalars: dict[str, Scalar] = {"run-id": "r", **PART_SIZES.to_flat()}
        if settings.privacy.secure_aggregation:
            SecureRounds(start, SecureSums(link, settings), settings, scalars=scalars).train(1, start)
        else:
            FedGAN(start, link, settings, Path(folder), scalars=scalars).train(1, start)
        seconds = time.process_time() - begin
    return {
        "site_s": grid.site_seconds / settings.rounds.num_clients,
        "server_s": seconds - answering[0],
        "mib": grid.num_bytes / settings.rounds.num_clients / 2**20,
        "million_values": sum(array.size for array in start.values()) / 1e6,
    }


def _timed_answers(grid: SyntheticGrid) -> list[float]:
    """CPU-seconds in which the sites answered, synthetic updates included; filled while the grid is used."""
    total = [0.0]
    answer = grid._answer

    def timed(message: Message) -> Message:
        begin = time.process_time()
        reply = answer(message)
        total[0] += time.process_time() - begin
        return reply

    grid._answer = timed  # type: ignore[method-assign]
    return total


def main() -> None:
    """Measure, print medians with the range, and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, default=5)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    secure = settings_of(options.preset, options.sites)
    kinds = {
        "in clear": secure.replaced({"secure-aggregation": False}),
        "secure": secure,
        "secure, int8": secure.replaced({"update-codec": "int8"}),
    }
    rows: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for number in range(options.repeats + 1):
        for kind, settings in kinds.items():
            row = measure(settings)
            if number:
                rows[kind].append(row)
    values = rows["secure"][0]["million_values"]
    sys.stdout.write(
        f"{options.preset}: {values:.2f} million values, {options.sites} sites, {options.repeats} rounds\n"
    )
    for key in ("site_s", "server_s", "mib"):
        measured = {kind: [row[key] for row in of_kind] for kind, of_kind in rows.items()}
        clear = statistics.median(measured["in clear"])
        for kind, v in measured.items():
            median = statistics.median(v)
            sys.stdout.write(
                f"{key}, {kind}: {median:.3f} ({min(v):.3f} to {max(v):.3f}), ratio to clear {median / clear:.2f}\n"
            )


if __name__ == "__main__":
    main()
