"""Promises of data_partition.sources."""

from pathlib import Path

import numpy as np
import pytest

from data_partition.images import write_image
from data_partition.sources import find_sources
from model.errors import DataError


def _picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.zeros((8, 8, 3), np.uint8))


def test_every_layout_is_found(tmp_path: Path) -> None:
    (tmp_path / "anna.mp4").touch()
    _picture(tmp_path / "ben" / "0.jpg")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "two.MOV").touch()
    _picture(tmp_path / "cat" / "one.mp4" / "0.png")  # VoxCeleb writes folders with a video's name
    (tmp_path / ".hidden").mkdir()
    clips, ignored = find_sources(tmp_path)
    assert clips == {
        "anna": [tmp_path / "anna.mp4"],
        "ben": [tmp_path / "ben"],
        "cat": [tmp_path / "cat" / "one.mp4", tmp_path / "cat" / "two.MOV"],
    }
    assert ignored == []


def test_what_is_no_source_is_listed(tmp_path: Path) -> None:
    (tmp_path / "anna.mp4").touch()
    (tmp_path / "readme.txt").touch()
    _picture(tmp_path / "loose.jpg")
    (tmp_path / "ben").mkdir()
    (tmp_path / "ben" / "sound.wav").touch()
    clips, ignored = find_sources(tmp_path)
    assert clips["ben"] == []
    assert [Path(line.split(": ")[0]).name for line in ignored] == ["sound.wav", "loose.jpg", "readme.txt"]
    assert "put a person's pictures into a folder" in ignored[1]


def test_a_person_who_is_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "anna.mp4").touch()
    _picture(tmp_path / "anna" / "0.jpg")
    with pytest.raises(DataError, match="anna is there twice"):
        find_sources(tmp_path)


def test_an_empty_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty; wanted one video file"):
        find_sources(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        find_sources(tmp_path / "gone")
