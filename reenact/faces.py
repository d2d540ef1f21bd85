"""Face crops at the model's size, from a picture, a shard's frame or a driving clip."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from data_partition.batches import load_frame
from data_partition.faces.annotate import FaceAnnotation, FaceAnnotator
from data_partition.faces.crop import CropBox, crop_and_resize, find_takes, single_image_box, steady_boxes
from data_partition.shards.images import read_image
from data_partition.shards.shard import FRAMES_NAME, INFO_NAME, Shard, open_shard
from data_partition.sources.video import FOLDER_RATE_HZ, count_frames, read_frames
from model.errors import DataError
from model.frames import Frame
from reenact.guidance import FloatArray
from reenact.reenactor import FaceFrame

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many frames are done, and how many there are (0 if unknown)."""


def face_of_picture(path: Path, size_px: int) -> FaceFrame:
    """The face in a picture file.

    A frame of a shard is taken as it is, with the shard's annotation and identity; any other picture is
    annotated and cropped to head and shoulders.

    Raises:
        DataError: if the file is no picture or shows no face.
    """
    if path.parent.name == FRAMES_NAME and (path.parent.parent / INFO_NAME).is_file():
        return _face_of_shard_file(path, size_px)
    image = read_image(path)
    with FaceAnnotator(is_video=False) as annotator:
        annotation = annotator.detect(image)
    if annotation is None:
        raise DataError(f"{path}: no face found; choose a picture with one clearly visible face")
    box = single_image_box(annotation.landmarks_KC, _size_HW(image))
    return _crop(image, annotation, box, size_px)


def face_of_shard(shard: Shard, row: int, size_px: int) -> FaceFrame:
    """One frame of a shard, resized.

    Raises:
        DataError: if its image file is missing or damaged.
    """
    frame = load_frame(shard, row, size_px)
    return FaceFrame(
        image_HWC=np.ascontiguousarray(frame.image_CHW.transpose(1, 2, 0)),
        landmarks_KC=frame.landmarks_KC,
        pose_C=shard.pose_FC[row],
        au_presence_A=shard.au_presence_FA[row],
        identity=shard.identity,
    )


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class DrivingClip:
    """An annotated clip; frames are decoded again when they are needed, so its length does not matter."""

    path: Path
    size_px: int
    num_frames: int
    annotations: dict[int, FaceAnnotation]
    """Frame index to annotation, frames without a face left out."""
    boxes: dict[int, CropBox]
    """Frame index to crop."""

    @property
    def frame_rate_hz(self) -> Fraction:
        """Frames a second."""
        if self.path.is_dir():
            return Fraction(FOLDER_RATE_HZ)
        with av.open(str(self.path)) as container:
            return container.streams.video[0].average_rate or Fraction(FOLDER_RATE_HZ)

    def landmarks_NKC(self) -> FloatArray:
        """[N, 68, 2] pixels of the crops, of the N frames with a face."""
        return np.stack(
            [self.boxes[i].to_crop(face.landmarks_KC, self.size_px) for i, face in self.annotations.items()]
        )

    def faces(self) -> Iterator[FaceFrame | None]:
        """Every frame's face crop in order, None where there is no face."""
        for frame in read_frames(self.path, logger.warning):
            annotation = self.annotations.get(frame.index)
            if annotation is None:
                yield None
            else:
                yield _crop(frame.image_HWC, annotation, self.boxes[frame.index], self.size_px)


def annotate_clip(path: Path, size_px: int, progress: Progress) -> DrivingClip:
    """Find the face in every frame of a video or folder of pictures, and a steady crop for each take.

    Raises:
        DataError: if the clip cannot be read or shows no face at all.
    """
    num_announced = count_frames(path)
    detections: list[_Detection] = []
    num_frames, timestamp_ms = 0, -1
    with FaceAnnotator(is_video=True) as annotator:
        for frame in read_frames(path, logger.warning):
            timestamp_ms = max(timestamp_ms + 1, round(1000 * frame.timestamp_s))
            face = annotator.detect(frame.image_HWC, timestamp_ms)
            if face is not None:
                detections.append(_Detection(frame.index, frame.timestamp_s, _size_HW(frame.image_HWC), face))
            num_frames += 1
            progress("Finding the face", num_frames, num_announced)
    if not detections:
        raise DataError(f"{path}: no face found in {num_frames} frames; choose a clip that shows a face")
    return DrivingClip(
        path=path,
        size_px=size_px,
        num_frames=num_frames,
        annotations={detection.frame_index: detection.face for detection in detections},
        boxes=_steady_boxes(detections),
    )


class _Detection(NamedTuple):
    frame_index: int
    timestamp_s: float
    image_HW: tuple[int, int]
    face: FaceAnnotation


def _steady_boxes(detections: list[_Detection]) -> dict[int, CropBox]:
    """Frame index to the crop of each detection: steady within a take."""
    index_F = np.array([detection.frame_index for detection in detections])
    time_F = np.array([detection.timestamp_s for detection in detections])
    size_FHW = np.array([detection.image_HW for detection in detections])
    landmarks_FKC = np.stack([detection.face.landmarks_KC for detection in detections])
    take_F = find_takes(landmarks_FKC, index_F, size_FHW)
    boxes: dict[int, CropBox] = {}
    for take in np.unique(take_F):
        rows = np.flatnonzero(take_F == take)
        steady = steady_boxes(landmarks_FKC[rows], time_F[rows], detections[rows[0]].image_HW)
        boxes.update(zip(index_F[rows].tolist(), steady, strict=True))
    return boxes


def _size_HW(image: Frame) -> tuple[int, int]:
    height, width = image.shape[:2]
    return height, width


def _crop(image: Frame, annotation: FaceAnnotation, box: CropBox, size_px: int) -> FaceFrame:
    return FaceFrame(
        image_HWC=crop_and_resize(image, box, size_px),
        landmarks_KC=box.to_crop(annotation.landmarks_KC, size_px),
        pose_C=annotation.pose_C,
        au_presence_A=annotation.au_presence_A,
    )


def _face_of_shard_file(path: Path, size_px: int) -> FaceFrame:
    shard = open_shard(path.parent.parent)
    name = f"{FRAMES_NAME}/{path.name}"
    if name not in shard.file_name:
        raise DataError(f"{path}: not in the metadata of shard {shard.path}; choose a frame that is")
    return face_of_shard(shard, shard.file_name.index(name), size_px)
