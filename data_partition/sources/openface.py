"""CSV files of OpenFace 2 (FeatureExtraction and FaceLandmarkImg) and of its 0.x and 1.x versions.

Columns are chosen by their stripped names, never by position: their number depends on the version and on the flags
OpenFace was run with. OpenFace itself is for academic use; this only reads what it wrote.

Legend: N usable rows, K = 68 landmarks, C coordinates, A = 18 action units in AU_ORDER.
"""

from __future__ import annotations

import contextlib
import csv
import math
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_partition.sources.numbers import parse_number
from model.batch import AU_ORDER, NUM_LANDMARKS
from model.errors import DataError

_POSE = ("pose_Rx", "pose_Ry", "pose_Rz")
_PRESENCE = tuple(f"AU{au:02d}_c" for au in AU_ORDER)
_INTENSITY = tuple(f"AU{au:02d}_r" for au in AU_ORDER)  # OpenFace has no AU28_r
_UNIT = re.compile("AU[0-9]{1,2}")  # OpenFace 3
_MAX_HEADER = 1 << 16
_LANDMARKS = tuple(f"{axis}_{index}" for index in range(NUM_LANDMARKS) for axis in ("x", "y"))


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that is not in the table."""

    line: int
    """In the file, the header is line 1; of a quoted field with line breaks the last one."""
    reason: str
    is_no_face: bool = False
    """OpenFace says that it found no face; every other row is damaged."""


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

    A row is usable if it has as many fields as the header, all needed ones are numbers in their ranges, and OpenFace
    found a face (`success` is 1, or there is no such column); every other row is listed with its line and reason. Frame
    numbers that never change (a fault of some versions) are replaced by the order of the timestamps, in which rows that
    are not usable count too.

    Raises:
        DataError: if the file cannot be read, is not OpenFace's, or is OpenFace 3's, whose columns of the same names
            are other action units.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            _require_openface(path, header)
            rows = _Rows(header)
            for fields in reader:
                rows.take(reader.line_num, fields)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); wanted a CSV file of OpenFace 2") from error
    return rows.table()


def is_openface_file(path: Path) -> bool:
    """Whether the header of a file has columns as OpenFace of any version names them."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = {name.strip() for name in file.readline(_MAX_HEADER).split(",")}
    except (OSError, UnicodeDecodeError):
        return False
    return bool(names & {*_PRESENCE, *_INTENSITY, *_POSE, "x_0"}) or any(_UNIT.fullmatch(name) for name in names)


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


_WHOLE_NUMBERS = ("frame", "face_id", "face")
_RANGES = (
    {name: (0.0, 2.0**53) for name in _WHOLE_NUMBERS}
    | {"timestamp": (0.0, 1e9), "confidence": (0.0, 1.0), "success": (0.0, 1.0)}
    | dict.fromkeys(_POSE, (-2 * math.pi, 2 * math.pi))
    | dict.fromkeys(_PRESENCE, (0.0, 1.0))
    | dict.fromkeys(_INTENSITY, (0.0, 5.0))
    | dict.fromkeys(_LANDMARKS, (-1e6, 1e6))
)
"""Columns that are read, and what their numbers must lie between; a pose in degrees shows by leaving its range."""


class _Rows:
    """Rows of one file as they come."""

    def __init__(self, header: Sequence[str]) -> None:
        self._num_fields = len(header)
        self._place = {name: header.index(name) for name in _RANGES if name in header}
        self._usable = array("d")  # row after row; a dict a row would take ten times the memory
        self._rejected: list[RejectedRow] = []
        self._frames: list[float] = []
        self._timestamps: list[float] = []

    def take(self, line: int, fields: Sequence[str]) -> None:
        """Add a row, or its reason to the rejected."""
        if not fields:
            return
        for name, seen in (("frame", self._frames), ("timestamp", self._timestamps)):
            with contextlib.suppress(KeyError, IndexError, ValueError):  # a row that is cut short counts too
                seen.append(_number(name, fields[self._place[name]]))
        if len(fields) != self._num_fields:
            self._reject(line, f"{len(fields)} fields, the header has {self._num_fields}")
            return
        try:
            row = {name: _number(name, fields[place]) for name, place in self._place.items()}
        except ValueError as error:
            self._reject(line, str(error))
            return
        if row.get("success", 1.0) == 0:
            self._rejected.append(RejectedRow(line, "no face found (success is 0)", is_no_face=True))
        else:
            self._usable.extend(row.values())

    def _reject(self, line: int, reason: str) -> None:
        self._rejected.append(RejectedRow(line, reason))

    def table(self) -> OpenFaceTable:
        """All rows so far."""
        values_NX = np.array(self._usable, np.float64).reshape(-1, len(self._place))
        columns = dict(zip(self._place, values_NX.T, strict=True))
        zeros, nothing = np.zeros(len(values_NX)), np.full(len(values_NX), np.nan)

        def gathered(names: Sequence[str]) -> NDArray[np.float32]:
            return np.stack([columns.get(name, nothing) for name in names], axis=1).astype(np.float32)

        timestamp_s_N = columns.get("timestamp", zeros).copy()
        return OpenFaceTable(
            frame_index_N=self._frame_index(columns.get("frame", zeros), timestamp_s_N),
            face_id_N=columns.get("face_id", columns.get("face", zeros)).astype(np.int64),
            timestamp_s_N=timestamp_s_N,
            confidence_N=columns["confidence"].copy(),
            pose_NC=np.rad2deg(gathered(_POSE)),
            landmarks_NKC=gathered(_LANDMARKS).reshape(-1, NUM_LANDMARKS, 2),
            au_presence_NA=gathered(_PRESENCE),
            au_intensity_NA=gathered(_INTENSITY),
            rejected=tuple(self._rejected),
        )

    def _frame_index(self, frame_N: NDArray[np.float64], timestamp_s_N: NDArray[np.float64]) -> NDArray[np.int64]:
        """[N] frames from 0; OpenFace counts from 1, or not at all."""
        timestamps = np.unique(self._timestamps)
        if len(set(self._frames)) <= 1 and len(timestamps) > 1:
            return np.searchsorted(timestamps, timestamp_s_N).astype(np.int64)
        first = 1 if self._frames and min(self._frames) >= 1 else 0
        return (frame_N - first).astype(np.int64)


def _number(name: str, text: str) -> float:
    """A field's number.

    Raises:
        ValueError: with the reason, if it is none or out of range.
    """
    try:
        value = parse_number(text)
    except ValueError:
        raise ValueError(f"{name} is {text.strip()!r}, wanted a number") from None
    low, high = _RANGES[name]
    if not low <= value <= high:
        unit = ", radians" if name in _POSE else ""
        raise ValueError(f"{name} is {text.strip()}, wanted {low:g} to {high:g}{unit}")
    if (name in _WHOLE_NUMBERS or name in _PRESENCE or name == "success") and value != int(value):
        raise ValueError(f"{name} is {text.strip()}, wanted a whole number")
    return value
