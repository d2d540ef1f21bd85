"""Who says what the faces of a clip's frames look like: MediaPipe, files of 98 points, OpenFace's CSV files.

Legend: K = 68 landmarks, C coordinates, A = 18 action units.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from data_partition.faces.annotate import ANNOTATOR_NAME, ANNOTATOR_VERSION, FaceAnnotation, FaceAnnotator
from data_partition.faces.crop import CropBox
from data_partition.faces.finder import chosen, open_finder
from data_partition.sources.celebv import PointsTable, read_points
from data_partition.sources.openface import OpenFaceTable, read_openface
from data_partition.sources.records import ClipSource
from data_partition.sources.rejected import Rejected
from data_partition.sources.video import VideoFrame, picture_names
from model.errors import DataError

MIN_CONFIDENCE = 0.5
"""OpenFace's confidence below which a face does not count as found."""

MAX_LAG_S, MAX_LAG_SHARE = 0.25, 0.1
"""By which OpenFace's time of a frame may differ from the clip's: so much, and so much of the time."""
WINDOW_TO_FACE = 2.5
"""Side of the window in heights of the face."""
MIN_WINDOW_PX = 16
LOOK_EVERY_FRAMES = 10
"""While no face is found, all of the picture is looked at once in so many frames."""

OPENFACE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
"""Of the pictures that OpenFace takes from a folder, written so."""

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
    """Whether it works with MediaPipe's model file, and so has meshes."""

    def keeping_meshes(self) -> AnnotatorKind:
        """The same where meshes are kept: another version, so that shards without are prepared again."""
        return replace(self, version=f"{self.version}+mesh")


class MediaPipeAnnotator:
    """Looks at the frames: a clip is tracked, unrelated pictures are looked at one by one.

    A face that is small in the picture, or one among several, is looked at through a window that follows it.
    """

    def __init__(self, *, is_video: bool, face: int = 0, path: Path = Path()) -> None:
        """Load the models.

        Args:
            is_video: whether the frames are one clip.
            face: number of the face in a frame with several, from 1 on the left; 0 is the largest.
            path: of the clip, for `problems`.

        Raises:
            WeightsError: if the face landmarker file is missing.
        """
        self._is_video, self._face, self._path = is_video, face, path
        self._annotator = FaceAnnotator(is_video=is_video)
        self._finder = open_finder()
        self._window: CropBox | None = None
        self._last_centre_C: NDArray[np.floating] | None = None
        self._told_centre_C: NDArray[np.floating] | None = None
        self._frames_to_look = 0
        self._timestamp_ms = -1
        self._num_faces = 0
        self._note = ""

    @classmethod
    def of(cls, source: ClipSource, *, is_video: bool) -> MediaPipeAnnotator:
        """For a clip, followed or picture by picture; errors as of the constructor."""
        return MediaPipeAnnotator(is_video=is_video, face=source.face, path=source.path)

    def __enter__(self) -> Self:
        """The annotator itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the model."""
        self._annotator.close()

    def annotate(self, frame: VideoFrame) -> FaceAnnotation | None:
        """The chosen face, or the most prominent one.

        Raises:
            DataError: if a picture that is no clip has no face of the wanted number.
        """
        self._timestamp_ms = max(self._timestamp_ms + 1, round(frame.timestamp_s * 1000))
        if not self._is_video:
            self._look_through(None)
            self._look_around(frame, has_face=True)
        found = self._through_window(frame.image_HWC)
        if found is None and self._finder is not None:
            self._frames_to_look -= 1
            if self._frames_to_look < 0 and self._look_around(frame, has_face=False):
                found = self._through_window(frame.image_HWC)
        elif self._is_video and self._last_centre_C is None and self._look_around(frame, has_face=True):
            found = self._through_window(frame.image_HWC)  # the first face of the clip is chosen, not MediaPipe's own
        if found is not None:
            if self._last_centre_C is None:
                self._check_number(frame)
            self._follow(found)
        return found

    def problems(self) -> list[Rejected]:
        """That there are several faces, or fewer than the wanted one's number."""
        return [Rejected(str(self._path), self._note, is_note=True)] if self._note else []

    def _check_number(self, frame: VideoFrame) -> None:
        """Whether the frame whose face is followed from now on has as many faces as are wanted."""
        num_faces = max(1, self._num_faces)
        if self._face <= num_faces:
            return
        found = f"{num_faces} faces" if num_faces > 1 else "1 face"
        text = f"found {found}, number {self._face} from the left was asked for"
        if not self._is_video:
            raise DataError(f"{self._path}: {text}; choose a number up to {num_faces}, or 0 for the largest")
        self._note = f"frame {frame.index}: {text}; the largest is used"

    def _look_around(self, frame: VideoFrame, *, has_face: bool) -> bool:
        """Set the window by all faces of a frame; whether it changed.

        Args:
            frame: to look at.
            has_face: whether the whole picture may do for a single face.
        """
        faces = self._finder.find(frame.image_HWC) if self._finder is not None else []
        self._num_faces = len(faces)
        self._frames_to_look = 0 if faces else LOOK_EVERY_FRAMES
        if not faces or (has_face and len(faces) == 1):
            self._look_through(None)
            return False
        face = chosen(faces, self._face)
        near_C = self._last_centre_C if self._is_video else self._told_centre_C
        if near_C is not None:
            face = min(faces, key=lambda one: float(np.linalg.norm(np.array(one.centre) - near_C)))
        if len(faces) > 1 and not self._note:
            self._note = (
                f"{len(faces)} faces in frame {frame.index}; number {faces.index(face) + 1} from the left is used, "
                "the others are left out"
            )
        side = round(WINDOW_TO_FACE * max(face.width, face.height))
        x, y = face.centre
        self._look_through(CropBox(left=round(x - side / 2), top=round(y - side / 2), side=side))
        return True

    def _look_through(self, window: CropBox | None) -> None:
        """Change the window; tracking starts anew, since landmarks smoothed over the change would lie beside."""
        if window == self._window:
            return
        self._window = window
        if self._is_video:
            self._annotator.close()
            self._annotator = FaceAnnotator(is_video=True)

    def _through_window(self, image_HWC: NDArray[np.uint8]) -> FaceAnnotation | None:
        if self._window is None:
            return self._annotator.detect(image_HWC, self._timestamp_ms)
        height_px, width_px = image_HWC.shape[:2]
        left, top = max(self._window.left, 0), max(self._window.top, 0)
        right, bottom = (
            min(self._window.left + self._window.side, width_px),
            min(self._window.top + self._window.side, height_px),
        )
        if right - left < MIN_WINDOW_PX or bottom - top < MIN_WINDOW_PX:
            return None
        found = self._annotator.detect(image_HWC[top:bottom, left:right], self._timestamp_ms)
        if found is None:
            return None
        return found.moved(lambda points_XC: points_XC + np.array([left, top], np.float32))

    def _follow(self, found: FaceAnnotation) -> None:
        """Move the window when the face nears its border."""
        low_C, high_C = found.landmarks_KC.min(axis=0), found.landmarks_KC.max(axis=0)
        self._last_centre_C = (low_C + high_C) / 2
        self._frames_to_look = 0
        if self._window is None or not self._is_video:
            return
        middle_C = np.array([self._window.left, self._window.top]) + self._window.side / 2
        size = float((high_C - low_C).max())
        if np.abs(self._last_centre_C - middle_C).max() > self._window.side / 4 or size > self._window.side / 2:
            side = round(WINDOW_TO_FACE * size)
            left, top = np.rint(self._last_centre_C - side / 2).astype(int).tolist()
            self._look_through(CropBox(left=left, top=top, side=side))


class PointsAnnotator(MediaPipeAnnotator):
    """Landmarks from CelebV's files of 98 points; head pose and action units, which these do not have, by MediaPipe.

    Of several faces the one at the file's landmarks is looked at.
    """

    def __init__(self, source: ClipSource) -> None:
        """Read the lines of the clip's pictures.

        Raises:
            DataError: if a file cannot be read.
            WeightsError: if the face landmarker file is missing.
        """
        super().__init__(is_video=False, path=source.path)
        wanted = {name.casefold() for name in picture_names(source.path, source.stretch)}
        self._tables: list[PointsTable] = [read_points(path, wanted) for path in source.annotations]
        self._landmarks = {
            name.casefold(): landmarks_KC
            for table in reversed(self._tables)
            for name, landmarks_KC in zip(table.file_name, table.landmarks_NKC, strict=True)
        }
        self._without_line: list[str] = []
        self._outside: list[str] = []
        self._elsewhere: list[str] = []

    def annotate(self, frame: VideoFrame) -> FaceAnnotation | None:
        """The file's landmarks, if the picture has a line and MediaPipe finds a face there too."""
        landmarks_KC = self._landmarks.get(frame.name.casefold())
        if landmarks_KC is None:
            self._without_line.append(frame.name)
            return None
        if _is_outside(landmarks_KC, frame.image_HWC):
            self._outside.append(frame.name)
            return None
        self._told_centre_C = (landmarks_KC.min(axis=0) + landmarks_KC.max(axis=0)) / 2
        face = super().annotate(frame)
        if face is not None and not _do_overlap(face.landmarks_KC, landmarks_KC):
            self._elsewhere.append(frame.name)
            return None
        return None if face is None else replace(face, landmarks_KC=landmarks_KC)

    def problems(self) -> list[Rejected]:
        """Unusable lines, pictures without a line, points outside of their picture or on no face, several faces."""
        found = [rejected for table in self._tables for rejected in table.rejected]
        for names, text in (
            (self._without_line, "pictures without a usable line of 98 points"),
            (self._outside, "pictures whose points lie outside of them"),
            (self._elsewhere, "pictures whose points do not lie on the face that is found there"),
        ):
            if names:
                found.append(Rejected(str(self._path), f"{len(names)} {text}, {names[0]} among them"))
        return found + super().problems()


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
        self._place = _openface_places(source.path) if source.path.is_dir() else {}
        self._passed_over: list[str] = []
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
        """The largest face of the frame's rows.

        Raises:
            DataError: if the file tells another time of the frame than the clip.
        """
        if self._table is not None:
            index = self._place.get(frame.name) if frame.name else frame.index
            if index is None:
                self._passed_over.append(frame.name)
                return None
            self._num_seen = max(self._num_seen, index + 1)
            rows = self._rows.get(index, [])
            self._require_same_time(self._table, rows, frame)
            return self._largest(self._table, rows, frame)
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
        if self._passed_over:
            wanted = " ".join(OPENFACE_SUFFIXES)
            text = f"{len(self._passed_over)} pictures that OpenFace passes over, {self._passed_over[0]} among them"
            found.append(Rejected(str(self._path), f"{text}; it takes {wanted}, in small letters"))
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

    def _require_same_time(self, table: OpenFaceTable, rows: list[int], frame: VideoFrame) -> None:
        """That a video's frame is shown when its rows say; pictures in a folder have no times."""
        told_s = float(table.timestamp_s_N[rows[0]]) if rows and not frame.name else 0.0
        if told_s and abs(told_s - frame.timestamp_s) > MAX_LAG_S + MAX_LAG_SHARE * frame.timestamp_s:
            raise DataError(
                f"{self._path}: frame {frame.index} is shown at {frame.timestamp_s:.2f} s, its CSV file says "
                f"{told_s:.2f} s; it is of a copy with another frame rate, run FeatureExtraction on this one"
            )

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


def _openface_places(folder: Path) -> dict[str, int]:
    """Name of each picture that OpenFace takes from a folder to its place there: "10.jpg" comes before "2.jpg"."""
    names = [name for name in picture_names(folder) if Path(name).suffix in OPENFACE_SUFFIXES]
    return {name: place for place, name in enumerate(sorted(names, key=os.fsencode))}


def _is_outside(landmarks_KC: NDArray[np.float32], image_HWC: NDArray[np.uint8]) -> bool:
    """Whether more than half of the landmarks are not in the picture."""
    height, width = image_HWC.shape[:2]
    is_inside_K = ((landmarks_KC >= -0.5) & (landmarks_KC <= np.array([width, height]) - 0.5)).all(axis=1)
    return bool(is_inside_K.mean() < 0.5)


def _do_overlap(one_KC: NDArray[np.float32], other_KC: NDArray[np.float32]) -> bool:
    """Whether the boxes around two faces' landmarks have a part in common."""
    low_C = np.maximum(one_KC.min(axis=0), other_KC.min(axis=0))
    high_C = np.minimum(one_KC.max(axis=0), other_KC.max(axis=0))
    return bool((low_C < high_C).all())


TRACKING = AnnotatorKind(
    name=ANNOTATOR_NAME,
    version=ANNOTATOR_VERSION,
    open=partial(MediaPipeAnnotator.of, is_video=True),
)
"""A clip's face is followed from frame to frame."""
EACH_PICTURE = AnnotatorKind(
    name=ANNOTATOR_NAME,
    version=f"{ANNOTATOR_VERSION}+apart",
    open=partial(MediaPipeAnnotator.of, is_video=False),
)
"""Every picture is looked at by itself."""
POINT_FILES = AnnotatorKind(
    name=f"points-98+{ANNOTATOR_NAME}", version=f"{ANNOTATOR_VERSION}+apart", open=PointsAnnotator
)
"""CelebV's files of 98 points."""
OPENFACE_FILES = AnnotatorKind(name="openface", version="2+order", open=OpenFaceAnnotator, needs_model=False)
"""OpenFace's CSV files."""
