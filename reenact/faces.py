"""Face crops at the model's size, from a picture, a shard's frame or a driving clip."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path

import numpy as np

from data_partition.batches import load_frame
from data_partition.faces import track
from data_partition.faces.track import FaceCrop, TrackedClip, cut_faces, track_faces
from data_partition.shards.shard import FRAMES_NAME, INFO_NAME, Shard, open_shard
from data_partition.sources.layouts import annotator_of
from data_partition.sources.pictures import read_picture
from data_partition.sources.records import ClipSource
from data_partition.sources.rejected import Rejected
from data_partition.sources.video import FOLDER_RATE_HZ, count_frames, main_track, open_video
from model.errors import DataError
from model.progress import Progress
from reenact.guidance import FloatArray, Movement, Rest
from reenact.reenactor import FaceFrame

logger = logging.getLogger(__name__)


def face_of_picture(path: Path, size_px: int, face: int = 0) -> FaceFrame:
    """The face in a picture file.

    A frame of a shard is taken as it is, with the shard's annotation and identity; any other picture is
    annotated and cropped to head and shoulders; what had to be turned or chosen is logged.

    Args:
        path: of the picture.
        size_px: side of the crop.
        face: number of the face where there are several, from 1 on the left; 0 is the largest.

    Raises:
        DataError: if the file is no picture, shows no face, or none of that number.
    """
    if path.parent.name == FRAMES_NAME and (path.parent.parent / INFO_NAME).is_file():
        return _face_of_shard_file(path, size_px)
    crop = track.face_of_picture(read_picture(path), size_px, face=face, path=path, on_problem=_say)
    if crop is None:
        raise DataError(f"{path}: no face found; choose a picture with one clearly visible face")
    return _face_frame(crop)


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
        au_intensity_A=np.nan_to_num(shard.au_intensity_FA[row]),
        identity=shard.identity,
    )


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class DrivingClip:
    """An annotated clip; frames are decoded again when they are needed, so its length does not matter."""

    tracked: TrackedClip
    size_px: int
    """Side of the crops."""

    @property
    def frame_rate_hz(self) -> Fraction:
        """Frames a second."""
        path = self.tracked.source.path
        if path.is_dir():
            return Fraction(FOLDER_RATE_HZ)
        with open_video(path) as container:
            return main_track(path, container).average_rate or Fraction(FOLDER_RATE_HZ)

    @property
    def num_frames(self) -> int:
        """Frames that could be decoded."""
        return self.tracked.num_frames

    @property
    def num_without_face(self) -> int:
        """Frames in which no face was found."""
        return self.tracked.num_frames - len(self.tracked.faces)

    def landmarks_NKC(self) -> FloatArray:
        """[N, 68, 2] pixels of the crops, of the N frames with a face."""
        faces = self.tracked.faces.values()
        return np.stack([face.box.to_crop(face.annotation.landmarks_KC, self.size_px) for face in faces])

    def rest(self) -> Rest:
        """Medians over the frames with a face."""
        annotations = [face.annotation for face in self.tracked.faces.values()]
        movement = Movement(
            pose_NC=np.stack([one.pose_C for one in annotations]),
            au_presence_NA=np.stack([one.au_presence_A for one in annotations]),
            au_intensity_NA=np.nan_to_num(np.stack([one.au_intensity_A for one in annotations])),
        )
        return Rest.of(movement, self.landmarks_NKC())

    def faces(self) -> Iterator[tuple[float, FaceFrame | None]]:
        """Every frame's time in seconds and face crop in order, None where there is no face."""
        for frame, crop in cut_faces(self.tracked, self.size_px, lambda _: None):
            yield frame.timestamp_s, None if crop is None else _face_frame(crop)


def annotate_clip(path: Path, size_px: int, progress: Progress, face: int = 0) -> DrivingClip:
    """Find the face in every frame of a video or folder of pictures, and a steady crop for each take.

    Raises:
        DataError: if the clip cannot be read or shows no face at all.
    """
    source, num_announced, numbers = ClipSource(path=path, face=face), count_frames(path), count(1)
    with annotator_of(source).open(source) as annotator:
        clip = track_faces(
            source,
            annotator,
            on_problem=_say,
            on_frame=lambda: progress("Finding the face", next(numbers), num_announced),
        )
    if not clip.faces:
        raise DataError(f"{path}: no face found in {clip.num_frames} frames; choose a clip that shows a face")
    return DrivingClip(tracked=clip, size_px=size_px)


def _say(problem: Rejected) -> None:
    logger.warning("%s", problem)


def _face_frame(crop: FaceCrop) -> FaceFrame:
    return FaceFrame(
        image_HWC=crop.image_HWC,
        landmarks_KC=crop.annotation.landmarks_KC,
        pose_C=crop.annotation.pose_C,
        au_presence_A=crop.annotation.au_presence_A,
        au_intensity_A=np.nan_to_num(crop.annotation.au_intensity_A),
    )


def _face_of_shard_file(path: Path, size_px: int) -> FaceFrame:
    shard = open_shard(path.parent.parent)
    name = f"{FRAMES_NAME}/{path.name}"
    if name not in shard.file_name:
        raise DataError(f"{path}: not in the metadata of shard {shard.path}; choose a frame that is")
    return face_of_shard(shard, shard.file_name.index(name), size_px)
