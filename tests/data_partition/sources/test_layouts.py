"""Promises of data_partition.sources.layouts and sources: which layout a folder has, and who is in it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from data_partition.sources.layouts import LAYOUTS, detect_layout, find_sources
from data_partition.sources.names import Layout
from data_partition.sources.records import Sources
from model.errors import DataError
from tests.data_partition.conftest import write_picture


def clips_of(sources: Sources, subset: str = "") -> dict[str, list[Path]]:
    return {identity: [clip.path for clip in clips] for identity, clips in sources.people[subset].items()}


def left_out(sources: Sources) -> dict[str, str]:
    return {Path(one.path).name: one.reason for _, one in sources.rejected}


def test_every_layout_has_a_record_and_a_name_of_the_command_line() -> None:
    assert set(LAYOUTS) == set(Layout)
    result = CliRunner().invoke(app, ["prepare", "src", "out", "--layout", "none-of-these"])
    assert result.exit_code == 2 and all(f"'{name}'" in result.output for name in ("auto", *Layout))


def test_videos_and_frames_in_any_mix_are_found(tmp_path: Path) -> None:
    (tmp_path / "anna.mp4").touch()
    write_picture(tmp_path / "ben" / "0.jpg")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "two.MOV").touch()
    write_picture(tmp_path / "cat" / "one.mp4" / "0.png")
    (tmp_path / ".hidden").mkdir()
    assert detect_layout(tmp_path) == (Layout.VIDEOS, "videos of people")
    sources = find_sources(tmp_path, Layout.VIDEOS)
    assert clips_of(sources) == {
        "anna": [tmp_path / "anna.mp4"],
        "ben": [tmp_path / "ben"],
        "cat": [tmp_path / "cat" / "one.mp4", tmp_path / "cat" / "two.MOV"],
    }
    assert sources.rejected == []
    (tmp_path / "anna.mp4").unlink()
    (tmp_path / "cat" / "two.MOV").unlink()
    assert detect_layout(tmp_path) == (Layout.FRAMES, "folders of pictures")


def test_what_is_no_source_is_listed(tmp_path: Path) -> None:
    (tmp_path / "anna.mp4").touch()
    (tmp_path / "readme.txt").touch()
    write_picture(tmp_path / "loose.jpg")
    (tmp_path / "ben").mkdir()
    (tmp_path / "ben" / "sound.wav").touch()
    sources = find_sources(tmp_path, Layout.VIDEOS)
    assert sources.people[""]["ben"] == []
    assert left_out(sources).keys() == {"sound.wav", "loose.jpg", "readme.txt"}
    assert "put a person's pictures into a folder" in left_out(sources)["loose.jpg"]


def test_a_person_who_is_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "anna.mp4").touch()
    write_picture(tmp_path / "anna" / "0.jpg")
    with pytest.raises(DataError, match="anna is there twice"):
        find_sources(tmp_path, Layout.VIDEOS)


def test_an_empty_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nobody found by the layout videos; wanted a video, or a folder of videos"):
        find_sources(tmp_path, detect_layout(tmp_path)[0])
    with pytest.raises(DataError, match="no such folder"):
        detect_layout(tmp_path / "gone")


@pytest.mark.parametrize("layout", Layout)
def test_a_folder_of_another_layout_says_what_was_wanted(tmp_path: Path, layout: Layout) -> None:
    (tmp_path / "readme.txt").touch()
    with pytest.raises(DataError, match=rf"nobody found by the layout {layout}; wanted "):
        find_sources(tmp_path, layout)


def test_openface_files_are_found_beside_in_processed_and_inside(tmp_path: Path) -> None:
    (tmp_path / "anna.mp4").touch()
    (tmp_path / "anna.csv").touch()
    write_picture(tmp_path / "ben" / "talk" / "0.jpg")
    (tmp_path / "ben" / "processed").mkdir()
    (tmp_path / "ben" / "processed" / "talk.csv").touch()
    (tmp_path / "ben" / "processed" / "talk_of_details.txt").touch()
    for name in ("0.jpg", "1.jpg"):
        write_picture(tmp_path / "cat" / name)
        (tmp_path / "cat" / name).with_suffix(".csv").touch()
    (tmp_path / "dan.mp4").touch()
    (tmp_path / "other.csv").touch()
    assert detect_layout(tmp_path) == (Layout.OPENFACE, "anna.csv lies beside anna.mp4")
    sources = find_sources(tmp_path, Layout.OPENFACE)
    files = {
        identity: [[file.relative_to(tmp_path).as_posix() for file in clip.annotations] for clip in clips]
        for identity, clips in sources.people[""].items()
    }
    assert files == {
        "anna": [["anna.csv"]],
        "ben": [["ben/processed/talk.csv"]],
        "cat": [["cat/0.csv", "cat/1.csv"]],
        "dan": [],
    }
    assert left_out(sources).keys() == {"dan.mp4", "other.csv"}
    assert "run FeatureExtraction on it, or prepare it with --layout videos" in left_out(sources)["dan.mp4"]
