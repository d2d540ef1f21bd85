from pathlib import Path

import numpy as np
import pytest

from data_partition.openface import read_openface
from model.batch import AU_ORDER
from model.errors import DataError

SAMPLES = Path(__file__).parents[3] / "shared" / "openface-samples"


def write(path: Path, header: str, *rows: str, ending: str = "\n") -> Path:
    path.write_text(ending.join([header, *rows]) + ending, newline="")
    return path


def sample(name: str) -> Path:
    path = SAMPLES / name
    if not path.is_file():
        pytest.skip(f"no {name}")
    return path


def raw(path: Path, line: int, column: str) -> float:
    """A value by counting commas in the raw text."""
    lines = path.read_text().splitlines()
    names = [name.strip() for name in lines[0].split(",")]
    return float(lines[line - 1].split(",")[names.index(column)])


def test_windows_file_with_stuck_frames_and_a_truncated_last_row() -> None:
    path = sample("facsvatar_jt_raw.csv")
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


def test_file_of_openface_1_without_face_ids() -> None:
    path = sample("pyfeat_OpenFace_Test.csv")
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
        (5, "confidence is nan"),
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
