"""Promises of data_partition.preparation.clip, with an annotator that takes a bright square for a face."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_partition.faces import track
from data_partition.faces.annotate import FaceAnnotation
from data_partition.preparation.clip import ClipJob, prepare_clip
from data_partition.shards.images import write_image
from data_partition.shards.shard import open_shard
from data_partition.sources.names import Layout
from data_partition.sources.records import ClipSource
from data_partition.sources.rejected import Rejected
from data_partition.sources.video import VideoFrame
from tests.data_partition.conftest import write_video

SQUARE_PX = 40


class SquareAnnotator:
    """Landmarks on the outline of a bright square; no face where the picture is dark."""

    def __init__(self) -> None:
        self.timestamps_s: list[float] = []

    def __enter__(self) -> "SquareAnnotator":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def problems(self) -> list[Rejected]:
        """None."""
        return []

    def annotate(self, frame: VideoFrame) -> FaceAnnotation | None:
        """Annotate one picture."""
        self.timestamps_s.append(frame.timestamp_s)
        rows, columns = np.nonzero(frame.image_HWC[..., 0] > 127)
        if not rows.size:
            return None
        x = np.linspace(columns.min(), columns.max(), 68)
        y = np.linspace(rows.min(), rows.max(), 68)
        return FaceAnnotation(
            landmarks_KC=np.stack([x, y], axis=-1).astype(np.float32),
            pose_C=np.array([1, 2, 3], np.float32),
            au_presence_A=np.zeros(18, np.float32),
            au_intensity_A=np.full(18, np.nan, np.float32),
            confidence=1.0,
        )


def _picture(x: int | None, y: int = 100, shape: tuple[int, int] = (240, 320)) -> np.ndarray:
    image = np.zeros((*shape, 3), np.uint8)
    if x is not None:
        image[y : y + SQUARE_PX, x : x + SQUARE_PX] = 255
    return image


def _job(tmp_path: Path, pictures: list[np.ndarray], layout: Layout = Layout.FRAMES) -> ClipJob:
    folder = tmp_path / "clip"
    folder.mkdir()
    for index, picture in enumerate(pictures):
        write_image(folder / f"{index:04d}.png", picture)
    source = ClipSource(path=folder, layout=layout)
    return ClipJob(source=source, identity="anna", sha256="ab", part_dir=tmp_path / "parts", size_px=64)


def test_frames_without_a_face_are_dropped_and_counted(tmp_path: Path) -> None:
    job = _job(tmp_path, [_picture(100), _picture(None), *[_picture(102)] * 8])
    ticks: list[None] = []
    summary = prepare_clip(job, SquareAnnotator(), lambda: ticks.append(None))
    part = open_shard(tmp_path / "parts" / "clip")
    assert (summary.num_frames, summary.num_kept, summary.num_without_face) == (10, 9, 1)
    assert part.frame_index.tolist() == [0, 2, 3, 4, 5, 6, 7, 8, 9]
    assert set(part.clip) == {"clip"} and summary.problems == []
    assert len(ticks) == 20


def test_landmarks_lie_on_the_face_of_the_crop(tmp_path: Path) -> None:
    prepare_clip(_job(tmp_path, [_picture(100 + 2 * i) for i in range(6)]), SquareAnnotator(), lambda: None)
    part = open_shard(tmp_path / "parts" / "clip")
    for row in range(part.num_frames):
        rows, columns = np.nonzero(part.read_frame(row)[..., 0] > 127)
        centre = [(columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2]
        np.testing.assert_allclose(part.landmarks_FKC[row].mean(axis=0), centre, atol=0.8)


def test_a_still_head_gets_a_still_background(tmp_path: Path) -> None:
    pictures = [_picture(100 + i % 3) for i in range(12)]
    for picture in pictures:
        picture[60:64, 80:200] = 90  # something in the background
    prepare_clip(_job(tmp_path, pictures), SquareAnnotator(), lambda: None)
    part = open_shard(tmp_path / "parts" / "clip")
    backgrounds = {part.read_frame(row)[:12, 40:].tobytes() for row in range(part.num_frames)}
    assert len(backgrounds) == 1


def test_takes_get_their_own_names_and_short_ones_are_dropped(tmp_path: Path) -> None:
    pictures = [_picture(40)] * 6 + [_picture(200)] * 3 + [_picture(60)] * 7
    summary = prepare_clip(_job(tmp_path, pictures), SquareAnnotator(), lambda: None)
    part = open_shard(tmp_path / "parts" / "clip")
    names, counts = np.unique(part.clip, return_counts=True)
    assert dict(zip(names, counts, strict=True)) == {"clip-take1": 6, "clip-take3": 7}
    assert (summary.num_kept, summary.num_in_short_takes) == (13, 3)


def test_pictures_of_different_sizes_are_cropped_each_by_its_own(tmp_path: Path) -> None:
    pictures = [_picture(40)] * 5 + [_picture(40, 20, (100, 100))] * 5
    summary = prepare_clip(_job(tmp_path, pictures), SquareAnnotator(), lambda: None)
    assert summary.num_kept == 10


def test_a_clip_without_a_face_is_a_problem_and_writes_nothing(tmp_path: Path) -> None:
    summary = prepare_clip(_job(tmp_path, [_picture(None)] * 7), SquareAnnotator(), lambda: None)
    assert summary.num_kept == 0 and not (tmp_path / "parts").exists()
    assert len(summary.problems) == 1 and summary.problems[0].reason == "no face found in any of 7 frames"


def test_a_clip_that_cannot_be_opened_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("no video")
    source = ClipSource(path=path)
    job = ClipJob(source=source, identity="anna", sha256="ab", part_dir=tmp_path / "parts", size_px=64)
    summary = prepare_clip(job, SquareAnnotator(), lambda: None)
    (problem,) = summary.problems
    assert summary.num_kept == 0 and problem.path == str(path) and "cannot be opened as a video" in problem.reason


def test_the_annotator_gets_the_frames_in_time(tmp_path: Path) -> None:
    annotator = SquareAnnotator()
    prepare_clip(_job(tmp_path, [_picture(40)] * 5), annotator, lambda: None)
    assert annotator.timestamps_s == [0, 0.04, 0.08, 0.12, 0.16]


def test_the_summary_travels_with_the_part(tmp_path: Path) -> None:
    prepare_clip(_job(tmp_path, [_picture(40)] * 5), SquareAnnotator(), lambda: None)
    (source,) = open_shard(tmp_path / "parts" / "clip").info["sources"]
    assert source["sha256"] == "ab" and source["num_kept"] == source["num_frames"] == 5


@pytest.mark.parametrize("is_video", [False, True])
def test_a_clip_that_is_too_short_says_so(tmp_path: Path, is_video: bool) -> None:
    """One picture has no partner, and four frames of a video are no photos."""
    job = _job(tmp_path, [_picture(40)])
    if is_video:
        job = replace(job, source=ClipSource(path=write_video(tmp_path / "a.mp4", [_picture(40)] * 4)))
    summary = prepare_clip(job, SquareAnnotator(), lambda: None)
    assert summary.num_kept == 0 and "never stays in place for 5 frames" in summary.problems[0].reason


def test_pictures_that_are_crops_already_are_used_whole(tmp_path: Path) -> None:
    pictures = [_picture(20 + 30 * (i % 4), 40, (200, 200)) for i in range(4)]  # unrelated: the face jumps
    summary = prepare_clip(_job(tmp_path, pictures, Layout.CELEBV), SquareAnnotator(), lambda: None)
    part = open_shard(tmp_path / "parts" / "clip")
    assert summary.num_kept == 4 and set(part.clip) == {"clip"}
    left = (20 + 0.5) * 64 / 200 - 0.5  # of the square in the first picture, at 64 px
    np.testing.assert_allclose(part.landmarks_FKC[0].min(axis=0)[0], left, atol=1e-4)
    assert list(part.timestamp_s) == [0, 1, 2, 3], "of no movement, and each of a second of its own"


class SizeRecogniser:
    """People are told apart by the height of their pictures."""

    def embed(self, image_HWC: np.ndarray, landmarks_KC: np.ndarray) -> np.ndarray:
        """One-hot."""
        return np.eye(128, dtype=np.float32)[len(image_HWC) % 128]


def test_a_photo_of_another_person_is_a_take_of_its_own_with_the_name_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track, "open_recogniser", SizeRecogniser)
    job = _job(tmp_path, [_picture(20 * x, shape=(200 if x == 2 else 240, 320)) for x in range(6)])
    summary = prepare_clip(replace(job, source=replace(job.source, is_apart=True)), SquareAnnotator(), lambda: None)
    assert (
        summary.num_by_take == {"clip": 5, "clip/0002.png": 1} and summary.people.keys() == summary.num_by_take.keys()
    )
    assert float(np.dot(*summary.people.values())) < 0.1


def test_a_clip_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    job = _job(tmp_path, [_picture(40)] * 6)
    folder = job.source.path.rename(tmp_path / "a\\b")
    summary = prepare_clip(replace(job, source=ClipSource(path=folder)), SquareAnnotator(), lambda: None)
    assert summary.num_kept == 0 and "rename the source" in summary.problems[-1].reason


def test_a_name_that_is_not_utf_8_is_written_with_escapes(tmp_path: Path) -> None:
    job = _job(tmp_path, [_picture(40)] * 6)
    folder = job.source.path.rename(tmp_path / os.fsdecode(b"\xe9t\xe9"))
    summary = prepare_clip(replace(job, source=ClipSource(path=folder)), SquareAnnotator(), lambda: None)
    assert summary.num_kept == 6 and set(open_shard(tmp_path / "parts" / "%25E9t%25E9").clip) == {"%E9t%E9"}
