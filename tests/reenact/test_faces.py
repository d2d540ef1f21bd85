"""Promises of reenact.faces: what drives a network is cut as what it was trained on."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from data_partition.faces import track
from data_partition.faces.face_table import FaceTable
from data_partition.preparation.prepare import prepare
from data_partition.shards.images import encode_image, write_image
from data_partition.shards.shard import open_shard
from data_partition.sources.video import read_frames
from data_partition.synth.dataset import synthesize
from model.progress import no_progress
from reenact.clips.video_writer import VideoWriter
from reenact.faces import annotate_clip

SIZE_PX = 64
NUM_FRAMES = 24


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An invented person who travels through the picture, is away for a moment, and is elsewhere after a film cut."""
    folder = tmp_path_factory.mktemp("drawn")
    shard = open_shard(synthesize(folder / "heads", num_identities=1, num_frames=NUM_FRAMES, size_px=128)[0])
    path = folder / "videos" / "anna.mp4"
    with VideoWriter(path, frame_rate_hz=Fraction(25)) as writer:
        for number in range(NUM_FRAMES):
            picture = np.full((200, 400, 3), 90, np.uint8)
            left = 4 * number if number < NUM_FRAMES // 2 else 260
            if number != 5:
                picture[40:168, left : left + 128] = shard.read_frame(number)
            writer.add(picture)
    return path


@pytest.mark.integration
def test_one_video_gives_the_same_crops_and_landmarks_to_training_and_to_reenactment(
    video: Path, tmp_path: Path
) -> None:
    prepare(video.parent, tmp_path, size_px=SIZE_PX, num_workers=1)
    shard = open_shard(tmp_path / "anna")
    clip = annotate_clip(video, SIZE_PX, no_progress)
    faces = [face for _, face in clip.faces()]
    assert len(faces) == NUM_FRAMES and set(shard.clip) == {"anna.mp4-take1", "anna.mp4-take2"}
    assert shard.frame_index.tolist() == [index for index, face in enumerate(faces) if face is not None]
    found = [face for face in faces if face is not None]
    for row, face in enumerate(found):
        assert (shard.path / shard.file_name[row]).read_bytes() == encode_image(".jpg", face.image_HWC)
        np.testing.assert_array_equal(shard.landmarks_FKC[row], face.landmarks_KC)
        np.testing.assert_array_equal(shard.pose_FC[row], face.pose_C)
        np.testing.assert_array_equal(shard.au_presence_FA[row], face.au_presence_A)
    np.testing.assert_array_equal(clip.landmarks_NKC(), shard.landmarks_FKC)
    assert [str(gap) for gap in clip.gaps] == ["frame 5: no face, bridged"]
    assert sum(face is None for _, face in clip.steadied().faces()) == 0


@pytest.mark.integration
def test_the_reference_is_the_frame_most_like_the_source_in_pose_and_expression(video: Path) -> None:
    clip = annotate_clip(video, SIZE_PX, no_progress)
    faces = {index: face for index, (_, face) in enumerate(clip.faces()) if face is not None}
    for index in (3, 17):
        assert clip.most_like([faces[index]]) == (0, index)
        np.testing.assert_array_equal(clip.reference_at(index).landmarks_KC, faces[index].landmarks_KC)
    rows = clip.tracked.faces.rows.copy()
    frame_index_N = rows["frame_index"].copy()
    rows[:] = rows[frame_index_N == 3]
    rows["frame_index"], rows["au_intensity_A"] = frame_index_N, frame_index_N[:, None] / 10
    alike = replace(clip, tracked=replace(clip.tracked, faces=FaceTable(rows)))
    frowning = replace(faces[3], au_intensity_A=np.full(18, 0.9, np.float32))
    assert alike.most_like([frowning]) == (0, 9)
    assert alike.most_like([replace(faces[3], pose_C=faces[3].pose_C + 9), frowning, faces[17]]) == (1, 9)


@pytest.mark.integration
def test_of_a_long_clip_of_a_person_some_frames_are_looked_at_and_all_if_these_show_no_face(video: Path) -> None:
    some = annotate_clip(video, SIZE_PX, no_progress, most_frames=8)  # of 24, every third
    assert [index for index, (_, face) in enumerate(some.faces()) if face is not None] == list(range(0, NUM_FRAMES, 3))
    assert (some.num_frames, len(list(some.sources()))) == (NUM_FRAMES, 8)
    hidden = video.with_name("hidden.mp4")
    picture = next(iter(read_frames(video, lambda _: None))).image_HWC
    with VideoWriter(hidden, frame_rate_hz=Fraction(25)) as writer:
        for number in range(10):
            writer.add(picture if number in (4, 5) else np.full_like(picture, 90))
    clip = annotate_clip(hidden, SIZE_PX, no_progress, most_frames=2)
    assert {index for index, (_, face) in enumerate(clip.faces()) if face is not None} - {4} == {5}


@pytest.mark.integration
def test_a_person_is_drawn_from_frames_of_the_one_whom_most_of_a_clip_shows(
    video: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clip = annotate_clip(video, SIZE_PX, no_progress)
    takes = clip.tracked.faces.rows["take"].tolist()
    first, second = sorted(set(takes))
    assert takes.count(second) > takes.count(first) > 0
    main, other = np.eye(128, dtype=np.float32)[:2]
    of_two = replace(clip, tracked=replace(clip.tracked, people={first: other, second: main}))
    left = of_two.of_one_person()
    assert set(left.tracked.faces.rows["take"]) == {second}
    assert len(list(left.sources())) == takes.count(second)
    said = f"{takes.count(first)} of {len(takes)} frames show somebody else than most do"
    assert said in caplog.text
    of_one = replace(clip, tracked=replace(clip.tracked, people={first: main, second: main}))
    assert of_one.of_one_person() is of_one
    unknown = replace(clip, tracked=replace(clip.tracked, people={second: main}))
    assert set(unknown.of_one_person().tracked.faces.rows["take"]) == {second}
    nobody_known = replace(clip, tracked=replace(clip.tracked, people={}))
    assert nobody_known.of_one_person() is nobody_known


class CornerRecogniser:
    """People are told apart by the corner of their pictures."""

    def embed(self, image_HWC: np.ndarray, landmarks_KC: np.ndarray) -> np.ndarray:
        """One-hot."""
        return np.eye(128, dtype=np.float32)[int(image_HWC[4, -4, 0] > 128)]


@pytest.mark.integration
def test_of_a_long_clip_one_frame_of_somebody_else_in_the_same_place_is_not_drawn_from(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(track, "open_recogniser", CornerRecogniser)
    path = tmp_path / "interview.mp4"
    with VideoWriter(path, frame_rate_hz=Fraction(25)) as writer:
        for frame in read_frames(video, lambda _: None):
            frame.image_HWC[:16, -16:] = 255 if frame.index == 9 else 0
            writer.add(frame.image_HWC)
    clip = annotate_clip(path, SIZE_PX, no_progress, most_frames=8)  # every third
    assert clip.of_one_person().tracked.faces.rows["frame_index"].tolist() == [0, 3, 6, 12, 15, 18, 21]
    assert "1 of 8 frames show somebody else than most do" in caplog.text


@pytest.mark.integration
def test_photos_are_drawn_from_each_by_itself_as_prepare_takes_them_and_drive_as_a_clip(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track, "open_recogniser", CornerRecogniser)
    frame = next(iter(read_frames(video, lambda _: None)))
    for number in range(6):
        picture = np.pad(frame.image_HWC, ((0, 0), (0, 16 * number), (0, 0)), "edge")
        picture[:16, -16:] = 255 if number == 2 else 0
        write_image(tmp_path / f"{number}.png", picture)
    told: list[tuple[int, int]] = []
    clip = annotate_clip(tmp_path, SIZE_PX, lambda _, *numbers: told.append(numbers), most_frames=600)
    assert clip.tracked.source.is_apart and told == [(min(number, 6), 6) for number in range(1, 13)]
    assert clip.of_one_person().tracked.faces.rows["frame_index"].tolist() == [0, 1, 3, 4, 5]
    assert not annotate_clip(tmp_path, SIZE_PX, no_progress).tracked.source.is_apart
