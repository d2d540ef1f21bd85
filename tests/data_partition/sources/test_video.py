"""Promises of data_partition.sources.video."""

import struct
from pathlib import Path

import numpy as np
import pytest

from data_partition.shards.images import write_image
from data_partition.sources.rejected import Rejected
from data_partition.sources.video import Stretch, about_frames, count_frames, is_clip, read_frames, source_sha256
from model.errors import DataError
from tests.data_partition.conftest import write_picture, write_video


def _grey(value: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def _ignore(problem: Rejected) -> None:
    pytest.fail(f"unexpected problem: {problem}")


def test_a_video_gives_all_frames_in_order_with_times(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [_grey(20 * i) for i in range(10)], rate_hz=20)
    frames = list(read_frames(path, _ignore))
    assert is_clip(path) and count_frames(path) == 10
    assert [frame.index for frame in frames] == list(range(10))
    np.testing.assert_allclose([frame.timestamp_s for frame in frames], np.arange(10) / 20, atol=1e-3)
    np.testing.assert_allclose([frame.image_HWC.mean() for frame in frames], np.arange(10) * 20, atol=4)


def test_a_container_that_does_not_announce_its_frames_has_them_by_its_length(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", [_grey(20 * i) for i in range(10)], rate_hz=20)
    assert (count_frames(path), about_frames(path)) == (0, 10)
    announced = write_video(tmp_path / "a.mp4", [_grey(0)] * 7)
    (tmp_path / "b.mkv").write_text("not a video at all")
    assert (about_frames(announced), about_frames(tmp_path / "b.mkv")) == (7, 0)


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        write_image(tmp_path / f"frame{number}.png", _grey(number))
    (tmp_path / "notes.txt").write_text("not a frame")
    frames = list(read_frames(tmp_path, _ignore))
    assert [int(frame.image_HWC[0, 0, 0]) for frame in frames] == [1, 2, 10]
    assert count_frames(tmp_path) == 3 and count_frames(tmp_path, Stretch(1, 3)) == 2
    assert [frame.timestamp_s for frame in frames] == [0, 0.04, 0.08]


def test_a_truncated_picture_is_reported_and_the_others_are_kept_in_place(tmp_path: Path) -> None:
    for number in range(3):
        write_image(tmp_path / f"{number}.jpg", _grey(number))
    broken = tmp_path / "1.jpg"
    broken.write_bytes(broken.read_bytes()[:-40])
    problems: list[Rejected] = []
    assert [frame.index for frame in read_frames(tmp_path, problems.append)] == [0, 2]
    assert len(problems) == 1 and problems[0].path.endswith("1.jpg") and "truncated picture" in problems[0].reason


def test_a_text_file_called_mp4_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("not a video at all")
    with pytest.raises(DataError, match=r"a\.mp4: cannot be opened as a video"):
        list(read_frames(path, _ignore))
    assert count_frames(path) == 0


def test_a_damaged_stretch_is_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(20)]
    path = write_video(tmp_path / "a.mp4", noise)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + len(data) // 3
    data[start : start + 3000] = bytes(3000)
    path.write_bytes(data)
    problems: list[Rejected] = []
    frames = list(read_frames(path, problems.append))
    assert 10 <= len(frames) <= 20
    assert len(problems) <= 1


def test_a_video_filmed_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    picture = _grey(0, 48, 64)
    picture[:, :32] = 255  # bright on the left: on top after a quarter turn clockwise
    path = write_video(tmp_path / "a.mp4", [picture] * 3)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # version 0: the matrix starts 40 bytes into the box's body
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    frame = next(iter(read_frames(path, _ignore))).image_HWC
    assert frame.shape == (64, 48, 3)
    assert frame[:24].mean() > 200 and frame[40:].mean() < 50


def test_the_hash_changes_with_a_frame_and_with_its_name(tmp_path: Path) -> None:
    write_image(tmp_path / "0.png", _grey(0))
    first = source_sha256(tmp_path)
    assert source_sha256(tmp_path) == first
    (tmp_path / "0.png").rename(tmp_path / "1.png")
    renamed = source_sha256(tmp_path)
    write_image(tmp_path / "1.png", _grey(1))
    assert len({first, renamed, source_sha256(tmp_path)}) == 3


def test_a_picture_that_cannot_be_read_does_not_take_its_folder_with_it(tmp_path: Path) -> None:
    for name in ("1.png", "3.png"):
        write_picture(tmp_path / name)
    alone = source_sha256(tmp_path)
    (tmp_path / "2.png").symlink_to("nowhere.png")
    digest = source_sha256(tmp_path)
    assert digest not in (alone, "") and source_sha256(tmp_path) == digest
    problems: list[Rejected] = []
    assert [frame.name for frame in read_frames(tmp_path, problems.append)] == ["1.png", "3.png"]
    assert [Path(one.path).name for one in problems] == ["2.png"]


def test_a_frame_that_nobody_wants_is_passed_without_its_picture(tmp_path: Path) -> None:
    frames = [np.full((48, 64, 3), 20 * number, np.uint8) for number in range(6)]
    video, folder = write_video(tmp_path / "a.mp4", frames), tmp_path / "a"
    for number, image_HWC in enumerate(frames):
        write_image(folder / f"{number}.png", image_HWC)
    for clip in (video, folder):
        all_of_them = list(read_frames(clip, pytest.fail, quarter_turns=1))
        some = list(read_frames(clip, pytest.fail, None, 1, lambda place, index: place == index and place % 2 == 0))
        assert [(one.index, one.timestamp_s, one.name) for one in some] == [
            (one.index, one.timestamp_s, one.name) for one in all_of_them
        ]
        for one, as_ever in zip(some, all_of_them, strict=True):
            if one.index % 2:
                assert one.image_HWC.shape == (0, 0, 3)
            else:
                np.testing.assert_array_equal(one.image_HWC, as_ever.image_HWC)


def test_a_picture_that_nobody_wants_is_not_opened_and_one_that_cannot_be_read_has_no_place(tmp_path: Path) -> None:
    for number in range(5):
        write_picture(tmp_path / f"{number}.png", number)
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(b"")
    problems: list[Rejected] = []
    frames = list(read_frames(tmp_path, problems.append, wanted=lambda place, _: place in (0, 2)))
    assert [(frame.name, frame.image_HWC.size > 0) for frame in frames] == [
        ("0.png", True),
        ("1.png", False),
        ("3.png", True),
        ("4.png", False),
    ]
    assert [Path(one.path).name for one in problems] == ["2.png"]
