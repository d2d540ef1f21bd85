"""Who says what the faces of a clip's frames look like: MediaPipe, files of 98 points, OpenFace's CSV files.

Legend: K = 68 landmarks, C coordinates, A = 18 action units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from data_partition.faces.annotate import ANNOTATOR_NAME, ANNOTATOR_VERSION, FaceAnnotation, FaceAnnotator
from data_partition.sources.celebv import PointsTable, read_points
from data_partition.sources.openface import OpenFaceTable, read_openface
from data_partition.sources.records import ClipSource
from data_partition.sources.rejected import Rejected
from data_partition.sources.video import VideoFrame, picture_names
from model.errors import DataError

MIN_CONFIDENCE = 0.5
"""OpenFace's confidence below which a face does not count as found."""

_CSV_REMEDY = "run FeatureExtraction on the clip, without flags that leave columns out"


class ClipAnnotator(Protocol):
    """Annotates the frames of one clip, in their order."""

    def __enter__(self) -> Self:
        """The annotator itself."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release what it holds."""

    def annotate(self, frame: VideoFrame) -> FaceAnnotation | None:
        """The face of the next frame, or None."""
        ...

    def problems(self) -> list[Rejected]:
        """What the annotation files say that could not be used, once all frames were seen."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotatorKind:
    """A way to annotate clips."""

    name: str
    """As shards record it."""
    version: str
    open: Callable[[ClipSource], ClipAnnotator]
    """A fresh annotator of a clip; DataError if a file cannot be used, WeightsError if the model file is missing."""
    needs_model: bool = True
    """Whether it works with MediaPipe's model file."""


class MediaPipeAnnotator:
    """Looks at the frames: a clip is tracked, unrelated pictures are looked at one by one."""

    def __init__(self, *, is_video: bool) -> None:
        """Load the model.

        Raises:
            WeightsError: if the face landmarker file is missing.
        """
        self._annotator = FaceAnnotator(is_video=is_video)
        self._timestamp_ms = -1

    def __enter__(self) -> Self:
        """The annotator itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the model."""
        self._annotator.close()

    def annotate(self, frame: VideoFrame) -> FaceAnnotation | None:
        """The most prominent face."""
        self._timestamp_ms = max(self._timestamp_ms + 1, round(frame.timestamp_s * 1000))
        return self._annotator.detect(frame.image_HWC, self._timestamp_ms)

    def problems(self) -> list[Rejected]:
        """None: there are no files."""
        return []


class PointsAnnotator(MediaPipeAnnotator):
    """Landmarks from CelebV's files of 98 points; head pose and action units, which these do not have, by MediaPipe."""

    def __init__(self, source: ClipSource) -> None:
        """Read the lines of the clip's pictures.

        Raises:
            DataError: if a file cannot be read.
            WeightsError: if the face landmarker file is missing.
        """
        super().__init__(is_video=False)
        wanted = {name.casefold() for name in picture_names(source.path, source.stretch)}
        self._tables: list[PointsTable] = [read_points(path, wanted) for path in source.annotations]
        self._landmarks = {
            name.casefold(): landmarks_KC
            for table in reversed(self._tables)
            for name, landmarks_KC in zip(table.file_name, table.landmarks_NKC, strict=True)
        }
        self._path = source.path
        self._without_line: list[str] = []
        self._outside: list[str] = []

    def annotate(self, frame: VideoFrame) -> FaceAnnotation | None:
        """The file's landmarks, if the picture has a line and a face that MediaPipe finds too."""
        landmarks_KC = self._landmarks.get(frame.name.casefold())
        if landmarks_KC is None:
            self._without_line.append(frame.name)
            return None
        if _is_outside(landmarks_KC, frame.image_HWC):
            self._outside.append(frame.name)
            return None
        face = super().annotate(frame)
        return None if face is None else replace(face, landmarks_KC=landmarks_KC)

    def problems(self) -> list[Rejected]:
        """Unusable lines, pictures without a line, and points that are not in their picture."""
        found = [rejected for table in self._tables for rejected in table.rejected]
        for names, text in (
            (self._without_line, "pictures without a usable line of 98 points"),
            (self._outside, "pictures whose points lie outside of them"),
        ):
            if names:
                found.append(Rejected(str(self._path), f"{len(names)} {text}, {names[0]} among them"))
        return found


class OpenFaceAnnotator:
    """What OpenFace wrote beside the clip; of several faces in a frame the largest."""

    def __init__(self, source: ClipSource) -> None:
        """Read the clip's file, or a file for each picture.

        Raises:
            DataError: if the only file cannot be used, or has no landmarks, pose or action units.
        """
        self._path = source.path
        self._rejected: list[Rejected] = []
        self._by_name: dict[str, Path] = {}
        self._table: OpenFaceTable | None = None
        if len(source.annotations) == 1 and source.annotations[0].stem in (source.path.stem, source.path.name):
            self._table = self._read(source.annotations[0])
        else:
            self._by_name = {path.stem.casefold(): path for path in source.annotations}
        self._rows: dict[int, list[int]] = {}
        if self._table is not None:
            for row, index in enumerate(self._table.frame_index_N.tolist()):
                self._rows.setdefault(index, []).append(row)
        self._num_seen = 0
        self._num_outside = 0
        self._without_file: list[str] = []

    def __enter__(self) -> Self:
        """The annotator itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to release."""

    def annotate(self, frame: VideoFrame) -> FaceAnnotation | None:
        """The largest face of the frame's rows."""
        self._num_seen = frame.index + 1
        if self._table is not None:
            return self._largest(self._table, self._rows.get(frame.index, []), frame)
        path = self._by_name.get(Path(frame.name).stem.casefold())
        if path is None:
            self._without_file.append(frame.name)
            return None
        try:
            table = self._read(path)
        except DataError as error:
            self._rejected.append(Rejected.by_error(path, error))
            return None
        return self._largest(table, list(range(len(table))), frame)

    def problems(self) -> list[Rejected]:
        """Unusable rows and files, and signs that a file belongs to another clip."""
        found = list(self._rejected)
        if self._without_file:
            text = f"{len(self._without_file)} pictures without a CSV file, {self._without_file[0]} among them"
            found.append(Rejected(str(self._path), text))
        if self._num_outside:
            text = f"in {self._num_outside} frames the landmarks lie outside of it; is it this clip's CSV file?"
            found.append(Rejected(str(self._path), text))
        num_told = max(self._rows, default=-1) + 1
        if num_told > self._num_seen:
            text = f"the CSV file tells of {num_told} frames, the clip has {self._num_seen}; is it this clip's?"
            found.append(Rejected(str(self._path), text))
        return found

    def _read(self, path: Path) -> OpenFaceTable:
        table = read_openface(path)
        missing = [
            name
            for name, values in (
                ("landmarks (x_0 to y_67)", table.landmarks_NKC),
                ("pose (pose_Rx, pose_Ry, pose_Rz)", table.pose_NC),
                ("action units (AU01_c to AU45_c)", table.au_presence_NA),
            )
            if np.isnan(values).any()
        ]
        if missing:
            raise DataError(f"{path}: no complete columns of {', '.join(missing)}; {_CSV_REMEDY}")
        self._rejected += [Rejected(f"{path}:{row.line}", row.reason) for row in table.rejected if not row.is_no_face]
        return table

    def _largest(self, table: OpenFaceTable, rows: list[int], frame: VideoFrame) -> FaceAnnotation | None:
        found = [row for row in rows if table.confidence_N[row] >= MIN_CONFIDENCE]
        if not found:
            return None
        row = max(found, key=lambda row: float(np.ptp(table.landmarks_NKC[row], axis=0).max()))
        landmarks_KC = table.landmarks_NKC[row]
        if _is_outside(landmarks_KC, frame.image_HWC):
            self._num_outside += 1
            return None
        return FaceAnnotation(
            landmarks_KC=landmarks_KC,
            pose_C=table.pose_NC[row],
            au_presence_A=table.au_presence_NA[row],
            au_intensity_A=table.au_intensity_NA[row],
            confidence=min(float(table.confidence_N[row]), 1.0),
        )


def _is_outside(landmarks_KC: NDArray[np.float32], image_HWC: NDArray[np.uint8]) -> bool:
    """Whether more than half of the landmarks are not in the picture."""
    height, width = image_HWC.shape[:2]
    is_inside_K = ((landmarks_KC >= -0.5) & (landmarks_KC <= np.array([width, height]) - 0.5)).all(axis=1)
    return bool(is_inside_K.mean() < 0.5)


TRACKING = AnnotatorKind(
    name=ANNOTATOR_NAME, version=ANNOTATOR_VERSION, open=lambda _: MediaPipeAnnotator(is_video=True)
)
"""A clip's face is followed from frame to frame."""
EACH_PICTURE = AnnotatorKind(
    name=ANNOTATOR_NAME, version=ANNOTATOR_VERSION, open=lambda _: MediaPipeAnnotator(is_video=False)
)
"""Every picture is looked at by itself."""
POINT_FILES = AnnotatorKind(name=f"points-98+{ANNOTATOR_NAME}", version=ANNOTATOR_VERSION, open=PointsAnnotator)
"""CelebV's files of 98 points."""
OPENFACE_FILES = AnnotatorKind(name="openface", version="2", open=OpenFaceAnnotator, needs_model=False)
"""OpenFace's CSV files."""
