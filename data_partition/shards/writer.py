"""Writing a shard: frames and rows as they come, one rename at the end."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from data_partition.consent.record import ConsentRecord
from data_partition.shards.images import encode_image
from data_partition.shards.names import UNFINISHED_SUFFIXES, check_identity
from data_partition.shards.shard import (
    BLENDSHAPES_COLUMN,
    COLUMN_WIDTHS,
    CONSENT_KEY,
    CONSENT_SHA256_KEY,
    FRAMES_NAME,
    INFO_NAME,
    IRISES_COLUMN,
    MESH_COLUMN,
    METADATA_NAME,
    OPTIONAL_WIDTHS,
    PREPARED_FROM,
    SCHEMA_VERSION,
    SPLIT_COLUMN,
    Shard,
    consent_metadata,
    is_shard,
)
from model.batch import NUM_BLENDSHAPES, NUM_LANDMARKS, NUM_VERTICES
from model.errors import ConfigError, DataError
from model.files import name_folder, whole_file, write_json
from model.landmarks.face_mesh import FaceMesh

_GROUP_ROWS = 1024
"""Rows in memory, whatever the length of the recording; then they become a row group of the file."""
_SCALARS = {
    "file_name": pa.string(),
    "clip": pa.string(),
    "frame_index": pa.int64(),
    "timestamp_s": pa.float64(),
    "confidence": pa.float32(),
    SPLIT_COLUMN: pa.bool_(),
}
_OPTIONAL_WORDS = {IRISES_COLUMN: "irises", MESH_COLUMN: "a mesh", SPLIT_COLUMN: "a fixed split"}


class ShardWriter:
    """Writes <out>/<identity>.partial and renames it to <out>/<identity> in `finish`.

    As a context manager it finishes on success and removes the partial folder on an error.
    """

    def __init__(
        self,
        out: Path,
        identity: str,
        size_px: int,
        annotator: str,
        *,
        annotator_version: str = "",
        sources: Sequence[Mapping[str, object]] = (),
        consent: ConsentRecord | None = None,
        prepared_from: str = "",
    ) -> None:
        """Start an empty shard; left-overs of a killed run are removed.

        Args:
            out: dataset folder.
            identity: name of the person, also the folder's name.
            size_px: side of every frame.
            annotator: who made the annotations, with `annotator_version`.
            annotator_version: version of the annotator.
            sources: one mapping a clip: at least name and sha256.
            consent: what the person agreed to; None if nobody has said.
            prepared_from: source folder of the person; "" leaves it out.

        Raises:
            DataError: if the identity is no valid folder name.
        """
        try:
            check_identity(identity)
        except ValueError as error:
            raise DataError(f"{error}; rename the source") from error
        self._final = out / identity
        self._partial = out / f"{identity}.partial"
        self._size_px = size_px
        self._info: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "identity": identity,
            "annotator": annotator,
            "annotator_version": annotator_version,
            "size_px": size_px,
            "sources": [dict(source) for source in sources],
            "split_seed": None,  # the split is by time, so nothing is drawn
            **({PREPARED_FROM: prepared_from} if prepared_from else {}),
        }
        self._consent = consent
        self._rows: dict[str, list[NDArray[Any]]] = {name: [] for name in COLUMN_WIDTHS | OPTIONAL_WIDTHS}
        self._num_told: Counter[str] = Counter()
        self._num_written = 0
        self._file: pq.ParquetWriter | None = None
        shutil.rmtree(self._partial, ignore_errors=True)
        (self._partial / FRAMES_NAME).mkdir(parents=True)

    def __enter__(self) -> ShardWriter:
        """The writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish, or clean up after an error."""
        try:
            if error is None:
                self.finish()
        finally:
            if self._file is not None:
                self._file.close()
            shutil.rmtree(self._partial, ignore_errors=True)

    @property
    def num_frames(self) -> int:
        """Frames added so far."""
        return self._num_told["file_name"]

    def add(
        self,
        frame_HWC: NDArray[np.uint8],
        *,
        clip: str,
        frame_index: int,
        timestamp_s: float,
        landmarks_KC: ArrayLike,
        pose_C: ArrayLike,
        au_presence_A: ArrayLike,
        au_intensity_A: ArrayLike,
        confidence: float,
        irises_EC: ArrayLike | None = None,
        mesh: FaceMesh | None = None,
        is_test: bool | None = None,
    ) -> None:
        """Append one annotated frame.

        Args:
            frame_HWC: [size_px, size_px, 3] uint8 RGB.
            clip: name of the clip.
            frame_index: position in the clip, dropped frames counted.
            timestamp_s: seconds from the start of the clip.
            landmarks_KC: [68, 2] (x, y) pixels of this frame, finite.
            pose_C: [3] pitch, yaw, roll in degrees, finite.
            au_presence_A: [18] 0 or 1.
            au_intensity_A: [18] 0 to 5, NaN if unknown.
            confidence: 0 to 1.
            irises_EC: [2, 2] (x, y) pixels of this frame, finite, of all frames or of none; None if they are not known.
            mesh: in half sides of this frame, finite, of all frames or of none; None if it is not known or not kept.
            is_test: which side of the train/test split the frame is on, said of all frames or of none; None leaves it
                to time.

        Raises:
            DataError: for a wrong shape or a NaN, naming frame and value.
        """
        where = f"{self._info['identity']}, clip {clip}, frame {frame_index}"
        wanted = (self._size_px, self._size_px, 3)
        if frame_HWC.shape != wanted or frame_HWC.dtype != np.uint8:
            raise DataError(f"{where}: frame is {frame_HWC.shape} {frame_HWC.dtype}, wanted {wanted} uint8")
        row = {
            "file_name": f"{FRAMES_NAME}/{self.num_frames:06d}.jpg",
            "clip": clip,
            "frame_index": int(frame_index),
            "timestamp_s": float(timestamp_s),
            "landmarks": _vector(where, "landmarks", landmarks_KC, (NUM_LANDMARKS, 2)),
            "pose_deg": _vector(where, "pose_deg", pose_C, (COLUMN_WIDTHS["pose_deg"],)),
            "au_presence": _vector(where, "au_presence", au_presence_A, (COLUMN_WIDTHS["au_presence"],)),
            "au_intensity": _vector(
                where, "au_intensity", au_intensity_A, (COLUMN_WIDTHS["au_intensity"],), allow_nan=True
            ),
            "confidence": float(confidence),
        }
        if irises_EC is not None:
            row[IRISES_COLUMN] = _vector(where, IRISES_COLUMN, irises_EC, (2, 2))
        if mesh is not None:
            row[MESH_COLUMN] = _vector(where, MESH_COLUMN, mesh.vertices_VC, (NUM_VERTICES, 3)).astype(np.float16)
            scores_B = _vector(where, BLENDSHAPES_COLUMN, mesh.blendshapes_B, (NUM_BLENDSHAPES,))
            row[BLENDSHAPES_COLUMN] = scores_B.astype(np.float16)
        if is_test is not None:
            row[SPLIT_COLUMN] = is_test
        path = self._partial / str(row["file_name"])
        path.write_bytes(encode_image(path.suffix, frame_HWC))
        self._append({name: np.array([value]) for name, value in row.items()}, 1)

    def adopt(self, part: Shard, left_out: Collection[str] = ()) -> None:
        """Add frames of a finished shard of the same size, with their rows; the part stays as it is.

        Args:
            part: the shard.
            left_out: clips of it that are not added.
        """
        assert part.size_px == self._size_px
        rows = np.flatnonzero(~np.isin(part.clip, list(left_out)))
        for start in range(0, len(rows), _GROUP_ROWS):
            self._adopt(part, rows[start : start + _GROUP_ROWS])

    def _adopt(self, part: Shard, rows: NDArray[np.int64]) -> None:
        file_names = [f"{FRAMES_NAME}/{self.num_frames + number:06d}.jpg" for number in range(len(rows))]
        for row, target in zip(rows, file_names, strict=True):
            _link_or_copy(part.path / part.file_name[row], self._partial / target)
        columns = {
            "file_name": np.array(file_names),
            "clip": part.clip[rows],
            "frame_index": part.frame_index[rows],
            "timestamp_s": part.timestamp_s[rows],
            "landmarks": part.landmarks_FKC[rows].reshape(len(rows), -1),
            "pose_deg": part.pose_FC[rows],
            "au_presence": part.au_presence_FA[rows],
            "au_intensity": part.au_intensity_FA[rows],
            "confidence": part.confidence_F[rows],
        }
        if part.irises_FEC is not None:
            columns[IRISES_COLUMN] = part.irises_FEC[rows].reshape(len(rows), -1)
        if part.mesh_FVC is not None and part.blendshapes_FB is not None:
            columns[MESH_COLUMN] = part.mesh_FVC[rows].reshape(len(rows), -1)
            columns[BLENDSHAPES_COLUMN] = part.blendshapes_FB[rows]
        if part.has_fixed_split:
            columns[SPLIT_COLUMN] = part.is_test_F[rows]
        self._append(columns, len(rows))

    def finish(self) -> Path:
        """Write metadata and rename the folder to its final name, replacing an older shard.

        Returns:
            The finished shard's folder.

        Raises:
            ConfigError: as `require_free`.
            DataError: if no frame was added, or some frames have irises, a mesh or a side of the split and others
                have none.
        """
        if not self.num_frames:
            raise DataError(f"{self._info['identity']}: no frames to write; nothing was saved")
        self._write_rows()
        assert self._file is not None
        self._file.close()
        write_json(self._partial / INFO_NAME, self._info, indent=2)
        require_free(self._final)
        if self._final.exists():
            remove_shard(self._final)
        name_folder(self._partial, self._final)
        return self._final

    def _append(self, columns: Mapping[str, NDArray[Any]], num_frames: int) -> None:
        for name, values in columns.items():
            self._rows[name].append(values)
            self._num_told[name] += num_frames
        if self.num_frames - self._num_written >= _GROUP_ROWS:
            self._write_rows()

    def _write_rows(self) -> None:
        for name, what in _OPTIONAL_WORDS.items():
            if self._num_told[name] not in (0, self.num_frames):
                told = f"{self._num_told[name]} of {self.num_frames} frames have {what}"
                raise DataError(f"{self._info['identity']}: {told}")
        if self._num_written == self.num_frames:
            return
        table = _table({name: np.concatenate(rows) for name, rows in self._rows.items() if rows})
        if self._file is None:
            schema = table.schema.with_metadata(consent_metadata(self._consent) or None)
            self._file = pq.ParquetWriter(self._partial / METADATA_NAME, schema)
        self._file.write_table(table.replace_schema_metadata(self._file.schema.metadata))
        self._num_written = self.num_frames
        for rows in self._rows.values():
            rows.clear()


def _table(columns: Mapping[str, NDArray[Any]]) -> pa.Table:
    """Columns as the schema has them: lists of one length each, or scalars."""
    arrays = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(columns[name].reshape(-1)), width)
        if width
        else pa.array(columns[name], _SCALARS[name])
        for name, width in (COLUMN_WIDTHS | OPTIONAL_WIDTHS).items()
        if name in columns
    }
    return pa.table(arrays)


def require_free(folder: Path) -> None:
    """Refuse to put a shard in the place of anything but a shard: it may be somebody's only copy of a video.

    Args:
        folder: of the shard. What lies in the folder of an unfinished preparation is this program's own, and free.

    Raises:
        ConfigError: if a file has the name, or a folder that is not empty and no shard.
    """
    if folder.parent.suffix in UNFINISHED_SUFFIXES or not (folder.exists() or folder.is_symlink()):
        return
    try:
        is_empty = folder.is_dir() and not any(folder.iterdir())
    except OSError:  # it may not be looked into
        is_empty = False
    if not (is_empty or is_shard(folder)):
        raise ConfigError(
            f"{folder}: not a shard (no {INFO_NAME}), so a shard of this name would destroy it; choose another OUT"
        )


def remove_shard(folder: Path) -> None:
    """Remove a finished shard; killed half way, what is left is still known as one.

    Raises:
        OSError: if something cannot be removed.
    """
    shutil.rmtree(folder / FRAMES_NAME, ignore_errors=True)
    shutil.rmtree(folder)


def record_consent(shard_dir: Path, consent: ConsentRecord | None) -> None:
    """Put a record in the place of the one that a finished shard has; None takes it out. No frame is touched.

    Raises:
        DataError: if the shard's rows cannot be read.
        OSError: if it cannot be written; the shard is as it was then.
    """
    path = shard_dir / METADATA_NAME
    try:
        with pq.ParquetFile(path) as file:
            before = file.schema_arrow.metadata or {}
            others = {key: value for key, value in before.items() if key not in (CONSENT_KEY, CONSENT_SHA256_KEY)}
            wanted = others | consent_metadata(consent)
            if wanted == before:
                return
            table = file.read()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not readable ({str(error).splitlines()[0]}); prepare this identity again") from error
    with whole_file(path) as target:
        pq.write_table(table.replace_schema_metadata(wanted or None), target)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # network and USB drives may know no links
        shutil.copyfile(source, target)


def _vector(
    where: str, name: str, value: ArrayLike, shape: tuple[int, ...], *, allow_nan: bool = False
) -> NDArray[np.float32]:
    array = np.asarray(value, np.float32)
    if array.shape != shape:
        raise DataError(f"{where}: {name} has shape {array.shape}, wanted {shape}")
    if not allow_nan and not np.isfinite(array).all():
        raise DataError(f"{where}: {name} has a NaN or infinite value")
    return array.reshape(-1)
