"""Promises of data_partition.shards.shard and data_partition.shards.writer."""

import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_partition.consent.record import synthetic_record
from data_partition.shards.images import write_image
from data_partition.shards.shard import COLUMN_WIDTHS, Shard, last_tenth, open_dataset, open_shard, require_meshes
from data_partition.shards.writer import ShardWriter
from model.errors import ConfigError, DataError
from model.landmarks.face_mesh import FaceMesh
from tests.support.shards import write_random_shard


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    return write_random_shard(tmp_path, "anna", num_frames=6)


def _rewrite(shard: Shard, name: str, values: list[object]) -> None:
    path = shard.path / "metadata.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index(name), name, pa.array(values)), path)


def test_annotations_come_back_as_they_were_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    landmarks = rng.uniform(0, 16, (2, 68, 2)).astype(np.float32)
    intensity = np.where(np.arange(18) == 6, np.nan, 2.5)
    consent = synthetic_record("eva")
    with ShardWriter(tmp_path, "eva", 16, "hand", annotator_version="2", sources=[{"name": "x"}], consent=consent) as w:
        for row in range(2):
            w.add(
                np.full((16, 16, 3), 50 * row, np.uint8),
                clip="c",
                frame_index=10 + row,
                timestamp_s=0.5 + row,
                landmarks_KC=landmarks[row],
                pose_C=[1, 2, 3],
                au_presence_A=np.arange(18) == row,
                au_intensity_A=intensity,
                confidence=0.75,
            )
    shard = open_shard(tmp_path / "eva")
    np.testing.assert_array_equal(shard.landmarks_FKC, landmarks)
    np.testing.assert_array_equal(shard.pose_FC, [[1, 2, 3]] * 2)
    np.testing.assert_array_equal(shard.au_presence_FA, np.eye(2, 18))
    np.testing.assert_array_equal(shard.au_intensity_FA, [intensity] * 2)
    assert shard.frame_index.tolist() == [10, 11] and shard.timestamp_s.tolist() == [0.5, 1.5]
    assert shard.confidence_F.tolist() == [0.75, 0.75]
    assert (shard.identity, shard.size_px, shard.consent) == ("eva", 16, consent)
    assert abs(int(shard.read_frame(1).mean()) - 50) <= 1


def test_the_last_tenth_of_each_clip_in_time_is_for_testing() -> None:
    clip = np.array(["a"] * 20 + ["b"] * 4 + ["c"] * 5)
    index = np.concatenate([np.arange(20)[::-1], np.arange(4), np.arange(5)])
    is_test = last_tenth(clip, index)
    assert np.flatnonzero(is_test).tolist() == [0, 1, 28]  # frames 19 and 18 of a, none of b, the last of c


def test_lists_of_another_program_are_read_too(shard: Shard) -> None:
    _rewrite(shard, "landmarks", shard.landmarks_FKC.reshape(6, 136).astype(float).tolist())
    np.testing.assert_array_equal(open_shard(shard.path).landmarks_FKC, shard.landmarks_FKC)


def test_a_missing_column_is_named(shard: Shard) -> None:
    path = shard.path / "metadata.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["au_presence", "clip"]), path)
    with pytest.raises(DataError, match=r"metadata\.parquet: missing column clip, au_presence"):
        open_shard(shard.path)


def test_nan_landmarks_are_refused_with_their_row(shard: Shard) -> None:
    values = shard.landmarks_FKC.reshape(6, 136).astype(float)
    values[4, 7] = np.nan
    _rewrite(shard, "landmarks", values.tolist())
    with pytest.raises(DataError, match=r"landmarks is NaN or infinite in row 4 \(frames/000004\.jpg\)"):
        open_shard(shard.path)


def test_lists_of_a_wrong_length_are_refused(shard: Shard) -> None:
    _rewrite(shard, "pose_deg", [[1.0, 2.0, 3.0]] * 5 + [[1.0, 2.0]])
    with pytest.raises(DataError, match="pose_deg has 2 numbers in row 5, wanted 3"):
        open_shard(shard.path)


def test_empty_cells_are_refused(shard: Shard) -> None:
    _rewrite(shard, "clip", ["a", "a", None, "a", "a", "a"])
    with pytest.raises(DataError, match="clip is empty in row 2"):
        open_shard(shard.path)


def test_a_missing_frame_file_is_named(shard: Shard) -> None:
    (shard.path / "frames/000003.jpg").unlink()
    with pytest.raises(DataError, match=r"000003\.jpg: frame file missing \(1 of 6"):
        open_shard(shard.path)


def test_a_file_outside_of_the_shard_is_never_read(shard: Shard) -> None:
    _rewrite(shard, "file_name", ["../../secret.jpg", *shard.file_name[1:]])
    with pytest.raises(DataError, match="frame file missing"):
        open_shard(shard.path)


@pytest.mark.parametrize("look", [lambda shard: shard.read_frame(2), Shard.check_frames])
def test_a_truncated_frame_is_named_when_it_is_read_or_looked_at(shard: Shard, look: Callable[[Shard], object]) -> None:
    path = shard.path / "frames/000002.jpg"
    path.write_bytes(path.read_bytes()[:300])
    words = r"000002\.jpg: truncated picture of 300 bytes; .* again, or prepare this identity again$"
    with pytest.raises(DataError, match=words):
        look(open_shard(shard.path))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("schema_version", 99, "schema version is 99, wanted 1"),
        ("size_px", "big", "size_px is 'big'"),
        ("sources", ["x"], "wanted a list of objects"),
    ],
)
def test_a_wrong_shard_json_is_refused(shard: Shard, key: str, value: object, words: str) -> None:
    path = shard.path / "shard.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(DataError, match=words):
        open_shard(shard.path)


@pytest.mark.parametrize("name", ["shard.json", "metadata.parquet"])
def test_torn_files_are_refused(shard: Shard, name: str) -> None:
    path = shard.path / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=f"{name}: not readable"):
        open_shard(shard.path)


def test_a_dataset_is_sorted_by_identity_and_ignores_unfinished_work(tmp_path: Path) -> None:
    for name in ("zoe", "anna", "max"):
        write_random_shard(tmp_path, name, num_frames=2)
    (tmp_path / "max").rename(tmp_path / "max.partial")
    (tmp_path / "notes").mkdir()
    assert [shard.identity for shard in open_dataset(tmp_path)] == ["anna", "zoe"]


def test_one_shard_is_a_dataset_too(shard: Shard) -> None:
    assert [one.identity for one in open_dataset(shard.path)] == ["anna"]


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no shard found"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="no such dataset folder"):
        open_dataset(tmp_path / "gone")


def test_an_interrupted_writer_leaves_no_shard_and_the_next_one_starts_afresh(tmp_path: Path) -> None:
    frame = {
        "clip": "c",
        "timestamp_s": 0.0,
        "landmarks_KC": np.zeros((68, 2)),
        "pose_C": np.zeros(3),
        "au_presence_A": np.zeros(18),
        "au_intensity_A": np.zeros(18),
        "confidence": 1.0,
    }
    killed = ShardWriter(tmp_path, "anna", 8, "x")
    killed.add(np.zeros((8, 8, 3), np.uint8), frame_index=0, **frame)
    assert not (tmp_path / "anna").exists()
    with ShardWriter(tmp_path, "anna", 8, "x") as writer:
        writer.add(np.zeros((8, 8, 3), np.uint8), frame_index=5, **frame)
    assert open_shard(tmp_path / "anna").frame_index.tolist() == [5]
    assert [path.name for path in tmp_path.iterdir()] == ["anna"]


def test_an_error_while_writing_keeps_the_older_shard(shard: Shard) -> None:
    with pytest.raises(KeyboardInterrupt), ShardWriter(shard.path.parent, "anna", 8, "x"):
        raise KeyboardInterrupt
    assert open_shard(shard.path).num_frames == 6
    assert [path.name for path in shard.path.parent.iterdir()] == ["anna"]


def test_a_writer_replaces_a_shard_and_nothing_else(shard: Shard, tmp_path: Path) -> None:
    original = tmp_path / "videos" / "anna" / "original.mp4"
    original.parent.mkdir(parents=True)
    original.write_text("the only copy")
    with pytest.raises(ConfigError, match="anna: not a shard"), ShardWriter(tmp_path / "videos", "anna", 32, "x") as w:
        w.adopt(shard)
    assert original.read_text() == "the only copy"
    assert [path.name for path in original.parent.parent.iterdir()] == ["anna"]
    original.unlink()
    left_over = tmp_path / "anna.parts" / "anna" / "frames" / "000009.jpg"  # its removal was killed
    left_over.parent.mkdir(parents=True)
    left_over.touch()
    for part in (tmp_path / "videos", tmp_path / "videos", tmp_path / "anna.parts"):
        with ShardWriter(part, "anna", 32, "x") as writer:
            writer.adopt(shard)
        assert open_shard(part / "anna").num_frames == 6
    assert not left_over.exists()


def test_bad_frames_are_refused_by_the_writer(tmp_path: Path) -> None:
    good = {
        "clip": "c",
        "frame_index": 3,
        "timestamp_s": 0.0,
        "landmarks_KC": np.zeros((68, 2)),
        "pose_C": np.zeros(3),
        "au_presence_A": np.zeros(18),
        "au_intensity_A": np.full(18, np.nan),
        "confidence": 1.0,
    }
    frame = np.zeros((8, 8, 3), np.uint8)
    writer = ShardWriter(tmp_path, "anna", 8, "x")
    with pytest.raises(DataError, match=r"anna, clip c, frame 3: frame is \(4, 4, 3\)"):
        writer.add(frame[:4, :4], **good)
    with pytest.raises(DataError, match="landmarks has a NaN"):
        writer.add(frame, **good | {"landmarks_KC": np.full((68, 2), np.nan)})
    with pytest.raises(DataError, match=r"landmarks has shape \(98, 2\)"):
        writer.add(frame, **good | {"landmarks_KC": np.zeros((98, 2))})
    with pytest.raises(DataError, match="no frames to write"):
        writer.finish()


@pytest.mark.parametrize(
    "identity", ["", ".", "..", "a/b", "../../x", "a\\b", "a\0b", "a\nb", "\x1b[2J", "\x9b", "\ud800"]
)
def test_identities_that_are_no_folder_names_are_refused(shard: Shard, tmp_path: Path, identity: str) -> None:
    with pytest.raises(DataError, match="not a valid folder name"):
        ShardWriter(tmp_path, identity, 8, "x")
    path = shard.path / "shard.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"identity": identity}), encoding="utf-8")
    with pytest.raises(DataError, match=r"shard.json: identity .* not a valid folder name"):
        open_shard(shard.path)


@pytest.mark.parametrize("identity", ["Анна", "山田 太郎", "O'Brien & söhne", ".hidden", "...", "a\u200db", "👩‍🦰"])
def test_any_other_name_is_a_persons(tmp_path: Path, identity: str) -> None:
    assert write_random_shard(tmp_path, identity, num_frames=2).identity == identity


def test_a_small_file_of_a_huge_picture_is_not_decoded(shard: Shard) -> None:
    """A PNG of 20,000 x 20,000 black pixels: 0.4 MB on disk, 1.2 GB decoded."""
    num_px, path = 20_000, shard.path / "frames" / "000002.jpg"
    rows = zlib.compress(bytes(num_px * (num_px // 8 + 1)), 9)  # one bit a pixel, and a byte of filter a row
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", num_px, num_px, 1, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b""))
    png = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + png)
    assert path.stat().st_size < 500_000
    code = """
import resource, sys
from pathlib import Path
from data_partition.shards.shard import open_shard
from model.errors import DataError
shard = open_shard(Path(sys.argv[1]))
shard.read_frame(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    shard.read_frame(2)
except DataError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code, shard.path], capture_output=True, text=True, check=True)
    words, grown_kb = done.stdout.splitlines()
    assert "000002.jpg" in words and "400000000 pixels" in words
    assert int(grown_kb) < 50_000


def test_a_frame_of_another_size_is_refused(shard: Shard) -> None:
    shard.check_frames()
    write_image(shard.path / "frames" / "000002.jpg", np.zeros((shard.size_px, shard.size_px + 1, 3), np.uint8))
    with pytest.raises(DataError, match=rf"000002.jpg: frame is {shard.size_px + 1} x {shard.size_px} pixels, wanted"):
        shard.read_frame(2)
    with pytest.raises(DataError, match=r"000002\.jpg: frame is .* pixels, wanted"):
        shard.check_frames()


def test_a_shard_opens_with_pandas_and_as_an_image_folder(
    shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    import datasets
    import pandas

    row = datasets.load_dataset("imagefolder", data_dir=str(shard.path))["train"][4]
    np.testing.assert_array_equal(np.asarray(row["image"]), shard.read_frame(4))
    np.testing.assert_array_equal(np.reshape(row["landmarks"], (68, 2)), shard.landmarks_FKC[4])
    assert (row["clip"], row["frame_index"]) == ("clip-0", 4)
    frame = pandas.read_parquet(shard.path / "metadata.parquet")
    assert frame.file_name.tolist() == shard.file_name
    np.testing.assert_array_equal(np.stack(frame.pose_deg), shard.pose_FC)


def _write_with(root: Path, identity: str, column: str, values: Sequence[object]) -> Path:
    """A shard of black frames with a value of an optional column each."""
    with ShardWriter(root, identity, 8, "test") as writer:
        for index, value in enumerate(values):
            writer.add(
                np.zeros((8, 8, 3), np.uint8),
                clip="clip",
                frame_index=index,
                timestamp_s=index / 25,
                landmarks_KC=np.zeros((68, 2)),
                pose_C=np.zeros(3),
                au_presence_A=np.zeros(18),
                au_intensity_A=np.zeros(18),
                confidence=1.0,
                **{column: value},  # type: ignore[arg-type]
            )
    return root / identity


def _write_split(root: Path, identity: str, split: list[bool | None]) -> Path:
    return _write_with(root, identity, "is_test", split)


def test_a_fixed_split_comes_back_and_is_adopted(tmp_path: Path) -> None:
    part = open_shard(_write_split(tmp_path, "part", [True, False, False, True]))
    assert part.has_fixed_split and part.is_test_F.tolist() == [True, False, False, True]
    with ShardWriter(tmp_path, "whole", 8, "test") as writer:
        writer.adopt(part)
        writer.adopt(part)
    assert open_shard(tmp_path / "whole").is_test_F.tolist() == [True, False, False, True] * 2
    by_time = open_shard(_write_split(tmp_path, "by-time", [None] * 5))
    assert not by_time.has_fixed_split and by_time.is_test_F.tolist() == [False] * 4 + [True]


def test_a_split_for_some_frames_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="half: 1 of 2 frames have a fixed split"):
        _write_split(tmp_path, "half", [True, None])
    assert not (tmp_path / "half").exists() and not (tmp_path / "half.partial").exists()


def test_a_split_of_another_type_or_with_gaps_is_refused(tmp_path: Path) -> None:
    path = _write_split(tmp_path, "anna", [True, False])
    _rewrite(open_shard(path), "is_test", [1, 0])
    with pytest.raises(DataError, match="is_test is of type int64, wanted bool"):
        open_shard(path)
    path = _write_split(tmp_path, "ben", [True, False])
    _rewrite(open_shard(path), "is_test", [True, None])
    with pytest.raises(DataError, match="is_test is empty in row 1"):
        open_shard(path)


def _write_irises(root: Path, identity: str, irises: list[object]) -> Path:
    return _write_with(root, identity, "irises_EC", irises)


def test_irises_come_back_and_are_adopted(tmp_path: Path) -> None:
    told = [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    part = open_shard(_write_irises(tmp_path, "part", told))
    np.testing.assert_array_equal(part.irises_FEC, told)
    with ShardWriter(tmp_path, "whole", 8, "test") as writer:
        writer.adopt(part)
        writer.adopt(part)
    np.testing.assert_array_equal(open_shard(tmp_path / "whole").irises_FEC, told * 2)


def test_a_shard_without_the_column_has_no_irises(shard: Shard, tmp_path: Path) -> None:
    assert shard.irises_FEC is None
    with ShardWriter(tmp_path, "whole", shard.size_px, "test") as writer:
        writer.adopt(shard)
    assert open_shard(tmp_path / "whole").irises_FEC is None


def test_irises_of_some_frames_alone_or_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="half: 1 of 2 frames have irises"):
        _write_irises(tmp_path, "half", [np.zeros((2, 2)), None])
    with pytest.raises(DataError, match="frame 0: irises has a NaN or infinite value"):
        _write_irises(tmp_path, "odd", [np.full((2, 2), np.nan)])
    path = _write_irises(tmp_path, "anna", [np.zeros((2, 2))])
    _rewrite(open_shard(path), "irises", [[0.0, 1.0, float("nan"), 2.0]])
    with pytest.raises(DataError, match="irises is NaN or infinite in row 0"):
        open_shard(path)


def _mesh(seed: int) -> FaceMesh:
    rng = np.random.default_rng(seed)
    vertices_VC = rng.uniform(-1, 1, (468, 3)).astype(np.float32)
    return FaceMesh(vertices_VC=vertices_VC, blendshapes_B=rng.random(52, np.float32))


def test_meshes_come_back_in_half_precision_and_are_adopted(tmp_path: Path) -> None:
    told = [_mesh(0), _mesh(1)]
    part = open_shard(_write_with(tmp_path, "part", "mesh", told))
    with ShardWriter(tmp_path, "whole", 8, "test") as writer:
        writer.adopt(part)
        writer.adopt(part)
    whole = open_shard(tmp_path / "whole")
    for row, wanted in enumerate(told * 2):
        got = whole.mesh(row)
        assert got is not None
        np.testing.assert_allclose(got.vertices_VC, wanted.vertices_VC, atol=2**-12)
        np.testing.assert_allclose(got.blendshapes_B, wanted.blendshapes_B, atol=2**-12)
    assert whole.mesh_FVC is not None and whole.mesh_FVC.dtype == np.float16


def test_a_shard_without_meshes_says_how_they_are_added(shard: Shard) -> None:
    assert shard.mesh(0) is None
    with pytest.raises(DataError, match="anna: there are no face meshes.*`fedreenact prepare VIDEOS DATASET --mesh`"):
        require_meshes([shard])


def test_meshes_of_some_frames_alone_not_finite_or_without_expressions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="half: 1 of 2 frames have a mesh"):
        _write_with(tmp_path, "half", "mesh", [_mesh(0), None])
    odd = replace(_mesh(0), vertices_VC=np.full((468, 3), np.nan, np.float32))
    with pytest.raises(DataError, match="frame 0: mesh has a NaN or infinite value"):
        _write_with(tmp_path, "odd", "mesh", [odd])
    path = _write_with(tmp_path, "anna", "mesh", [_mesh(0)]) / "metadata.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["blendshapes"]), path)
    with pytest.raises(DataError, match="has one of mesh and blendshapes without the other"):
        open_shard(path.parent)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=4), inner, max_size=2)),
    max_leaves=4,
)
INFO_KEYS = (
    "schema_version",
    "identity",
    "annotator",
    "annotator_version",
    "size_px",
    "sources",
    "split_seed",
)


@pytest.mark.integration
@given(st.dictionaries(st.sampled_from(INFO_KEYS), json_values, max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_shard_json_opens_or_gives_one_clear_error(shard: Shard, changes: dict[str, object]) -> None:
    path = shard.path / "shard.json"
    before = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(before) | changes))
        opened = open_shard(shard.path)
        assert isinstance(opened.identity, str) and isinstance(opened.info["annotator"], str)
        assert all(isinstance(source, dict) for source in opened.info["sources"])
    except DataError as error:
        assert str(path) in str(error)
    finally:
        path.write_text(before)


columns = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=6, max_size=6),
    st.lists(st.one_of(st.none(), st.text(max_size=3)), min_size=6, max_size=6),
    st.lists(st.one_of(st.none(), st.lists(st.floats(), max_size=3)), min_size=6, max_size=6),
    st.lists(st.lists(st.one_of(st.none(), st.floats()), min_size=18, max_size=18), min_size=6, max_size=6),
    st.lists(st.floats(), min_size=6, max_size=6),
)


@pytest.mark.integration
@given(st.sampled_from(list(COLUMN_WIDTHS)), columns)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_metadata_opens_or_gives_one_clear_error(shard: Shard, name: str, values: list[object]) -> None:
    path = shard.path / "metadata.parquet"
    before = path.read_bytes()
    try:
        _rewrite(shard, name, values)
        opened = open_shard(shard.path)
        assert opened.is_test_F.shape == (6,) and np.isfinite(opened.landmarks_FKC).all()
        assert set(np.unique(opened.au_presence_FA)) <= {0, 1}
    except DataError as error:
        assert str(path) in str(error) or "frame file missing" in str(error)
    finally:
        path.write_bytes(before)


def test_a_long_recording_is_written_in_groups_of_rows_and_joined_from_them(tmp_path: Path) -> None:
    """1,024 rows a group: nothing of a shard that is written is in memory for the length of the recording."""
    part = write_random_shard(tmp_path / "parts", "long", num_frames=1100, size_px=8)
    with ShardWriter(tmp_path / "out", "anna", 8, "test") as writer:
        writer.adopt(part)
    whole = open_shard(tmp_path / "out" / "anna")
    for path in (part.path, whole.path):
        metadata = pq.ParquetFile(path / "metadata.parquet").metadata
        assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [1024, 76]
    np.testing.assert_array_equal(whole.landmarks_FKC, part.landmarks_FKC)
    np.testing.assert_array_equal(whole.frame_index, np.arange(1100))
    np.testing.assert_array_equal(whole.read_frame(1090), part.read_frame(1090))


def test_a_row_is_counted_from_the_start_of_the_file(shard: Shard) -> None:
    """It is read in pieces of 4,096 rows."""
    path = shard.path / "metadata.parquet"
    table = pa.concat_tables([pq.read_table(path)] * 700)
    clips = pa.array(["a"] * 4150 + [None] + ["a"] * 49)
    pq.write_table(table.set_column(table.column_names.index("clip"), "clip", clips), path)
    with pytest.raises(DataError, match="clip is empty in row 4150"):
        open_shard(shard.path)


def test_a_frame_that_has_what_the_written_ones_lack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="half: 1 of 1025 frames have irises"):
        _write_irises(tmp_path, "half", [None] * 1024 + [np.zeros((2, 2))])
    assert not list(tmp_path.iterdir())
