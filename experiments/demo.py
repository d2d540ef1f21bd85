"""`fedreenact demo`: the whole path once, on drawn people.

drawn people -> federated training on Flower's simulation engine -> evaluation -> sheets, a clip and one page.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch

from data_partition.shards.shard import Shard, open_dataset
from data_partition.synth.dataset import synthesize
from data_partition.synth.motion import FRAME_RATE_HZ
from evaluation.figures.tables import TextTable
from evaluation.job import EvaluationReport, EvaluationRequest, run_evaluation
from evaluation.pairs import Protocol
from experiments.listener import Listener
from experiments.report import read_report
from experiments.report_page import Demonstration, write_report
from federation.settings import Settings
from model.checkpoint import load_checkpoint
from model.setting import Scalar
from model.training.trainer import pick_device
from reenact.clips.video_writer import VideoWriter
from reenact.faces import face_of_shard
from reenact.guidance_choice import Guidance
from reenact.marks.delivery import Marks, deliver_film, record_of_picture
from reenact.marks.kinds import Label
from reenact.marks.manifest import Origin
from reenact.person import Person, references_of_shard
from reenact.reenactor import Reenactor, Transfer
from server.flower.simulation import run_simulation

NUM_IDENTITIES = 5
NUM_FRAMES = 400
SIZE_PX = 128
SEED = 0
NUM_PAIRS = 30
"""Evaluation pairs of each identity and protocol."""
CLIP_FRAMES = 75
CLIP_CELL_PX = 192

DEMO_SETTINGS: dict[str, Scalar] = {
    "num-clients": NUM_IDENTITIES,
    "num-identities": NUM_IDENTITIES,
    "local-steps": 40,
    "max-rounds": 5,
    "adversarial-from-step": 40,
    "adversarial-lead-steps": 80,
    "adversarial-ramp-steps": 40,
    "perceptual-every": 4,
    "tau": 0.0,
    "seed": SEED,
}
"""Sized for two CPU cores: 200 local steps a site take some five minutes with the tiny preset. The discriminator is
trained from the second round on and joins for the last two; tau 0 never stops early, so that the demonstration always
shows the same training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoReport:
    """What the demonstration left behind."""

    dataset: Path
    run: Path
    results: Path
    """Tables, sheets and clip."""
    page: Path
    tables: list[TextTable]


def run_demo(out: Path, settings: Settings, listener: Listener) -> DemoReport:
    """Make everything anew in `out`: dataset, run, sheets, clip and index.html.

    Args:
        out: folder of the demonstration; an earlier one in it is replaced.
        settings: the tiny preset; `DEMO_SETTINGS` are put over it.
        listener: told how far it is.

    Raises:
        FedreenactError: whatever stops one of the steps.
    """
    out = out.resolve()
    dataset, run, results = out / "dataset", out / "run", out / "results"
    for folder in (dataset, run, results):
        shutil.rmtree(folder, ignore_errors=True)
    seconds: dict[str, float] = {}
    with _timed(seconds, "Drawing people"):
        listener.progress("Drawing people", 0, NUM_IDENTITIES)
        synthesize(dataset, num_identities=NUM_IDENTITIES, num_frames=NUM_FRAMES, size_px=SIZE_PX, seed=SEED)
        listener.progress("Drawing people", NUM_IDENTITIES, NUM_IDENTITIES)
    resolved = settings.replaced({**DEMO_SETTINGS, "data-dir": str(dataset), "output-dir": str(run)})
    with _timed(seconds, "Federated training"):
        listener.start_rounds(resolved.rounds.max_rounds)
        run_simulation(resolved, on_round=listener.on_round)
    device = pick_device(resolved.optimizer.device)
    with _timed(seconds, "Evaluation and pictures"):
        evaluated = _evaluate(resolved, results, device, listener)
        shards = open_dataset(dataset)
        _write_clip(results / "cross.mp4", Reenactor(load_checkpoint(run), device), shards)
    demonstration = Demonstration(
        clip=results / "cross.mp4",
        clip_people=tuple(shard.identity for shard in shards),
        seconds=seconds,
        places={"Dataset": dataset, "Run: checkpoints, history, settings": run, "Tables, sheets and clip": results},
    )
    files = write_report(out / "index.html", read_report(run, [results]), demonstration)
    return DemoReport(dataset=dataset, run=run, results=results, page=files["Page"], tables=evaluated.tables)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[name] = time.monotonic() - started


def _evaluate(settings: Settings, results: Path, device: torch.device, listener: Listener) -> EvaluationReport:
    """From one source: these are held out as driving frames are, and often nearer to them than any training frame."""
    request = EvaluationRequest(
        checkpoint=Path(settings.run.output_dir),
        dataset=Path(settings.data.data_dir),
        out=results,
        protocols=(Protocol.SELF, Protocol.CROSS),
        num_pairs=NUM_PAIRS,
        seed=SEED,
        pairs=None,
        landmarks=Guidance.AUTO,
    )
    return run_evaluation(request, device=device, progress=listener.progress)


def _write_clip(path: Path, reenactor: Reenactor, shards: Sequence[Shard]) -> None:
    """The first identity's frames, and beside them every other identity making the same movements."""
    driver, others = shards[0], shards[1:]
    first_rows = [int(np.flatnonzero(shard.is_test_F)[0]) for shard in others]
    sources = [
        Person.of(
            face_of_shard(shard, row, reenactor.size_px),
            references_of_shard(shard, str(shard.clip[row]), reenactor.size_px).with_detail(),
        )
        for shard, row in zip(others, first_rows, strict=True)
    ]
    rows = np.flatnonzero(driver.clip == driver.clip[0])[-CLIP_FRAMES:]
    driving = [face_of_shard(driver, int(row), reenactor.size_px) for row in rows]
    statistics = reenactor.statistics(driver.identity, np.stack([face.landmarks_KC for face in driving]))
    columns = [[face.image_HWC for face in driving]]
    for source in sources:
        guidance = reenactor.choose(Guidance.AUTO, source, driver.identity)
        transfer = Transfer(guidance=guidance, driving_statistics=statistics)
        targets_NKC = reenactor.target_landmarks(transfer, source, driving)
        columns.append([drawing.result for drawing in reenactor.draw(source, driving, targets_NKC)])
    pictures = [
        np.hstack([cv2.resize(f, (CLIP_CELL_PX, CLIP_CELL_PX)) for f in frames])
        for frames in zip(*columns, strict=True)
    ]
    model_sha256 = reenactor.weights_sha256()
    record = record_of_picture(model_sha256, np.stack(pictures))
    marks = Marks(Origin(label=Label.GENERATED, record=record, model_sha256=model_sha256))
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / path.name
        with VideoWriter(film, frame_rate_hz=Fraction(FRAME_RATE_HZ)) as writer:
            for picture in pictures:
                writer.add(marks(picture))
        deliver_film(path, film, marks.origin)
