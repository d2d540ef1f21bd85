"""CSV files of OpenFace 2 (FeatureExtraction and FaceLandmarkImg) and of its 0.x and 1.x versions.

Columns are chosen by their stripped names, never by position: their number depends on the version and on the flags
OpenFace was run with. OpenFace itself is for academic use; this only reads what it wrote.

Legend: N usable rows, K = 68 landmarks, C coordinates, A = 18 action units in AU_ORDER.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.batch import AU_ORDER, NUM_LANDMARKS
from model.errors import DataError

_POSE = ("pose_Rx", "pose_Ry", "pose_Rz")
_PRESENCE = tuple(f"AU{au:02d}_c" for au in AU_ORDER)
_INTENSITY = tuple(f"AU{au:02d}_r" for au in AU_ORDER)  # OpenFace has no AU28_r
_LANDMARKS = tuple(f"{axis}_{index}" for index in range(NUM_LANDMARKS) for axis in ("x", "y"))


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that is not in the table."""

    line: int
    """In the file, the header is line 1."""
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class OpenFaceTable:
    """The usable rows of one file, in its order; what the file has no column for is NaN."""

    frame_index_N: NDArray[np.int64]
    """[N] frame of the clip, from 0. Rows of one frame differ in face_id."""
    face_id_N: NDArray[np.int64]
    """[N] which face of the frame; 0 where the file does not say."""
    timestamp_s_N: NDArray[np.float64]
    """[N] seconds from the start of the clip."""
    confidence_N: NDArray[np.float64]
    """[N] 0 to 1."""
    pose_NC: NDArray[np.float32]
    """[N, 3] pitch, yaw, roll, degrees (the file has radians)."""
    landmarks_NKC: NDArray[np.float32]
    """[N, 68, 2] (x, y) pixels."""
    au_presence_NA: NDArray[np.float32]
    """[N, 18] 0 or 1."""
    au_intensity_NA: NDArray[np.float32]
    """[N, 18] 0 to 5; AU28 is always NaN."""
    rejected: tuple[RejectedRow, ...]

    def __len__(self) -> int:
        """Number of usable rows N."""
        return len(self.frame_index_N)


def read_openface(path: Path) -> OpenFaceTable:
    """Read a CSV file of OpenFace.

    A row is usable if it has as many fields as the header, all needed ones are numbers, and OpenFace found a face
    (`success` is 1, or there is no such column); every other row is listed with its line and reason. Frame numbers that
    never change (a fault of some versions) are replaced by the order of the timestamps.

    Raises:
        DataError: if the file cannot be read, is not OpenFace's, or is OpenFace 3's, whose columns of the same names
            are other action units.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            _require_openface(path, header)
            rows, rejected = _read_rows(reader, header)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); wanted a CSV file of OpenFace 2") from error
    columns = {name: np.array([row[name] for row in rows], np.float64) for name in _wanted(header)}
    return _table(columns, len(rows), tuple(rejected))


def _require_openface(path: Path, header: Sequence[str]) -> None:
    has_units = any(name.startswith("AU") for name in header)
    if "confidence" in header and (has_units or "x_0" in header or _POSE[0] in header):
        return
    if has_units and not set(_PRESENCE) & set(header):
        raise DataError(
            f"{path}: action units without confidence and presence columns, as OpenFace 3 writes them; its AU columns "
            "are other units under the same names. Run OpenFace 2 (FeatureExtraction) on the frames"
        )
    raise DataError(
        f"{path}: no confidence column beside action units, landmarks or pose; wanted a CSV file of OpenFace 2"
    )


def _wanted(header: Sequence[str]) -> list[str]:
    names = ("frame", "face_id", "face", "timestamp", "confidence", "success")
    return [name for name in (*names, *_POSE, *_PRESENCE, *_INTENSITY, *_LANDMARKS) if name in header]


def _read_rows(
    lines: Iterable[Sequence[str]], header: Sequence[str]
) -> tuple[list[Mapping[str, float]], list[RejectedRow]]:
    place = {name: index for index, name in enumerate(header)}
    wanted = _wanted(header)
    rows: list[Mapping[str, float]] = []
    rejected: list[RejectedRow] = []
    for line, fields in enumerate(lines, start=2):
        if not fields:
            continue
        reason = f"{len(fields)} fields, the header has {len(header)}" if len(fields) != len(header) else ""
        row: dict[str, float] = {}
        if not reason:
            row, reason = _parse({name: fields[place[name]] for name in wanted})
        if reason:
            rejected.append(RejectedRow(line, reason))
        else:
            rows.append(row)
    return rows, rejected


def _parse(texts: Mapping[str, str]) -> tuple[dict[str, float], str]:
    """The numbers of a row, and why it cannot be used ("" if it can)."""
    row: dict[str, float] = {}
    for name, text in texts.items():
        try:
            row[name] = float(text)
        except ValueError:
            return {}, f"{name} is {text.strip()!r}, wanted a number"
        if not math.isfinite(row[name]):
            return {}, f"{name} is {text.strip()}"
    return row, "no face found (success is 0)" if row.get("success", 1.0) == 0 else ""


def _table(
    columns: Mapping[str, NDArray[np.float64]], num_rows: int, rejected: tuple[RejectedRow, ...]
) -> OpenFaceTable:
    def gathered(names: Sequence[str]) -> NDArray[np.float32]:
        nothing = np.full(num_rows, np.nan)
        return np.stack([columns.get(name, nothing) for name in names], axis=1).astype(np.float32)

    zeros = np.zeros(num_rows)
    timestamp_s = columns.get("timestamp", zeros)
    return OpenFaceTable(
        frame_index_N=_frame_index(columns.get("frame", zeros), timestamp_s),
        face_id_N=columns.get("face_id", columns.get("face", zeros)).astype(np.int64),
        timestamp_s_N=timestamp_s,
        confidence_N=columns["confidence"],
        pose_NC=np.rad2deg(gathered(_POSE)),
        landmarks_NKC=gathered(_LANDMARKS).reshape(-1, NUM_LANDMARKS, 2),
        au_presence_NA=gathered(_PRESENCE),
        au_intensity_NA=gathered(_INTENSITY),
        rejected=rejected,
    )


def _frame_index(frame_N: NDArray[np.float64], timestamp_s_N: NDArray[np.float64]) -> NDArray[np.int64]:
    """[N] frames from 0; OpenFace counts from 1, or not at all."""
    if len(np.unique(frame_N)) == 1 and len(np.unique(timestamp_s_N)) > 1:
        return np.unique(timestamp_s_N, return_inverse=True)[1].astype(np.int64)
    return (frame_N - (1 if frame_N.size and frame_N.min() >= 1 else 0)).astype(np.int64)
