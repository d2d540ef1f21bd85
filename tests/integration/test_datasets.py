"""From the files of a dataset as they are published to a trained and evaluated model, in every layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data_partition.preparation.prepare import prepare
from data_partition.shards.images import write_image
from data_partition.shards.shard import Shard, open_dataset
from data_partition.sources.names import Layout
from data_partition.synth.dataset import synthesize
from evaluation.job import EvaluationRequest, run_evaluation
from evaluation.pairs import Protocol
from model.progress import no_progress
from model.weights import resolve
from reenact.guidance_choice import Guidance
from server.rounds.federation import run_federation
from tests.data_partition.conftest import write_video
from tests.data_partition.faces.test_clip_annotators import openface_rows
from tests.support.federated_setup import minimal_settings, simulated_grid
from tests.support.samples import celebv

pytestmark = pytest.mark.integration

NUM_FRAMES = 24
Build = Callable[[Path, list[Shard]], None]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> list[Shard]:
    """Four drawn people."""
    root = tmp_path_factory.mktemp("people")
    synthesize(root, num_identities=4, num_frames=NUM_FRAMES, size_px=160)
    return open_dataset(root)


def _pictures(folder: Path, shard: Shard, name: str = "{:03d}.jpg") -> None:
    folder.mkdir(parents=True)
    for row in range(NUM_FRAMES):
        write_image(folder / name.format(row), shard.read_frame(row))


def _videos(src: Path, people: list[Shard]) -> None:
    for shard in people[:2]:
        write_video(src / f"{shard.identity}.mp4", [shard.read_frame(row) for row in range(NUM_FRAMES)])
    (src / "broken.mp4").write_bytes(b"no video")


def _frames(src: Path, people: list[Shard]) -> None:
    for shard in people[:2]:
        _pictures(src / shard.identity / "first", shard)
        (src / shard.identity / "first" / "007.jpg").write_bytes(b"")


def _celebv(src: Path, people: list[Shard]) -> None:
    for person, shard in zip(("Kathleen", "Donald_trump"), people, strict=False):
        _pictures(src / person / "Image", shard, "P_{0:05d}.jpg_{0:010d}.jpg")
        lines = []
        for row in range(1, NUM_FRAMES):  # one picture has no line
            xy = " ".join(f"{x:.3f} {y:.3f}" for x, y in shard.landmarks_FKC[row][[0] * 30 + list(range(68))])
            lines.append(f"{xy} p_{row:05d}.JPG_{row:010d}.jpg")
        (src / person / "all_98pt.txt").write_text("\n".join([*lines, "1 2 cut.jpg"]) + "\n")


def _voxceleb(src: Path, people: list[Shard]) -> None:
    for index, shard in enumerate(people):
        subset = "train" if index < 2 else "test"
        (src / subset).mkdir(parents=True, exist_ok=True)
        name = f"id1000{index}#video#000001#000100.mp4"
        _pictures(src / subset / name, shard, "{:07d}.png")
        (src / subset / f"id1000{index}#cut#000001#000100.mp4").write_bytes(b"")


def _openface(src: Path, people: list[Shard]) -> None:
    for shard in people[:2]:
        _pictures(src / shard.identity, shard)
        rows = []
        for row in range(NUM_FRAMES):
            xy = shard.landmarks_FKC[row]
            rows.append(
                {"frame": row + 1, "timestamp": row / 25, "success": int(row != 3)}
                | {f"x_{k}": x for k, (x, _) in enumerate(xy)}
                | {f"y_{k}": y for k, (_, y) in enumerate(xy)}
            )
        text = openface_rows(*rows)
        (src / f"{shard.identity}.csv").write_text(text + text.splitlines()[-1][:300])  # the last row is cut


@pytest.mark.parametrize(
    ("build", "layout", "words"),
    [
        (_videos, Layout.VIDEOS, "cannot be opened as a video"),
        (_frames, Layout.FRAMES, "truncated picture of 0 bytes"),
        (_celebv, Layout.CELEBV, "pictures without a usable line of 98 points"),
        (_voxceleb, Layout.VOXCELEB, "cannot be opened as a video"),
        (_openface, Layout.OPENFACE, "fields, the header has"),
    ],
)
def test_a_dataset_as_published_is_prepared_trained_on_and_evaluated(
    people: list[Shard], tmp_path: Path, build: Build, layout: Layout, words: str
) -> None:
    (tmp_path / "src").mkdir()
    build(tmp_path / "src", people)
    report = prepare(tmp_path / "src", tmp_path / "out", size_px=64)
    assert report.layout is layout
    assert any(words in one.reason for _, one in report.rejected)
    out = tmp_path / "out"
    has_test_people = layout is Layout.VOXCELEB
    metrics = _train_and_evaluate(
        out / "train" if has_test_people else out,
        out / "test" if has_test_people else out,
        Protocol.SELF_UNSEEN if has_test_people else Protocol.SELF,
        tmp_path,
    )
    assert {row["method"] for row in metrics["rows"]} == {"model", "copy-source"}


def test_a_sample_of_celebv_is_prepared_trained_on_and_evaluated(tmp_path: Path) -> None:
    report = prepare(celebv(tmp_path), tmp_path / "out", size_px=64)
    assert report.layout is Layout.CELEBV and report.rejected == []
    assert [shard.num_frames for shard in open_dataset(tmp_path / "out")] == [6, 6, 6, 6]
    metrics = _train_and_evaluate(tmp_path / "out", tmp_path / "out", Protocol.SELF_ANY, tmp_path)
    everybody = next(row for row in metrics["rows"] if row["identity"] == "all" and row["method"] == "copy-source")
    assert everybody["faces"]["num_pairs"] == 4 * 2


def _train_and_evaluate(
    train: Path, test: Path, protocol: Protocol, tmp_path: Path
) -> dict[str, list[dict[str, object]]]:
    """One federated round of a minimal network, and two pairs a person."""
    num_clients = len(open_dataset(train))
    settings = minimal_settings(train, tmp_path / "run", num_clients, max_rounds=1, without_consent="synthetic")
    run_federation(simulated_grid(settings), settings)
    resolve("sface")
    request = EvaluationRequest(
        checkpoint=tmp_path / "run",
        dataset=test,
        out=tmp_path / "results",
        protocols=(protocol,),
        num_pairs=2,
        seed=0,
        pairs=None,
        landmarks=Guidance.AUTO,
    )
    run_evaluation(request, device=torch.device("cpu"), progress=no_progress)
    metrics: dict[str, list[dict[str, object]]] = json.loads((tmp_path / "results" / "metrics.json").read_text())
    return metrics
