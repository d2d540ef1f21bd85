"""A shard: one identity's folder of annotated face crops, and all that a site holds.

    <dataset>/<identity>/frames/000000.jpg ...   square face crops
    <dataset>/<identity>/metadata.parquet        one row a frame, columns in `COLUMN_WIDTHS`; the record of consent
    <dataset>/<identity>/shard.json              schema version, identity, annotator, size, sources

Four columns are optional. `is_test` (bool) fixes which frames are for testing; without it that is the last tenth of
each clip. `irises` is there where the annotator finds them; `mesh` and `blendshapes`, both or neither, where they were
asked for.

Legend: F frames, K = 68 landmarks, C coordinates, A = 18 action units, E = 2 eyes, V = 468 vertices of a face mesh,
B = 52 scores of its expression.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_partition.consent.record import ConsentRecord
from data_partition.shards.images import WrongSizeError, check_image, read_image
from data_partition.shards.names import UNFINISHED_SUFFIXES, check_distinct, check_identity
from model.batch import NUM_ACTION_UNITS, NUM_BLENDSHAPES, NUM_LANDMARKS, NUM_VERTICES
from model.errors import DataError
from model.files import json_of, read_json
from model.landmarks.face_mesh import FaceMesh

SCHEMA_VERSION = 1
METADATA_NAME, INFO_NAME, FRAMES_NAME = "metadata.parquet", "shard.json", "frames"

COLUMN_WIDTHS: dict[str, int] = {
    "file_name": 0,
    "clip": 0,
    "frame_index": 0,
    "timestamp_s": 0,
    "landmarks": 2 * NUM_LANDMARKS,
    "pose_deg": 3,
    "au_presence": NUM_ACTION_UNITS,
    "au_intensity": NUM_ACTION_UNITS,
    "confidence": 0,
}
"""Column of metadata.parquet to the length of its lists; 0 is a scalar."""

SPLIT_COLUMN = "is_test"
IRISES_COLUMN = "irises"
MESH_COLUMN, BLENDSHAPES_COLUMN = "mesh", "blendshapes"
OPTIONAL_WIDTHS: dict[str, int] = {
    IRISES_COLUMN: 4,
    MESH_COLUMN: 3 * NUM_VERTICES,
    BLENDSHAPES_COLUMN: NUM_BLENDSHAPES,
    SPLIT_COLUMN: 0,
}
"""The same of the columns that a shard may lack; a column is there for all frames or for none."""
HALVES = (MESH_COLUMN, BLENDSHAPES_COLUMN)
"""Columns in half precision, on disk and in memory: 3 KB a frame."""
ADD_MESHES = "`fedreenact prepare VIDEOS DATASET --mesh` adds them to people whom MediaPipe annotates"
NO_MESHES = f"there are no face meshes, which this network is driven by; {ADD_MESHES}"
PREPARED_FROM = "prepared_from"
"""Key of shard.json, optional: the source folder, by which a person who is taken out of it leaves the dataset too."""

CONSENT_KEY, CONSENT_SHA256_KEY = b"fedreenact.consent", b"fedreenact.consent-sha256"
"""Keys of metadata.parquet's own metadata, both or neither: the record of consent as JSON, and its digest."""

MAX_SIZE_PX = 4096
"""Largest side of a frame: 50 MB decoded."""

_INFO_KEYS = ("identity", "annotator", "annotator_version", "size_px", "sources", "split_seed")
_TEXT_KEYS = ("identity", "annotator", "annotator_version")
_TEXT_COLUMNS = ("file_name", "clip")
_NUMBER_COLUMNS = (
    *("landmarks", "pose_deg", "au_presence", "au_intensity", "timestamp_s", "confidence"),
    *(IRISES_COLUMN, MESH_COLUMN, BLENDSHAPES_COLUMN),
)
_REMEDY = "prepare this identity again"
_READ_ROWS = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class Shard:
    """One opened shard. Annotations are in memory, frames are read one at a time."""

    path: Path
    identity: str
    size_px: int
    """Side of every frame."""
    info: dict[str, Any]
    """All of shard.json."""
    file_name: list[str]
    """Frame paths relative to the shard, "frames/000000.jpg"."""
    clip: NDArray[np.str_]
    """[F] name of the clip each frame comes from."""
    frame_index: NDArray[np.int64]
    """[F] index of the frame in its clip, counted before frames without a face were dropped."""
    timestamp_s: NDArray[np.float64]
    """[F] seconds from the start of the clip."""
    landmarks_FKC: NDArray[np.float32]
    """[F, 68, 2] (x, y) pixels of the frame, finite; they may lie outside of it."""
    pose_FC: NDArray[np.float32]
    """[F, 3] pitch, yaw, roll in degrees, finite."""
    au_presence_FA: NDArray[np.float32]
    """[F, 18] 0 or 1."""
    au_intensity_FA: NDArray[np.float32]
    """[F, 18] 0 to 5, NaN where the annotator does not know."""
    confidence_F: NDArray[np.float32]
    """[F] 0 to 1."""
    is_test_F: NDArray[np.bool_]
    """[F] true for test frames."""
    has_fixed_split: bool
    """True if the shard itself says which frames are for testing; else it is the last tenth of each clip in time."""
    irises_FEC: NDArray[np.float32] | None = None
    """[F, 2, 2] (x, y) pixels of the iris centres, the eye at landmark 36 first; None where they are not known."""
    mesh_FVC: NDArray[np.float16] | None = None
    """[F, 468, 3] (x, y, z) of MediaPipe's face mesh in half sides of the frame from its centre, smaller z nearer to
    the camera; None where it was not kept."""
    blendshapes_FB: NDArray[np.float16] | None = None
    """[F, 52] 0 to 1, in MediaPipe's order; there with the mesh."""
    consent: ConsentRecord | None = None
    """What the person agreed to; None where nobody has said."""

    @property
    def num_frames(self) -> int:
        """Number of frames F, training and test together."""
        return len(self.file_name)

    def mesh(self, row: int) -> FaceMesh | None:
        """The mesh of one row's face, in half sides of the frame; None where none was kept."""
        if self.mesh_FVC is None or self.blendshapes_FB is None:
            return None
        vertices_VC, blendshapes_B = (of_all[row].astype(np.float32) for of_all in (self.mesh_FVC, self.blendshapes_FB))
        return FaceMesh(vertices_VC=vertices_VC, blendshapes_B=blendshapes_B)

    def read_frame(self, row: int) -> NDArray[np.uint8]:
        """The frame of one row.

        Args:
            row: 0 <= row < num_frames.

        Returns:
            [size_px, size_px, 3] uint8 RGB.

        Raises:
            DataError: naming the file if it is missing, truncated or of another size.
        """
        with _with_remedy():
            return read_image(self.path / self.file_name[row], size=(self.size_px, self.size_px))

    def check_frames(self) -> None:
        """Look at the header and the end of every frame's file.

        Raises:
            DataError: naming the first file that is missing, truncated or of another size.
        """
        with _with_remedy():
            for name in self.file_name:
                check_image(self.path / name, (self.size_px, self.size_px))


@contextlib.contextmanager
def _with_remedy() -> Iterator[None]:
    """What is wrong with a frame's file, and that it can be made again."""
    try:
        yield
    except WrongSizeError as error:
        raise DataError(f"{error}; {_REMEDY}") from error
    except DataError as error:
        raise DataError(f"{error}, or {_REMEDY}") from error


def open_dataset(root: Path) -> list[Shard]:
    """Every shard below `root`, sorted by identity; `root` may also be a single shard.

    Raises:
        DataError: if there is none, one cannot be used, or two have names that cannot be told apart.
    """
    if (root / INFO_NAME).is_file():
        return [open_shard(root)]
    folders = shard_folders(root)
    if not folders:
        raise DataError(f"{root}: no shard found; wanted folders with {INFO_NAME}; run `fedreenact prepare` or `synth`")
    shards = sorted((open_shard(folder) for folder in folders), key=lambda shard: shard.identity)
    try:
        check_distinct(shard.identity for shard in shards)
    except ValueError as error:
        raise DataError(f"{root}: {error}; prepare one of them again under another name") from error
    return shards


def shard_folders(root: Path) -> list[Path]:
    """Folders below `root` that hold a shard, finished ones only, sorted by name; none that may not be looked into.

    Raises:
        DataError: if `root` is no folder, or cannot be listed.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such dataset folder")
    try:
        folders = sorted(root.iterdir())
    except OSError as error:
        raise DataError(f"{root}: cannot be read ({error.strerror}); give yourself the right to") from error
    return [folder for folder in folders if folder.suffix not in UNFINISHED_SUFFIXES and is_shard(folder)]


def is_shard(folder: Path) -> bool:
    """Whether a folder holds a shard, be it a damaged one; not if it may not be looked into."""
    try:
        return any((folder / name).is_file() for name in (INFO_NAME, METADATA_NAME))
    except OSError:
        return False


def open_shard(path: Path) -> Shard:
    """One shard with its annotations checked.

    Args:
        path: the identity's folder.

    Raises:
        DataError: naming file and row for a missing file or column, another schema version, lists of the
            wrong length, NaN in landmarks or pose, or an empty shard.
    """
    info = _read_info(path / INFO_NAME)
    columns, consent = _read_columns(path / METADATA_NAME)
    file_name = [str(name) for name in columns["file_name"]]
    _check_files(path, file_name)
    clip = columns["clip"].astype(np.str_)
    return Shard(
        path=path,
        identity=info["identity"],
        size_px=info["size_px"],
        info=info,
        file_name=file_name,
        clip=clip,
        frame_index=columns["frame_index"].astype(np.int64),
        timestamp_s=columns["timestamp_s"].astype(np.float64),
        landmarks_FKC=columns["landmarks"].reshape(-1, NUM_LANDMARKS, 2),
        pose_FC=columns["pose_deg"],
        au_presence_FA=columns["au_presence"],
        au_intensity_FA=columns["au_intensity"],
        confidence_F=columns["confidence"].astype(np.float32),
        is_test_F=columns[SPLIT_COLUMN].astype(np.bool_)
        if SPLIT_COLUMN in columns
        else last_tenth(clip, columns["frame_index"].astype(np.int64)),
        has_fixed_split=SPLIT_COLUMN in columns,
        irises_FEC=columns[IRISES_COLUMN].reshape(-1, 2, 2) if IRISES_COLUMN in columns else None,
        mesh_FVC=columns[MESH_COLUMN].reshape(-1, NUM_VERTICES, 3) if MESH_COLUMN in columns else None,
        blendshapes_FB=columns.get(BLENDSHAPES_COLUMN),
        consent=consent,
    )


def usable_shards(folders: Iterable[Path]) -> Iterator[Shard]:
    """The shards of some folders, one at a time; those that cannot be used are passed over."""
    for folder in folders:
        with contextlib.suppress(DataError):
            yield open_shard(folder)


def needed_mesh(shard: Shard, row: int) -> FaceMesh:
    """The mesh of one row's face, in half sides of the frame.

    Raises:
        DataError: saying how they come to be there, if the shard has none.
    """
    require_meshes([shard])
    mesh = shard.mesh(row)
    assert mesh is not None
    return mesh


def require_meshes(shards: Iterable[Shard]) -> None:
    """Check that all have meshes.

    Raises:
        DataError: naming the first that has none, and the command that adds them.
    """
    for shard in shards:
        if shard.mesh_FVC is None:
            raise DataError(f"{shard.path}: {NO_MESHES}")


def consent_of_shard(path: Path) -> ConsentRecord | None:
    """The record of consent alone, without reading the annotations.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        return _consent_in(path / METADATA_NAME, pq.read_schema(path / METADATA_NAME).metadata or {})
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise DataError(f"{path / METADATA_NAME}: not readable ({str(error).splitlines()[0]}); {_REMEDY}") from error


def consent_metadata(record: ConsentRecord | None) -> dict[bytes, bytes]:
    """What metadata.parquet's own metadata say of a record of consent."""
    if record is None:
        return {}
    text = json.dumps(record.to_json(), sort_keys=True, ensure_ascii=False)
    return {CONSENT_KEY: text.encode(), CONSENT_SHA256_KEY: record.sha256.encode()}


def last_tenth(clip: NDArray[np.str_], frame_index: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which frames are test frames: the last tenth (rounded) of each clip, in time.

    Args:
        clip: [F] clip of each frame.
        frame_index: [F] position in the clip.

    Returns:
        [F] bool; never depends on the order of the rows.
    """
    _, clip_number, num_frames = np.unique(clip, return_inverse=True, return_counts=True)
    order = np.lexsort((frame_index, clip_number))  # clip after clip, each in time
    num_train = num_frames - (num_frames + 5) // 10
    start = np.cumsum(num_frames) - num_frames
    position = np.arange(len(clip)) - start[clip_number[order]]
    is_test = np.zeros(len(clip), np.bool_)
    is_test[order] = position >= num_train[clip_number[order]]
    return is_test


def _read_info(path: Path) -> dict[str, Any]:
    try:
        info = read_json(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing, so {path.parent.name} is no finished shard; {_REMEDY}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as JSON ({error}); {_REMEDY}") from error
    version = info.get("schema_version") if isinstance(info, dict) else None
    if version != SCHEMA_VERSION:
        raise DataError(f"{path}: schema version is {version}, wanted {SCHEMA_VERSION}; {_REMEDY}")
    missing = [key for key in _INFO_KEYS if key not in info]
    if missing:
        raise DataError(f"{path}: missing {', '.join(missing)}; {_REMEDY}")
    for key in _TEXT_KEYS:
        if not isinstance(info[key], str):
            raise DataError(f"{path}: {key} is {info[key]!r}, wanted text; {_REMEDY}")
    try:
        check_identity(info["identity"])
    except ValueError as error:
        raise DataError(f"{path}: {error}; {_REMEDY}") from error
    if not isinstance(info["size_px"], int) or not 1 <= info["size_px"] <= MAX_SIZE_PX:
        raise DataError(f"{path}: size_px is {info['size_px']!r}, wanted a whole number, 1 to {MAX_SIZE_PX}; {_REMEDY}")
    if not isinstance(info["sources"], list) or not all(isinstance(s, dict) for s in info["sources"]):
        raise DataError(f"{path}: sources is {info['sources']!r}, wanted a list of objects; {_REMEDY}")
    return dict(info)


def _read_columns(path: Path) -> tuple[dict[str, NDArray[Any]], ConsentRecord | None]:
    """The columns of COLUMN_WIDTHS and those of OPTIONAL_WIDTHS that are there; the record of consent."""
    try:
        with pq.ParquetFile(path) as file:
            present, num_rows = file.schema_arrow.names, file.metadata.num_rows
            missing = [name for name in COLUMN_WIDTHS if name not in present]
            if missing:
                raise DataError(f"{path}: missing column {', '.join(missing)}; {_REMEDY}")
            if (MESH_COLUMN in present) != (BLENDSHAPES_COLUMN in present):
                raise DataError(f"{path}: has one of {' and '.join(HALVES)} without the other; {_REMEDY}")
            if num_rows == 0:
                raise DataError(f"{path}: has no rows, so the shard has no frames; {_REMEDY}")
            wanted = COLUMN_WIDTHS | {name: width for name, width in OPTIONAL_WIDTHS.items() if name in present}
            columns = {name: _read_column(file, path, name, width) for name, width in wanted.items()}
            consent = _consent_in(path, file.schema_arrow.metadata or {})
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing; {_REMEDY}") from error
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise DataError(f"{path}: not readable as Parquet ({str(error).splitlines()[0]}); {_REMEDY}") from error
    pa.default_memory_pool().release_unused()
    for name in (name for name in _NUMBER_COLUMNS if name in columns):
        is_bad = np.isinf(columns[name]) if name == "au_intensity" else ~np.isfinite(columns[name])
        bad = np.flatnonzero(is_bad.reshape(num_rows, -1).any(axis=1))
        if bad.size:
            raise DataError(
                f"{path}: {name} is NaN or infinite in row {bad[0]} ({columns['file_name'][bad[0]]}) and in "
                f"{bad.size} of {num_rows} rows; remove these rows or {_REMEDY}"
            )
    bad = np.flatnonzero((columns["confidence"] < 0) | (columns["confidence"] > 1))
    if bad.size:
        raise DataError(f"{path}: confidence is not within 0 and 1 in row {bad[0]} and in {bad.size} rows; {_REMEDY}")
    au_presence_FA = columns["au_presence"]
    bad = np.flatnonzero(~((au_presence_FA == 0) | (au_presence_FA == 1)).all(axis=1))
    if bad.size:
        raise DataError(f"{path}: au_presence is neither 0 nor 1 in row {bad[0]} and in {bad.size} rows; {_REMEDY}")
    return columns, consent


def _consent_in(path: Path, metadata: Mapping[bytes, bytes]) -> ConsentRecord | None:
    if CONSENT_KEY not in metadata:
        return None
    try:
        record = ConsentRecord.from_json(json_of(metadata[CONSENT_KEY]))
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: the record of consent cannot be read ({error}); {_REMEDY}") from error
    if metadata.get(CONSENT_SHA256_KEY) != record.sha256.encode():
        raise DataError(f"{path}: the record of consent is not the one that was taken in; {_REMEDY}")
    return record


def _read_column(file: pq.ParquetFile, path: Path, name: str, width: int) -> NDArray[Any]:
    """A piece at a time: a large shard is not held in Arrow's form as well."""
    pieces: list[NDArray[Any]] = []
    num_rows = 0
    for batch in file.iter_batches(_READ_ROWS, columns=[name]):
        pieces.append(_to_array(path, name, batch.column(0), width, num_rows))
        num_rows += batch.num_rows
    if num_rows != file.metadata.num_rows:
        raise DataError(f"{path}: {name} has {num_rows} of {file.metadata.num_rows} rows; {_REMEDY}")
    return np.concatenate(pieces)


def _to_array(path: Path, name: str, column: pa.Array, width: int, first_row: int) -> NDArray[Any]:
    is_wanted, wanted = _wanted_type(name, width)
    if not is_wanted(column.type):
        raise DataError(f"{path}: {name} is of type {column.type}, wanted {wanted}; {_REMEDY}")
    if column.null_count:
        row = first_row + column.is_null().to_pylist().index(True)
        raise DataError(f"{path}: {name} is empty in row {row}; {_REMEDY}")
    if width == 0:
        return np.asarray(column.to_numpy(zero_copy_only=False))
    lengths = pc.list_value_length(column).to_numpy()
    wrong = np.flatnonzero(lengths != width)
    if wrong.size:
        found, row = lengths[wrong[0]], first_row + wrong[0]
        raise DataError(f"{path}: {name} has {found} numbers in row {row}, wanted {width}; {_REMEDY}")
    flat = pc.list_flatten(column).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):  # to infinity, which is looked for
        return np.asarray(flat, np.float16 if name in HALVES else np.float32).reshape(-1, width)


def _wanted_type(name: str, width: int) -> tuple[Callable[[pa.DataType], bool], str]:
    """What a column's type must be, as a test and in words."""
    if width:
        return _is_list_of_numbers, f"lists of {width} numbers"
    if name in _TEXT_COLUMNS:
        return lambda type_: pa.types.is_string(type_) or pa.types.is_large_string(type_), "text"
    if name == "frame_index":
        return pa.types.is_integer, "whole numbers"
    if name == SPLIT_COLUMN:
        return pa.types.is_boolean, "bool"
    return _is_number, "numbers"


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_floating(type_) or pa.types.is_integer(type_))


def _is_list_of_numbers(type_: pa.DataType) -> bool:
    is_list = pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_)
    return bool(is_list and _is_number(type_.value_type))


def _check_files(path: Path, file_name: list[str]) -> None:
    folder = path / FRAMES_NAME
    present = {f"{FRAMES_NAME}/{name}" for name in os.listdir(folder)} if folder.is_dir() else set()
    missing = [name for name in file_name if name not in present]
    if missing:
        raise DataError(
            f"{path / missing[0]}: frame file missing ({len(missing)} of {len(file_name)} are); restore it or {_REMEDY}"
        )
