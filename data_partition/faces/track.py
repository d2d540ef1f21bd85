"""The faces of a clip: found in every frame, followed from take to take, and cut out by steady boxes.

Training (`data_partition/preparation/clip.py`) and reenactment (`reenact/faces.py`) take them from here alone, so that
a network is used on crops like those it was trained on. A clip is decoded twice: `track_faces` keeps no picture,
`cut_faces` holds one; memory does not grow with the length of the clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data_partition.faces.annotate import FaceAnnotation, FaceAnnotator
from data_partition.faces.clip_annotators import ClipAnnotator
from data_partition.faces.crop import CropBox, crop_and_resize, find_takes, single_image_box, steady_boxes
from data_partition.sources.layouts import LAYOUTS
from data_partition.sources.records import ClipSource
from data_partition.sources.rejected import Rejected
from data_partition.sources.video import VideoFrame, read_frames


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class TrackedFace:
    """The face of one frame and where it is cut out."""

    annotation: FaceAnnotation
    """In pixels of the whole picture."""
    take: int
    """Number of the take that the frame belongs to, from 0."""
    box: CropBox


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class TrackedClip:
    """The faces of a clip; its pictures are decoded again when they are needed."""

    source: ClipSource
    num_frames: int
    """Frames that could be decoded."""
    faces: Mapping[int, TrackedFace]
    """Frame index to face, rising; frames without a face are left out."""
    is_cropped: bool
    """Whether the pictures are crops of heads already, used whole: they need not follow one another."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class FaceCrop:
    """Head and shoulders, cut out and resized."""

    image_HWC: NDArray[np.uint8]
    """[S, S, 3] uint8 RGB."""
    annotation: FaceAnnotation
    """In pixels of the crop."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class _Detection:
    frame_index: int
    timestamp_s: float
    image_HW: tuple[int, int]
    annotation: FaceAnnotation

    @classmethod
    def of(cls, frame: VideoFrame, annotation: FaceAnnotation) -> _Detection:
        return cls(
            frame_index=frame.index,
            timestamp_s=frame.timestamp_s,
            image_HW=_size(frame.image_HWC),
            annotation=annotation,
        )


def track_faces(
    source: ClipSource,
    annotator: ClipAnnotator,
    *,
    on_problem: Callable[[Rejected], None],
    on_frame: Callable[[], None],
) -> TrackedClip:
    """Find the face in every frame, and a box for each that is steady within a take.

    Args:
        source: the clip.
        annotator: a fresh one of this clip; it may carry state from frame to frame.
        on_problem: called for what cannot be read, of pictures and of annotation files.
        on_frame: called after each frame.

    Raises:
        DataError: if the clip cannot be opened.
    """
    num_frames, detections = 0, []
    for frame in read_frames(source.path, on_problem, source.stretch):
        num_frames += 1
        annotation = annotator.annotate(frame)
        if annotation is not None:
            detections.append(_Detection.of(frame, annotation))
        on_frame()
    for problem in annotator.problems():
        on_problem(problem)
    are_square = all(found.image_HW[0] == found.image_HW[1] for found in detections)
    is_cropped = LAYOUTS[source.layout].is_cropped and are_square
    faces = _whole_pictures(detections) if is_cropped else _steady(detections)
    return TrackedClip(source=source, num_frames=num_frames, faces=faces, is_cropped=is_cropped)


def cut_faces(
    source: ClipSource, faces: Mapping[int, TrackedFace], size_px: int, on_problem: Callable[[Rejected], None]
) -> Iterator[tuple[VideoFrame, FaceCrop | None]]:
    """Every frame of a clip in order with its face cut out, or with None where `faces` has none.

    Args:
        source: the clip.
        faces: of `track_faces`, all or some.
        size_px: side of the crops.
        on_problem: called for pictures that cannot be read.

    Raises:
        DataError: if the clip cannot be opened.
    """
    for frame in read_frames(source.path, on_problem, source.stretch):
        face = faces.get(frame.index)
        yield frame, None if face is None else _cut(frame.image_HWC, face.annotation, face.box, size_px)


def face_of_picture(image_HWC: NDArray[np.uint8], size_px: int) -> FaceCrop | None:
    """The face of a picture that belongs to no clip, or None if no face is found.

    Args:
        image_HWC: [H, W, 3] uint8 RGB.
        size_px: side of the crop.

    Raises:
        WeightsError: if MediaPipe's model file is missing.
    """
    with FaceAnnotator(is_video=False) as annotator:
        annotation = annotator.detect(image_HWC)
    if annotation is None:
        return None
    return _cut(image_HWC, annotation, single_image_box(annotation.landmarks_KC, _size(image_HWC)), size_px)


def _whole_pictures(detections: list[_Detection]) -> dict[int, TrackedFace]:
    return {
        found.frame_index: TrackedFace(
            annotation=found.annotation, take=0, box=CropBox(left=0, top=0, side=found.image_HW[0])
        )
        for found in detections
    }


def _steady(detections: list[_Detection]) -> dict[int, TrackedFace]:
    if not detections:
        return {}
    landmarks_FKC = np.stack([found.annotation.landmarks_KC for found in detections])
    timestamp_F = np.array([found.timestamp_s for found in detections])
    index_F = np.array([found.frame_index for found in detections])
    take_F = find_takes(landmarks_FKC, index_F, np.array([found.image_HW for found in detections]))
    faces = {}
    for take in range(int(take_F[-1]) + 1):
        rows = np.flatnonzero(take_F == take)
        boxes = steady_boxes(landmarks_FKC[rows], timestamp_F[rows], detections[rows[0]].image_HW)
        for row, box in zip(rows, boxes, strict=True):
            found = detections[row]
            faces[found.frame_index] = TrackedFace(annotation=found.annotation, take=take, box=box)
    return faces


def _cut(image_HWC: NDArray[np.uint8], annotation: FaceAnnotation, box: CropBox, size_px: int) -> FaceCrop:
    landmarks_KC = box.to_crop(annotation.landmarks_KC, size_px)
    return FaceCrop(
        image_HWC=crop_and_resize(image_HWC, box, size_px), annotation=replace(annotation, landmarks_KC=landmarks_KC)
    )


def _size(image_HWC: NDArray[np.uint8]) -> tuple[int, int]:
    height_px, width_px = image_HWC.shape[:2]
    return height_px, width_px
