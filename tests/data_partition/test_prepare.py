"""Promises of data_partition.prepare, kept on drawn people with the real annotator."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from data_partition.images import read_image, write_image
from data_partition.prepare import PrepareReport, prepare
from data_partition.shard import Shard, open_dataset
from model.errors import DataError
from tests.data_partition.conftest import write_video


@dataclass
class Prepared:
    """A source folder and what was made of it."""

    src: Path
    out: Path
    report: PrepareReport
    progress: list[tuple[int, int, str]]


def _write_frames(folder: Path, shard: Shard, rows: range) -> None:
    folder.mkdir(parents=True)
    for row in rows:
        write_image(folder / f"{row:03d}.jpg", shard.read_frame(row))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, face_landmarker: Path, drawn_people: list[Shard]) -> Prepared:
    """Anna as one video; Ben as two folders of frames, one picture of them truncated; and a left-over."""
    src = tmp_path_factory.mktemp("src")
    anna, ben = drawn_people
    write_video(src / "anna.mp4", [anna.read_frame(row) for row in range(10)])
    _write_frames(src / "ben" / "first", ben, range(8))
    _write_frames(src / "ben" / "second", ben, range(8, 16))
    broken = src / "ben" / "second" / "010.jpg"
    broken.write_bytes(broken.read_bytes()[:-200])
    (src / "notes.txt").write_text("hello")
    out = tmp_path_factory.mktemp("out")
    (out / "anna.partial" / "frames").mkdir(parents=True)  # a run was killed while it wrote anna
    progress: list[tuple[int, int, str]] = []
    report = prepare(
        src,
        out,
        size_px=96,
        num_workers=2,
        progress=lambda *step: progress.append(step),
        consent="folder 12",
    )
    return Prepared(src, out, report, progress)


def test_each_person_becomes_one_shard(prepared: Prepared) -> None:
    anna, ben = open_dataset(prepared.out)
    assert (anna.identity, ben.identity) == ("anna", "ben")
    assert anna.size_px == 96 and anna.info["consent"] == "folder 12"
    assert set(anna.clip) == {"anna.mp4"} and set(ben.clip) == {"first", "second"}
    assert anna.num_frames >= 9 and ben.num_frames >= 14
    assert all(shard.read_frame(row).shape == (96, 96, 3) for shard in (anna, ben) for row in range(9))


def test_kept_frames_and_problems_are_reported(prepared: Prepared) -> None:
    anna, ben = prepared.report.identities
    assert (anna.num_frames, ben.num_frames) == (10, 15)
    assert ben.num_kept == open_dataset(prepared.out)[1].num_frames
    assert len(ben.problems) == 1 and "010.jpg: truncated picture" in ben.problems[0]
    text = "\n".join(prepared.report.to_lines())
    assert "anna: kept" in text and "notes.txt: ignored" in text and "problem: " in text


def test_landmarks_lie_inside_of_the_crops(prepared: Prepared) -> None:
    for shard in open_dataset(prepared.out):
        assert np.mean((shard.landmarks_FKC > -1) & (shard.landmarks_FKC < 96)) > 0.99


def test_progress_rises_to_the_end(prepared: Prepared) -> None:
    done = [step[0] for step in prepared.progress]
    assert done == sorted(done) and done[-1] >= 2 * (10 + 15)
    assert all(step[0] <= step[1] for step in prepared.progress)
    assert {step[2] for step in prepared.progress} == {"anna", "ben"}


def test_the_contact_sheet_shows_every_person(prepared: Prepared) -> None:
    sheet = read_image(prepared.report.contact_sheet)
    assert sheet.shape[0] == 2 * (96 + 22)


def test_nothing_unfinished_is_left_behind(prepared: Prepared) -> None:
    assert sorted(path.name for path in prepared.out.iterdir()) == ["anna", "ben", "contact-sheet.jpg"]


def test_a_second_run_keeps_finished_shards(prepared: Prepared) -> None:
    before = (prepared.out / "anna" / "metadata.parquet").stat().st_mtime_ns
    report = prepare(prepared.src, prepared.out, size_px=96)
    assert [one.was_done for one in report.identities] == [True, True]
    assert (prepared.out / "anna" / "metadata.parquet").stat().st_mtime_ns == before
    assert "done before" in report.to_lines()[0]


def test_consent_can_be_noted_later(prepared: Prepared, tmp_path: Path) -> None:
    shutil.copytree(prepared.out, tmp_path / "out")
    report = prepare(prepared.src, tmp_path / "out", size_px=96, consent="folder 13")
    assert all(one.was_done for one in report.identities)
    assert {shard.info["consent"] for shard in open_dataset(tmp_path / "out")} == {"folder 13"}


def test_only_a_changed_source_is_prepared_again_and_finished_clips_are_reused(
    prepared: Prepared, tmp_path: Path
) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    shutil.copytree(prepared.src, src)
    shutil.copytree(prepared.out, out)
    shutil.rmtree(src / "ben" / "second")
    # ben's first clip was finished by a run that was killed before it came to the end
    part = out / "ben.parts" / "first"
    shutil.copytree(out / "ben", part)
    info = json.loads((part / "shard.json").read_text())
    info["sources"] = [source for source in info["sources"] if source["name"] == "first"]
    (part / "shard.json").write_text(json.dumps(info))
    report = prepare(src, out, size_px=96, num_workers=1)
    assert [one.was_done for one in report.identities] == [True, False]
    assert [source["name"] for source in open_dataset(out)[1].info["sources"]] == ["first"]
    assert not (out / "ben.parts").exists()


@pytest.mark.integration
def test_a_run_killed_in_the_middle_leaves_no_process_and_the_next_one_completes(
    prepared: Prepared, tmp_path: Path
) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    (src / "ben").mkdir(parents=True)
    for copy in range(30):  # 240 pictures: several seconds of work
        for picture in (prepared.src / "ben" / "first").iterdir():
            shutil.copy(picture, src / "ben" / f"{copy:02d}-{picture.name}")
    lines = (
        "from pathlib import Path",
        "from data_partition.prepare import prepare",
        "if __name__ == '__main__':",
        f"    prepare(Path({str(src)!r}), Path({str(out)!r}), size_px=64)",
    )
    (tmp_path / "run.py").write_text("\n".join(lines))
    root = Path(__file__).resolve().parents[2]
    run = subprocess.Popen([sys.executable, str(tmp_path / "run.py")], env=os.environ | {"PYTHONPATH": str(root)})
    frames = out / "ben.parts" / "ben.partial" / "frames"
    _wait_until(lambda: frames.is_dir() and any(frames.iterdir()))
    run.kill()
    run.wait()
    time.sleep(1)
    num_written = len(list(frames.iterdir()))
    time.sleep(1)
    assert len(list(frames.iterdir())) == num_written < 240
    report = prepare(src, out, size_px=64)
    assert report.identities[0].num_kept == open_dataset(out)[0].num_frames >= 228
    assert sorted(path.name for path in out.iterdir()) == ["ben", "contact-sheet.jpg"]


def _wait_until(condition: Callable[[], bool], timeout_s: float = 300.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def test_people_without_a_usable_frame_are_named_after_the_others_are_finished(
    tmp_path: Path, face_landmarker: Path, drawn_people: list[Shard]
) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    _write_frames(src / "anna", drawn_people[0], range(6))
    (src / "ben").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (6, 96, 96, 3), dtype=np.uint8)
    write_video(src / "cat.mp4", list(noise))
    with pytest.raises(DataError) as caught:
        prepare(src, out, size_px=64, num_workers=1)
    message = str(caught.value)
    assert "ben: no video and no picture in this folder" in message
    assert "cat: no usable frame" in message and "no face found in any of 6 frames" in message
    assert "the other 1 are finished" in message
    assert [shard.identity for shard in open_dataset(out)] == ["anna"]


def test_an_empty_source_folder_is_refused(tmp_path: Path, face_landmarker: Path) -> None:
    (tmp_path / "src").mkdir()
    with pytest.raises(DataError, match="empty; wanted one video file or one folder"):
        prepare(tmp_path / "src", tmp_path / "out")
    assert not (tmp_path / "out").exists()
