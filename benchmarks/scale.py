"""What a round costs as sites become more: `python -m benchmarks.scale`, kept as JSON in benchmarks/results.

*Whole rounds* of Flower's simulation engine with the smallest network, so that what is seen is messages, not training.
*The server's part* of a round with updates of the size of a preset, in a process of its own for each number of sites.
docs/scale.md says what the figures mean.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import psutil

from benchmarks.bench import keep
from benchmarks.secure_aggregation import measure, settings_of
from server.flower.simulation import run_simulation
from server.run_folder.history import RoundRow
from tests.support.federated_setup import minimal_settings, write_dataset

NUM_ROUNDS = 4
MIB = 2**20
_LOOK_S = 0.2


def simulated(num_sites: int) -> dict[str, float]:
    """Rounds of a simulation; the first, in which processes start, is not counted."""
    rows: list[RoundRow] = []
    peaks: list[float] = []

    def note(row: RoundRow) -> None:
        rows.append(row)
        peaks.append(peak())

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        dataset = write_dataset(root / "dataset", num_sites)
        settings = minimal_settings(dataset, root / "run", num_sites, max_rounds=NUM_ROUNDS, round_timeout_s=600.0)
        begin = time.perf_counter()
        with _peak_of("flwr-simulation") as peak:
            run_simulation(settings, on_round=note)
    assert all(len(row.clients) == num_sites for row in rows)
    return {
        "round_s": statistics.median(row.seconds for row in rows[1:]),
        "run_s": time.perf_counter() - begin,
        "server_peak_mib_round_1": peaks[0],
        "server_peak_mib_last_round": peaks[-1],
    }


def server_part(preset: str, num_sites: int) -> dict[str, float]:
    """One round's checking, comparing and averaging, without the sites' work, and the most memory it took."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_server_part, preset, num_sites).result()


def _server_part(preset: str, num_sites: int) -> dict[str, float]:
    before = _own_peak_mib()
    found = measure(settings_of(preset, num_sites, is_secure=False))
    return {"server_s": found["server_s"], "grown_mib": _own_peak_mib() - before, "mib_both_ways_a_site": found["mib"]}


def _own_peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def _peak_of(name: str) -> Iterator[_Peak]:
    peak, ended = _Peak(name), threading.Event()

    def look() -> None:
        while not ended.wait(_LOOK_S):
            peak.look()

    watching = threading.Thread(target=look, daemon=True)
    watching.start()
    try:
        yield peak
    finally:
        ended.set()
        watching.join()


class _Peak:
    """The most memory that the process of some name below this one has had; MiB when called."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bytes = 0

    def look(self) -> None:
        """Look once."""
        for process in psutil.Process().children(recursive=True):
            try:
                if any(word.endswith(self._name) for word in process.cmdline()[:2]):
                    self._bytes = max(self._bytes, process.memory_info().rss)
            except psutil.NoSuchProcess:
                continue

    def __call__(self) -> float:
        return self._bytes / MIB


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, nargs="+", default=[5, 20, 100])
    parser.add_argument("--server-sites", type=int, nargs="+", default=[5, 20, 100])
    parser.add_argument("--preset", default="tiny")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # threads that wait for others spin, and count
    found: dict[str, dict[str, dict[str, float]]] = {"simulated": {}, "server": {}}
    for num_sites in options.sites:
        found["simulated"][str(num_sites)] = simulated(num_sites)
        print(f"simulated, {num_sites} sites:", _shown(found["simulated"][str(num_sites)]), flush=True)
    for num_sites in options.server_sites:
        found["server"][str(num_sites)] = server_part(options.preset, num_sites)
        print(f"server, {options.preset}, {num_sites} sites:", _shown(found["server"][str(num_sites)]), flush=True)
    keep("scale", {"preset": options.preset, **found})


def _shown(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


if __name__ == "__main__":
    main()
