"""Promises of data_partition.sources.celebv: ReenactGAN's layout with its traps, and its files of 98 points."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_partition.sources.celebv import STRETCH_FRAMES, WFLW_TO_68, file_name_of, read_names, read_points
from data_partition.sources.layouts import detect_layout, find_sources
from data_partition.sources.names import Layout
from data_partition.sources.video import Stretch
from model.errors import DataError
from tests.data_partition.conftest import write_picture


def points_line(name: str, scale: float = 1.0) -> str:
    """98 points (i, 2 i), as all_98pt.txt has them."""
    return " ".join(f"{scale * i:.3f} {2 * scale * i:.3f}" for i in range(98)) + f" {name}"


def test_98_points_become_68_by_their_places() -> None:
    """Against WFLW's own groups of points and iBUG-68's, written out by hand."""
    mapped = dict(enumerate(WFLW_TO_68))
    assert len(mapped) == 68 and len(set(mapped.values())) == 68
    assert [mapped[i] for i in (0, 8, 16)] == [0, 16, 32]  # ear, chin, ear
    assert [mapped[i] for i in (17, 21, 22, 26)] == [33, 37, 42, 46]  # ends of the brows' upper edges
    assert [mapped[i] for i in (27, 30, 31, 33, 35)] == [51, 54, 55, 57, 59]  # bridge, tip, nostrils
    assert [mapped[i] for i in (36, 39, 42, 45)] == [60, 64, 68, 72]  # corners of the eyes
    assert [mapped[i] for i in (37, 38, 40, 41)] == [61, 63, 65, 67]  # lids
    assert [mapped[i] for i in (43, 44, 46, 47)] == [69, 71, 73, 75]
    assert [mapped[i] for i in (48, 54, 60, 64)] == [76, 82, 88, 92]  # corners of the lips
    assert not {96, 97} & set(mapped.values())  # pupils


def test_lines_are_read_with_the_file_name_last(tmp_path: Path) -> None:
    path = tmp_path / "all_98pt.txt"
    path.write_text(points_line("P_MaYun_10903.jpg_0000008076.jpg") + "\r\n\n" + points_line("Image/b.jpg", 0.5))
    table = read_points(path)
    assert table.file_name == ("P_MaYun_10903.jpg_0000008076.jpg", "b.jpg") and table.rejected == ()
    assert table.landmarks_NKC[0, 8].tolist() == [16, 32] and table.landmarks_NKC[1, 67].tolist() == [47.5, 95]
    assert read_points(path, {"b.jpg"}).file_name == ("b.jpg",)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1 2 3 a.jpg", "4 fields, wanted 196 numbers and a file name"),
        (points_line("a.jpg").replace("5.000", "x", 1), "could not convert string to float: 'x', wanted 196 numbers"),
        (points_line("a.jpg").replace("5.000", "1_0", 1), "could not convert string to float: '1_0'"),
        (points_line("a.jpg").replace("5.000", "nan", 1), "a point is NaN or infinite"),
        (points_line("a.jpg").replace("5.000", "1e300", 1), "a point is NaN or infinite"),
        (points_line("7.5 a.jpg"), "more than 196 numbers before the file name"),
        (points_line("a.jpg", 0.0), "all points are in one place"),
        (points_line("GOOD.jpg"), "GOOD.jpg has a line before this one already"),
    ],
)
def test_unusable_lines_are_listed_with_number_and_reason(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "all_98pt.txt"
    path.write_text(points_line("good.jpg") + "\n" + line + "\n")
    table = read_points(path)
    (rejected,) = table.rejected
    assert table.file_name == ("good.jpg",)
    assert rejected.path == f"{path}:2" and reason in rejected.reason


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "all_98pt.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"all_98pt\.txt: cannot be read as text"):
        read_points(tmp_path / "all_98pt.txt")


def test_people_stretches_and_files_are_found(tmp_path: Path) -> None:
    for name in ("P_Trump_1.jpg_0000000001.jpg", "P_Trump_2.jpg_0000000002.JPG"):
        write_picture(tmp_path / "Donald_trump" / "image" / name)
    lines = [points_line("P_TRUMP_1.jpg_0000000001.jpg"), points_line("P_Trump_9.jpg_0000000009.jpg")]
    (tmp_path / "Donald_trump" / "All_98pt.txt").write_text("\n".join(lines))
    (tmp_path / "Donald_trump" / "test_98pt.txt").write_text(lines[0])
    images = tmp_path / "Kathleen" / "Image"
    images.mkdir(parents=True)
    for index in range(STRETCH_FRAMES + 1):
        (images / f"P_K_{index}.jpg_{index:010d}.jpg").touch()
    (tmp_path / "notes.txt").touch()
    layout, reason = detect_layout(tmp_path)
    assert (layout, reason) == (Layout.CELEBV, "Donald_trump has a folder image and All_98pt.txt")
    sources = find_sources(tmp_path, layout)
    (trump,) = sources.people[""]["Donald_Trump"]
    assert [path.name for path in trump.annotations] == ["All_98pt.txt"]
    assert trump.test_list is not None and read_names(trump.test_list) == {"p_trump_1.jpg_0000000001.jpg"}
    assert [clip.stretch for clip in sources.people[""]["Kathleen"]] == [Stretch(0, 1000), Stretch(1000, 1001)]
    assert [clip.part_name for clip in sources.people[""]["Kathleen"]] == ["Image-000000", "Image-001000"]
    reasons = [one.reason for _, one in sources.rejected]
    assert "1 lines without a picture in image, p_trump_9.jpg_0000000009.jpg among them" in reasons
    assert "ignored, no person's folder with a folder Image in it" in reasons


def test_a_person_in_two_spellings_is_refused(tmp_path: Path) -> None:
    for person in ("Donald_trump", "Donald_Trump"):
        write_picture(tmp_path / person / "Image" / "a.jpg_1.jpg")
    with pytest.raises(DataError, match="Donald_Trump is there twice"):
        find_sources(tmp_path, Layout.CELEBV)


numbers = st.floats(-1e5, 1e5).map(lambda value: f"{value:.4f}")
junk = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12)


@given(st.lists(st.one_of(numbers, junk), max_size=400), st.sampled_from(["", "a.jpg", "b c.jpg"]))
def test_any_line_gives_the_numbers_in_it_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, tokens: list[str], name: str
) -> None:
    line = " ".join([*tokens, name])
    path = tmp_path_factory.getbasetemp() / "fuzzed_98pt.txt"
    path.write_text(line, encoding="utf-8")
    table = read_points(path)
    assert len(table.file_name) + len(table.rejected) == bool(line.strip())
    if table.file_name:
        values = [float(token) for token in line.split()[:196]]
        expected = np.array(values, np.float32).reshape(98, 2)[list(WFLW_TO_68)]
        np.testing.assert_array_equal(table.landmarks_NKC[0], expected)
        assert table.file_name[0] == file_name_of(line) != ""


@given(st.binary(max_size=200))
def test_any_bytes_give_a_table_or_one_clear_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes_98pt.txt"
    path.write_bytes(data)
    try:
        assert not read_points(path).file_name
    except DataError as error:
        assert str(path) in str(error)
