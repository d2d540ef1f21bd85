"""Promises of data_partition.sources.voxceleb: first-order-model's layout with its traps, and vox-metadata.csv."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_partition.sources.layouts import detect_layout, find_sources
from data_partition.sources.names import Layout
from data_partition.sources.voxceleb import read_clip_table
from model.errors import DataError
from tests.data_partition.conftest import write_picture

HEADER = "video_id,start,end,bbox,fps,width,height,partition,person_id"


def test_people_for_training_and_testing_are_told_apart(tmp_path: Path) -> None:
    write_picture(tmp_path / "train" / "id10001#abc#000001#000100.mp4" / "0000000.png")  # a folder named as a video
    (tmp_path / "train" / "id10001#x#y#000200#000300.mp4").touch()  # a video's name may hold a #
    (tmp_path / "test" / "nested").mkdir(parents=True)
    (tmp_path / "test" / "id10270#def#00001.txt#000.mp4").touch()  # as crop_vox.py names it
    (tmp_path / "test" / "id10271#empty.mp4").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "id10001.consent.toml").touch()
    layout, reason = detect_layout(tmp_path)
    assert layout == Layout.VOXCELEB and "has a person before its first #" in reason
    sources = find_sources(tmp_path, layout)
    assert {
        subset: {who: len(clips) for who, clips in people.items()} for subset, people in sources.people.items()
    } == {
        "train": {"id10001": 2},
        "test": {"id10270": 1},
    }
    assert {clip.is_test for clip in sources.people["train"]["id10001"]} == {False}
    assert sources.people["test"]["id10270"][0].is_test is True
    assert {Path(one.path).name for _, one in sources.rejected} == {"other", "nested", "id10271#empty.mp4"}


def test_nobody_may_be_in_both(tmp_path: Path) -> None:
    for subset in ("train", "test"):
        (tmp_path / subset).mkdir()
        (tmp_path / subset / "id10270#a#1#2.mp4").touch()
    with pytest.raises(DataError, match=r"id10270 \(1 in all\) in train and in test"):
        find_sources(tmp_path, Layout.VOXCELEB)


def test_without_folders_the_split_is_by_time(tmp_path: Path) -> None:
    (tmp_path / "id10001#a#1#2.mp4").touch()
    (clip,) = find_sources(tmp_path, Layout.VOXCELEB).people[""]["id10001"]
    assert clip.is_test is None


def test_without_folders_the_metadata_splits(tmp_path: Path) -> None:
    for name in ("id10001#a#000001#000100.mp4", "id10270#b#000002#000200.mp4", "id10272#c#000003#000300.mp4"):
        (tmp_path / name).touch()
    rows = ("a,1,100,1-2-3-4,25,9,9,train,id10001", "b,2,200,1-2-3-4,25,9,9,test,id10270")
    (tmp_path / "vox-metadata.csv").write_text("\n".join([HEADER, *rows]))
    sources = find_sources(tmp_path, Layout.VOXCELEB)
    assert {subset: list(people) for subset, people in sources.people.items()} == {
        "train": ["id10001"],
        "test": ["id10270"],
    }
    (rejected,) = sources.rejected
    assert rejected[1].path.endswith("id10272#c#000003#000300.mp4") and "not in vox-metadata.csv" in rejected[1].reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a,1,100,x,25,9,9,test,id1", "id1#a#000001#000100 is in train by an earlier line"),
        ("a,1,100,x,25,9,9,dev,id1", "partition is 'dev', wanted train or test"),
        ("a,1.5,100,x,25,9,9,train,id1", "start '1.5' and end '100', wanted whole numbers"),
        ("a,1", "no person or no video"),
    ],
)
def test_unusable_rows_are_listed_with_line_and_reason(tmp_path: Path, row: str, reason: str) -> None:
    path = tmp_path / "vox-metadata.csv"
    path.write_text("\n".join([HEADER, "a,1,100,x,25,9,9,train,id1", row]))
    table = read_clip_table(path)
    assert table.subset == {"id1#a#000001#000100": "train"}
    assert [(one.path, one.reason) for one in table.rejected] == [(f"{path}:3", reason)]


def test_a_table_without_the_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vox-metadata.csv").write_text("video_id,start\n")
    with pytest.raises(DataError, match="no column person_id, end, partition"):
        read_clip_table(tmp_path / "vox-metadata.csv")


fields = st.one_of(st.sampled_from(["train", "test", "1", "25", "id1", "a"]), st.text(max_size=6))


@given(st.lists(st.lists(fields, max_size=11), max_size=6), st.booleans())
def test_any_table_gives_rows_reasons_or_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], has_header: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed-metadata.csv"
    text = "\n".join([HEADER] * has_header + [",".join(row) for row in rows])
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        table = read_clip_table(path)
    except DataError as error:
        assert str(path) in str(error)
        return
    assert set(table.subset.values()) <= {"train", "test"}
    assert all(name.count("#") >= 3 for name in table.subset)


@given(st.binary(max_size=300))
def test_any_bytes_give_rows_reasons_or_one_clear_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes-metadata.csv"
    path.write_bytes(HEADER.encode() + b"\n" + data)
    try:
        read_clip_table(path)
    except DataError as error:
        assert str(path) in str(error)
