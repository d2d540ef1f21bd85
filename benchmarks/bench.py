"""What the program costs here, in one table: `make bench`, at most ten minutes on two free cores.

What is timed takes turns: everything once, then everything again, so that a machine that slows down slows all of it.
The table is printed and kept as benchmarks/results/<time>-<machine>.json; docs/performance.md says what it means. The
other files here measure one thing each and have commands of their own.
"""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import distributions, version
from pathlib import Path

import psutil
import torch

from benchmarks.figures import ROOT, Bench
from model.files import write_json

RESULTS = ROOT / "benchmarks" / "results"
PASSES = 2
PACKAGES = ("fedreenact", "torch", "numpy", "flwr", "mediapipe", "opencv-python-headless")


def main() -> None:
    """Measure, print and keep."""
    torch.set_num_threads(1)
    started, timed = time.monotonic(), dict[str, list[float]]()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        once = bench.once()
        for number in range(PASSES):
            for name, measure in bench.timed():
                timed.setdefault(name, []).append(measure())
                _say(f"pass {number + 1}: {name} {timed[name][-1]:.4g}")
    for name, value in once.items():
        print(f"| {name} | {value:.4g} | |")
    for name, values in timed.items():
        print(f"| {name} | {statistics.median(values):.4g} | {min(values):.4g} to {max(values):.4g} |")
    minutes = (time.monotonic() - started) / 60
    keep(f"{platform.machine()}-{os.cpu_count()}", {"minutes": minutes, "once": once, "timed": timed})


def keep(name: str, figures: Mapping[str, object]) -> None:
    """Write figures with date, machine and versions to `<time>-<name>.json` among the results, and say so."""
    now = datetime.datetime.now(datetime.UTC)
    path = RESULTS / f"{now:%Y-%m-%dT%H%M}-{name}.json"
    about = {"date": now.isoformat(timespec="seconds"), "machine": machine(), "versions": versions()}
    write_json(path, {**about, **figures})
    print(f"kept in {path.relative_to(ROOT)}")


def machine() -> dict[str, object]:
    """What the figures were measured on; the load, of the last quarter of an hour, says how far to trust the times."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "load": os.getloadavg()[2],
    }


def versions() -> dict[str, str]:
    """Of Python, the code and its packages, where they are installed."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    installed = {one.name for one in distributions()}
    found = {name: version(name) for name in PACKAGES if name in installed}
    return {"python": platform.python_version(), "commit": commit.strip(), **found}


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
