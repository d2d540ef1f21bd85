"""Preparing, opening and reading a dataset of real size: `python benchmarks/dataset.py FOLDER`, 5 x 40,000 frames.

Draws pictures of noise with OpenFace files beside them, so that no face has to be found; CelebV has as many frames.
Memory is that of processes of their own, read once a second; a parent's and its workers' are added up.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import psutil

from model.batch import AU_ORDER, NUM_LANDMARKS

SIZE_PX = 64
MIB = 2**20

OPEN = """
import sys, time
from pathlib import Path
import numpy as np, psutil
from data_partition.batches import FrameCache, PairSampler, make_batch
from data_partition.partition import site_data
from data_partition.shards.shard import open_dataset
process = psutil.Process()
before, start = process.memory_info().rss, time.perf_counter()
shards = open_dataset(Path(sys.argv[1]))
seconds, grown = time.perf_counter() - start, process.memory_info().rss - before
print(f"opening {sum(shard.num_frames for shard in shards):,} frames: {seconds:.2f} s, {grown / 2**20:.0f} MiB")
rng = np.random.default_rng(0)
rows = rng.integers(0, shards[0].num_frames, 5000)
start = time.perf_counter()
for row in rows:
    shards[0].read_frame(int(row))
print(f"random access: {len(rows) / (time.perf_counter() - start):,.0f} frames/s")
sampler = PairSampler(site_data(shards[0], 0), split="train")
start = time.perf_counter()
pairs = sampler.draw(20_000, rng)
print(f"drawing pairs: {len(pairs) / (time.perf_counter() - start):,.0f} pairs/s")
cache = FrameCache(max_bytes=0)
start = time.perf_counter()
for first in range(0, 2000, 4):
    make_batch(pairs[first : first + 4], 64, cache)
print(f"batches of 4 from disk: {2000 / (time.perf_counter() - start):,.0f} samples/s")
"""


def draw_sources(folder: Path, num_people: int, num_frames: int) -> None:
    """Write <folder>/person-N/talk/*.jpg and talk.csv."""
    rng = np.random.default_rng(0)
    middle_KC = np.stack([np.linspace(16, 48, NUM_LANDMARKS), np.linspace(12, 44, NUM_LANDMARKS)], axis=1)
    names = ["frame", "timestamp", "confidence", "success", "pose_Rx", "pose_Ry", "pose_Rz"]
    names += [f"{axis}_{index}" for axis in "xy" for index in range(NUM_LANDMARKS)]
    names += [f"AU{au:02d}_r" for au in AU_ORDER if au != 28] + [f"AU{au:02d}_c" for au in AU_ORDER]
    for person in range(num_people):
        pictures = folder / f"person-{person}" / "talk"
        pictures.mkdir(parents=True)
        noise = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
        with pictures.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(names)
            for frame in range(num_frames):
                image = cv2.resize(np.roll(noise, frame % 16, axis=1), (SIZE_PX, SIZE_PX))
                image[:16, :16] = rng.integers(0, 255, 3)
                (pictures / f"{frame:06d}.jpg").write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
                swing = float(np.sin(frame / 20 + person))
                xy = (middle_KC + 2 * swing).T.ravel().round(1).tolist()
                units = [round(3 * abs(swing), 2)] * 17 + [int(swing > 0)] * 18
                rows.writerow([frame + 1, f"{frame / 25:.3f}", 0.98, 1, f"{swing / 5:.3f}", 0, 0, *xy, *units])


def run(command: list[str]) -> tuple[float, int, int]:
    """Seconds, and the peak memory of the process and of its whole tree, bytes."""
    start = time.perf_counter()
    process = psutil.Popen(command, stdout=subprocess.DEVNULL)
    peaks = [0, 0]

    def watch() -> None:
        while process.poll() is None:
            try:
                own = process.memory_info().rss
                tree = own + sum(child.memory_info().rss for child in process.children(recursive=True))
            except psutil.NoSuchProcess:
                continue
            peaks[:] = max(peaks[0], own), max(peaks[1], tree)
            time.sleep(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    if process.wait() != 0:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}")
    watcher.join()
    return time.perf_counter() - start, peaks[0], peaks[1]


def main() -> None:
    """Run all parts and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=int, default=5)
    parser.add_argument("--frames", type=int, default=40_000)
    arguments = parser.parse_args()
    src, out = arguments.folder / "src", arguments.folder / "out"
    if not src.is_dir():
        draw_sources(src, arguments.people, arguments.frames)
    cli = [sys.executable, "-m", "cli.entry"]
    total = arguments.people * arguments.frames
    for what, command in (
        ("preparing", [*cli, "prepare", str(src), str(out), "--size", str(SIZE_PX)]),
        ("preparing again", [*cli, "prepare", str(src), str(out), "--size", str(SIZE_PX)]),
        ("doctor", [*cli, "doctor", str(out)]),
    ):
        seconds, own, tree = run(command)
        print(
            f"{what}: {seconds:.0f} s, {total / seconds:,.0f} frames/s, {own / MIB:.0f} MiB, "
            f"with its workers {tree / MIB:.0f} MiB",
            flush=True,
        )
    subprocess.run([sys.executable, "-c", OPEN, str(out)], check=True)


if __name__ == "__main__":
    main()
