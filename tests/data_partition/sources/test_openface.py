import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_partition.sources.openface import read_openface
from model.batch import AU_ORDER
from model.errors import DataError
from tests.support.samples import openface_1, openface_2


def write(path: Path, header: str, *rows: str, ending: str = "\n") -> Path:
    path.write_text(ending.join([header, *rows]) + ending, newline="")
    return path


def raw(path: Path, line: int, column: str) -> float:
    """A value by counting commas in the raw text."""
    lines = path.read_text().splitlines()
    names = [name.strip() for name in lines[0].split(",")]
    return float(lines[line - 1].split(",")[names.index(column)])


def test_windows_file_with_stuck_frames_and_a_truncated_last_row(tmp_path: Path) -> None:
    path = openface_2(tmp_path)
    table = read_openface(path)
    assert len(table) == 474
    assert [(row.line, row.reason) for row in table.rejected] == [(476, "196 fields, the header has 714")]
    assert table.frame_index_N.tolist() == list(range(474))  # all 0 in the file
    assert table.timestamp_s_N[300] == raw(path, 302, "timestamp")
    assert table.pose_NC[100, 1] == pytest.approx(np.degrees(raw(path, 102, "pose_Ry")), abs=1e-4)
    assert table.landmarks_NKC[10, 67].tolist() == pytest.approx([raw(path, 12, "x_67"), raw(path, 12, "y_67")])
    assert table.au_presence_NA[200, AU_ORDER.index(28)] == raw(path, 202, "AU28_c")
    assert table.au_intensity_NA[473, AU_ORDER.index(12)] == pytest.approx(raw(path, 475, "AU12_r"))
    assert np.isnan(table.au_intensity_NA[:, AU_ORDER.index(28)]).all()


def test_file_of_openface_1_without_face_ids(tmp_path: Path) -> None:
    path = openface_1(tmp_path)
    table = read_openface(path)
    assert (len(table), table.rejected) == (100, ())
    assert not table.face_id_N.any()
    assert table.frame_index_N[[0, 99]].tolist() == [0, 99]
    assert table.confidence_N[0] == raw(path, 2, "confidence")
    assert table.pose_NC[50].tolist() == pytest.approx(
        [np.degrees(raw(path, 52, name)) for name in ("pose_Rx", "pose_Ry", "pose_Rz")], abs=1e-4
    )
    assert table.landmarks_NKC[99, 30, 0] == pytest.approx(raw(path, 101, "x_30"))
    assert table.au_presence_NA[7, AU_ORDER.index(4)] == raw(path, 9, "AU04_c")
    assert table.au_intensity_NA[7, AU_ORDER.index(45)] == pytest.approx(raw(path, 9, "AU45_r"))


@pytest.mark.parametrize("separator", [",", ", "])
def test_linux_and_windows_separators_and_several_faces_of_a_frame(tmp_path: Path, separator: str) -> None:
    names = ("frame", "face_id", "timestamp", "confidence", "success", "pose_Rx", "pose_Ry", "pose_Rz", "AU12_c")
    rows = (
        ("1", "0", "0.0", "0.9", "1", "0.1", "0.2", "0.3", "1.00"),
        ("1", "1", "0.0", "0.8", "1", "0", "0", "0", "0"),
    )
    path = write(tmp_path / "a.csv", separator.join(names), *map(separator.join, rows), ending="\r\n")
    table = read_openface(path)
    assert table.frame_index_N.tolist() == [0, 0]
    assert table.face_id_N.tolist() == [0, 1]
    np.testing.assert_allclose(table.pose_NC[0], np.degrees([0.1, 0.2, 0.3]), rtol=1e-5)
    assert table.au_presence_NA[:, AU_ORDER.index(12)].tolist() == [1, 0]
    assert np.isnan(table.landmarks_NKC).all() and np.isnan(table.au_presence_NA[:, AU_ORDER.index(1)]).all()


def test_unusable_rows_are_listed_with_line_and_reason(tmp_path: Path) -> None:
    rows = ("1,0.0,0.9,1,1", "2,0.1,0.0,0,1", "3,0.2,0.9,1,x", "4,0.3,nan,1,1", "5,0.4,0.9,1,0")
    table = read_openface(write(tmp_path / "a.csv", "frame,timestamp,confidence,success,AU01_c", *rows))
    assert table.frame_index_N.tolist() == [0, 4]
    assert [(row.line, row.reason) for row in table.rejected] == [
        (3, "no face found (success is 0)"),
        (4, "AU01_c is 'x', wanted a number"),
        (5, "confidence is nan, wanted 0 to 1"),
    ]


def test_still_pictures_have_faces_in_place_of_frames(tmp_path: Path) -> None:
    table = read_openface(write(tmp_path / "a.csv", "face, confidence, pose_Rx", "0, 0.9, 0.1", "1, 0.8, 0.2"))
    assert (table.face_id_N.tolist(), table.frame_index_N.tolist()) == ([0, 1], [0, 0])


def test_openface_3_and_other_files_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"OpenFace 3 .* other units under the same names"):
        read_openface(write(tmp_path / "a.csv", "frame,AU01_r,AU02_r", "1,0.5,0.5"))
    with pytest.raises(DataError, match="wanted a CSV file of OpenFace 2"):
        read_openface(write(tmp_path / "b.csv", "name,age", "ana,3"))
    with pytest.raises(DataError, match=r"nowhere\.csv: cannot be read"):
        read_openface(tmp_path / "nowhere.csv")


def test_frames_keep_their_numbers_where_rows_before_them_are_unusable(tmp_path: Path) -> None:
    header = "frame,timestamp,confidence,success,AU01_c"
    counted = write(tmp_path / "a.csv", header, "0,0.0,0.0,0,0", "1,0.1,0.9,1,1", "2,0.2,0.9,1,0")
    assert read_openface(counted).frame_index_N.tolist() == [1, 2]  # the file counts from 0: its first row says so
    stuck = write(tmp_path / "b.csv", header, "0,0.0,0.0,0,0", "0,0.1,0.9,1,1", "0,0.2,0.9", "0,0.3,0.9,1,0")
    assert read_openface(stuck).frame_index_N.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1.5,0,0.9,1,0,1,2", "frame is 1.5, wanted a whole number"),
        ("1e300,0,0.9,1,0,1,2", "frame is 1e300, wanted 0 to 9.0072e+15"),
        ("1,-1,0.9,1,0,1,2", "timestamp is -1, wanted 0 to 1e+09"),
        ("1,0,98,1,0,1,2", "confidence is 98, wanted 0 to 1"),
        ("1,0,0.9,1,20.5,1,2", "pose_Ry is 20.5, wanted -6.28319 to 6.28319, radians"),
        ("1,0,0.9,1,0,0.5,2", "AU12_c is 0.5, wanted a whole number"),
        ("1,0,0.9,1,0,1,7", "AU12_r is 7, wanted 0 to 5"),
        ("1,0,0.9,1,0,1,1_0", "AU12_r is '1_0', wanted a number"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(tmp_path: Path, row: str, reason: str) -> None:
    table = read_openface(write(tmp_path / "a.csv", "frame,timestamp,confidence,success,pose_Ry,AU12_c,AU12_r", row))
    assert [one.reason for one in table.rejected] == [reason] and not len(table)


FIELDS = {"frame": 5.0, "timestamp": 0.5, "confidence": 0.75, "success": 1.0, "pose_Ry": 0.25, "AU12_c": 1.0}
one_line = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=5)
field = st.one_of(
    st.floats(allow_nan=True).map(str), st.integers().map(str), one_line, st.sampled_from(["", "1.00", " 0"])
)


@given(st.permutations(list(FIELDS)), st.lists(st.dictionaries(st.sampled_from(list(FIELDS)), field), max_size=5))
def test_any_row_gives_the_numbers_in_it_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], changes: list[dict[str, str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.csv"
    rows = [{name: str(value) for name, value in FIELDS.items()} | change for change in changes]
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([row[name] for name in names] for row in rows)
    table = read_openface(path)
    assert len(table) + len(table.rejected) == len(rows)
    bad = {one.line for one in table.rejected}
    kept = [row for line, row in enumerate(rows, start=2) if line not in bad]
    np.testing.assert_allclose(table.confidence_N, [float(row["confidence"]) for row in kept])
    np.testing.assert_allclose(
        table.pose_NC[:, 1], np.degrees([float(row["pose_Ry"]) for row in kept]), rtol=1e-5, atol=1e-30
    )
    assert table.au_presence_NA[:, AU_ORDER.index(12)].tolist() == [float(row["AU12_c"]) for row in kept]


@given(st.binary(max_size=300))
def test_any_bytes_give_a_table_or_one_clear_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.csv"
    path.write_bytes(b"frame,confidence,pose_Rx\n" + data)
    try:
        read_openface(path)
    except DataError as error:
        assert str(path) in str(error)
