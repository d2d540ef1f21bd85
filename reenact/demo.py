"""`fedreenact demo`: the whole path once, on invented people.

synthetic faces -> federated training on Flower's simulation engine -> evaluation -> sheets, a clip and one page.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from data_partition.shard import Shard, open_dataset
from data_partition.synth import synthesize
from data_partition.synth_motion import FRAME_RATE_HZ
from evaluation.comparison import Comparison, compare_with_copy_source
from model.checkpoint import Checkpoint, load_checkpoint
from model.config import Scalar, Settings
from model.trainer import pick_device
from reenact.curves import write_curves
from reenact.faces import face_of_shard
from reenact.guidance_choice import Guidance
from reenact.page import DemoPage, DemoResults, write_page
from reenact.reenactor import Reenactor
from reenact.sheet import sheet_row, write_sheet
from reenact.video_writer import VideoWriter
from server.run_folder import read_history
from server.simulation import run_simulation

NUM_IDENTITIES = 5
NUM_FRAMES = 400
SIZE_PX = 128
SEED = 0
NUM_PAIRS = 40
"""Test pairs of each identity in the table."""
CLIP_FRAMES = 75
CLIP_CELL_PX = 192

DEMO_SETTINGS: dict[str, Scalar] = {
    "num-clients": NUM_IDENTITIES,
    "num-identities": NUM_IDENTITIES,
    "local-steps": 40,
    "max-rounds": 5,
    "adversarial-from-step": 120,
    "tau": 0.0,
    "seed": SEED,
}
"""Sized for two CPU cores: 200 local steps a site take some five minutes with the tiny preset. The discriminator joins
for the last two rounds; tau 0 never stops early, so that the demonstration always shows the same training."""


class DemoListener(Protocol):
    """Told how far the demonstration is."""

    def progress(self, text: str, done: int, total: int) -> None:
        """`done` of `total` units of the work that `text` names."""

    def start_rounds(self, max_rounds: int) -> None:
        """Training begins."""

    def on_round(self, row: Mapping[str, Any]) -> None:
        """One finished round, as history.jsonl has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoReport:
    """What the demonstration left behind."""

    dataset: Path
    run: Path
    sheets: Path
    page: Path
    comparison: Comparison


def run_demo(out: Path, settings: Settings, listener: DemoListener) -> DemoReport:
    """Make everything anew in `out`: dataset, run, sheets, clip and index.html.

    Args:
        out: folder of the demonstration; an earlier one in it is replaced.
        settings: the tiny preset; `DEMO_SETTINGS` are put over it.
        listener: told how far it is.

    Raises:
        FedreenactError: whatever stops one of the steps.
    """
    out = out.resolve()
    dataset, run, sheets = out / "dataset", out / "run", out / "sheets"
    for folder in (dataset, run, sheets):
        shutil.rmtree(folder, ignore_errors=True)
    seconds: dict[str, float] = {}
    with _timed(seconds, "Drawing people"):
        listener.progress("Drawing people", 0, NUM_IDENTITIES)
        synthesize(dataset, num_identities=NUM_IDENTITIES, num_frames=NUM_FRAMES, size_px=SIZE_PX, seed=SEED)
        listener.progress("Drawing people", NUM_IDENTITIES, NUM_IDENTITIES)
    resolved = settings.replaced({**DEMO_SETTINGS, "data-dir": str(dataset), "output-dir": str(run)})
    with _timed(seconds, "Federated training"):
        listener.start_rounds(resolved.federation.max_rounds)
        run_simulation(resolved, on_round=listener.on_round)
    with _timed(seconds, "Evaluation and pictures"):
        results = _results(resolved, dataset, run, sheets, listener)
    places = {"Dataset": dataset, "Run: checkpoints, history, settings": run, "Sheets and clip": sheets}
    page = write_page(out / "index.html", DemoPage(settings=resolved, seconds=seconds, places=places, results=results))
    summary = json.dumps(results.comparison.to_dict(), indent=2)
    (out / "summary.json").write_text(summary + "\n", encoding="utf-8")
    return DemoReport(dataset=dataset, run=run, sheets=sheets, page=page, comparison=results.comparison)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[name] = time.monotonic() - started


def _results(settings: Settings, dataset: Path, run: Path, sheets: Path, listener: DemoListener) -> DemoResults:
    """Numbers, curves, sheets and clip of a finished run."""
    checkpoint = load_checkpoint(run)
    shards = open_dataset(dataset)
    reenactor = Reenactor(checkpoint, pick_device(settings.optimizer.device))
    comparison = _evaluate(reenactor, checkpoint, shards, listener)
    listener.progress("Drawing sheets", 0, 2)
    history = read_history(run)
    write_curves(sheets / "curves.png", history)
    _write_sheets(reenactor, shards, sheets)
    listener.progress("Drawing sheets", 1, 2)
    _write_clip(sheets / "cross.mp4", reenactor, shards)
    listener.progress("Drawing sheets", 2, 2)
    return DemoResults(
        comparison=comparison,
        history=history,
        curves=sheets / "curves.png",
        self_sheet=sheets / "self.png",
        cross_sheet=sheets / "cross.png",
        clip=sheets / "cross.mp4",
    )


def _evaluate(
    reenactor: Reenactor, checkpoint: Checkpoint, shards: Sequence[Shard], listener: DemoListener
) -> Comparison:
    listener.progress("Evaluating", 0, 1)
    comparison = compare_with_copy_source(
        reenactor.networks,
        shards,
        checkpoint.identities,
        num_pairs=NUM_PAIRS,
        seed=SEED,
        device=reenactor.device,
    )
    listener.progress("Evaluating", 1, 1)
    return comparison


def _write_sheets(reenactor: Reenactor, shards: Sequence[Shard], sheets: Path) -> None:
    """self.png and cross.png, one row a source person; the frames are drawn at random from the seed."""
    rng = np.random.default_rng(SEED)
    faces = []
    for shard in shards:
        rows = rng.choice(np.flatnonzero(shard.is_test_F), 2, replace=False)
        faces.append([face_of_shard(shard, int(row), reenactor.size_px) for row in rows])
    others = [*faces[1:], faces[0]]
    write_sheet(sheets / "self.png", [sheet_row(reenactor, source, driving) for source, driving in faces])
    pairs = [(mine[0], other[1]) for mine, other in zip(faces, others, strict=True)]
    write_sheet(sheets / "cross.png", [sheet_row(reenactor, source, driving) for source, driving in pairs])


def _write_clip(path: Path, reenactor: Reenactor, shards: Sequence[Shard]) -> None:
    """The first identity's frames, and beside them every other identity making the same movements."""
    driver, others = shards[0], shards[1:]
    first_rows = [int(np.flatnonzero(shard.is_test_F)[0]) for shard in others]
    sources = [face_of_shard(*pair, reenactor.size_px) for pair in zip(others, first_rows, strict=True)]
    rows = np.flatnonzero(driver.clip == driver.clip[0])[-CLIP_FRAMES:]
    driving = [face_of_shard(driver, int(row), reenactor.size_px) for row in rows]
    statistics = reenactor.statistics(driver.identity, np.stack([face.landmarks_KC for face in driving]))
    columns = [[face.image_HWC for face in driving]]
    for source in sources:
        guidance = reenactor.choose(Guidance.AUTO, source, driver.identity)
        targets_NKC = reenactor.target_landmarks(guidance, source, driving, statistics)
        columns.append([drawing.result for drawing in reenactor.draw(source, driving, targets_NKC)])
    with VideoWriter(path, frame_rate_hz=Fraction(FRAME_RATE_HZ)) as writer:
        for frames in zip(*columns, strict=True):
            writer.add(np.hstack([cv2.resize(f, (CLIP_CELL_PX, CLIP_CELL_PX)) for f in frames]))
