"""Promises of data_partition.shards.images."""

from pathlib import Path

import numpy as np
import pytest

from data_partition.shards.images import read_image, tabled, write_image
from model.errors import DataError


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth colour ramp whose channels differ."""
    ramp = np.linspace(0, 255, 48, dtype=np.uint8)
    return np.stack([np.tile(ramp, (48, 1)), np.tile(ramp, (48, 1)).T, np.full((48, 48), 200, np.uint8)], axis=-1)


def test_png_returns_exactly_what_was_written(tmp_path: Path, picture: np.ndarray) -> None:
    write_image(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)


def test_jpeg_keeps_the_order_of_the_channels(tmp_path: Path, picture: np.ndarray) -> None:
    write_image(tmp_path / "a.jpg", picture)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - picture).max() < 12


def test_nothing_but_the_picture_is_left_behind(tmp_path: Path, picture: np.ndarray) -> None:
    write_image(tmp_path / "a.jpg", picture)
    assert [file.name for file in tmp_path.iterdir()] == ["a.jpg"]


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_truncated_picture_is_named(tmp_path: Path, picture: np.ndarray, name: str) -> None:
    path = tmp_path / name
    write_image(path, picture)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=rf"{name}: truncated picture"):
        read_image(path)


def test_an_empty_file_is_a_truncated_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(DataError, match="truncated picture of 0 bytes"):
        read_image(tmp_path / "a.jpg")


def test_a_text_file_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("hello")
    with pytest.raises(DataError, match="not a picture"):
        read_image(tmp_path / "a.jpg")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jpg: cannot read"):
        read_image(tmp_path / "gone.jpg")


def test_pictures_of_any_size_are_put_in_rows_on_white() -> None:
    def plain(height: int, width: int, grey: int) -> np.ndarray:
        return np.full((height, width, 3), grey, np.uint8)

    table = tabled([[plain(1, 2, 10), plain(2, 1, 20)], [plain(1, 4, 30)]])
    assert table[..., 0].tolist() == [[10, 10, 20, 255], [255, 255, 20, 255], [30, 30, 30, 30]]


def test_a_picture_that_its_format_does_not_hold_is_an_error_and_no_empty_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a picture of 2 x 66000 pixels does not fit into \.jpg"):
        write_image(tmp_path / "a.jpg", np.zeros((66_000, 2, 3), np.uint8))
    assert not list(tmp_path.iterdir())
