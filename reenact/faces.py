"""Face crops at the model's size, from a picture, a shard's frame or a driving clip."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from pathlib import Path

import numpy as np

from data_partition.batches import load_frame
from data_partition.doctor.faces import MIN_SAMPLE_PX
from data_partition.faces import track
from data_partition.faces.face_table import FaceTable, Rows
from data_partition.faces.people import Embedding, others_than_main
from data_partition.faces.sface import SFace, unit
from data_partition.faces.track import FaceCrop, TrackedClip, cut_faces, track_clip, track_faces
from data_partition.shards.shard import FRAMES_NAME, INFO_NAME, Shard, open_shard
from data_partition.sources.layouts import annotator_of
from data_partition.sources.pictures import read_picture
from data_partition.sources.records import ClipSource
from data_partition.sources.rejected import Rejected
from data_partition.sources.video import about_frames
from model.errors import DataError
from model.frames import Frame
from model.landmarks.likeness import likeness_features, nearest, unlikeness
from model.progress import Progress
from reenact.clips.kept_track import keep_track, kept_track
from reenact.clips.steady import Gap, gaps, steadied
from reenact.face_frame import FaceFrame, Place, movement_of
from reenact.movement import FloatArray, Movement, Reference

_AU_WEIGHT = 0.008
"""Half of one action unit's range counts as ten degrees of one angle of the head."""

_BLOCK_FRAMES = 4096
"""Which are compared with the source at once."""
_SHARDS_HELD = 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class ShardFace(FaceFrame):
    """A frame of a shard, with its clip at hand."""

    shard: Shard
    row: int

    def of_clip_like(self, other: FaceFrame) -> ShardFace:
        """The frame of the same clip that is most like another person's face.

        Raises:
            DataError: if its image file is missing or damaged.
        """
        shard, rows = self.shard, np.flatnonzero(self.shard.clip == self.shard.clip[self.row])
        movement = Movement(
            pose_NC=shard.pose_FC[rows],
            au_presence_NA=shard.au_presence_FA[rows],
            au_intensity_NA=np.nan_to_num(shard.au_intensity_FA[rows]),
        )
        features_ND = _likeness(shard.landmarks_FKC[rows], movement, shard.size_px)
        return face_of_shard(shard, int(rows[nearest(features_ND, _likeness_of(other), 1)[0]]), len(self.image_HWC))


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
    return face_of_crop(crop)


def who_is(face: FaceFrame, recogniser: SFace) -> Embedding | None:
    """[128] unit embedding of a picture's face; None for a shard's, who has a name, and for one too small to tell."""
    if face.place is None or face.place.box.side < MIN_SAMPLE_PX:
        return None
    landmarks_KC = face.place.box.to_picture(face.landmarks_KC, len(face.image_HWC))
    return recogniser.embed(face.place.picture_HWC, landmarks_KC)


def face_of_shard(shard: Shard, row: int, size_px: int) -> ShardFace:
    """One frame of a shard, resized.

    Raises:
        DataError: if its image file is missing or damaged.
    """
    frame = load_frame(shard, row, size_px)
    return ShardFace(
        shard=shard,
        row=row,
        image_HWC=np.ascontiguousarray(frame.image_CHW.transpose(1, 2, 0)),
        landmarks_KC=frame.landmarks_KC,
        pose_C=shard.pose_FC[row],
        au_presence_A=shard.au_presence_FA[row],
        au_intensity_A=np.nan_to_num(shard.au_intensity_FA[row]),
        identity=shard.identity,
        known_NKC=_landmarks_at(shard, size_px),
        irises_EC=frame.irises_EC,
        mesh=shard.mesh(row),
    )


@lru_cache(_SHARDS_HELD)
def _landmarks_at(shard: Shard, size_px: int) -> FloatArray:
    """[F, 68, 2] pixels of all frames of a shard; not copied for each of them."""
    return shard.landmarks_FKC * np.float32(size_px / shard.size_px)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class AnnotatedClip:
    """A clip whose faces are known; frames are decoded again when they are needed, so pictures take no memory."""

    tracked: TrackedClip
    size_px: int
    """Side of the crops."""
    gaps: tuple[Gap, ...]
    """Where no face was found, whether or not `tracked` bridges it."""

    @property
    def num_frames(self) -> int:
        """Frames that could be decoded."""
        return self.tracked.num_frames

    def steadied(self) -> AnnotatedClip:
        """The clip for driving: bridged and smoothed."""
        return replace(self, tracked=steadied(self.tracked))

    def landmarks_NKC(self) -> FloatArray:
        """[N, 68, 2] pixels of the crops, of the N frames with a face."""
        landmarks_NKC = self.tracked.faces.rows["landmarks_KC"].copy()
        for row, face in enumerate(self.tracked.faces.values()):
            landmarks_NKC[row] = face.box.to_crop(face.annotation.landmarks_KC, self.size_px)
        return landmarks_NKC

    def most_like(self, faces: Sequence[FaceFrame]) -> tuple[int, int]:
        """Which face of a person, and index of which frame, are most alike in pose, landmarks and action units.

        Relative motion from there starts from the same face on both sides: nothing of the difference is taken for
        movement.
        """
        landmarks_NKC, rows = self.landmarks_NKC(), self.tracked.faces.rows
        wanted_RD, best = np.stack([_likeness_of(face) for face in faces]), (np.inf, 0, 0)
        for first in range(0, len(rows), _BLOCK_FRAMES):
            block = slice(first, first + _BLOCK_FRAMES)
            features_BD = _likeness(landmarks_NKC[block], _movement_of(rows[block]), self.size_px)
            for face, wanted_D in enumerate(wanted_RD):
                unlikeness_B = unlikeness(features_BD, wanted_D)
                row = int(np.argmin(unlikeness_B))
                best = min(best, (float(unlikeness_B[row]), face, first + row))
        _, face, row = best
        return face, int(rows["frame_index"][row])

    def reference_at(self, index: int) -> Reference:
        """What a frame that has a face shows."""
        face, rows = self.tracked.faces[index], self.tracked.faces.rows
        landmarks_KC = face.box.to_crop(face.annotation.landmarks_KC, self.size_px)
        return Reference(movement=_movement_of(rows[rows["frame_index"] == index]), landmarks_KC=landmarks_KC)

    def image_at(self, index: int) -> Frame:
        """The face crop of a frame that has one; the clip is decoded up to it."""
        crops = cut_faces(self.tracked, self.size_px, lambda _: None)
        return next(crop.image_HWC for frame, crop in crops if frame.index == index and crop is not None)

    def faces(self) -> Iterator[tuple[float, FaceFrame | None]]:
        """Every frame's time in seconds and face crop in order, None where there is no face.

        Where a gap is bridged, the crop shows the last face that was seen: what hides the face now is none of it.
        """
        hidden = {index for gap in self.gaps for index in range(gap.first, gap.last + 1)}
        last: FaceFrame | None = None
        for frame, crop in cut_faces(self.tracked, self.size_px, lambda _: None):
            face = None if crop is None else _face_frame(crop)
            if face is not None and last is not None and frame.index in hidden:
                face = replace(face, image_HWC=last.image_HWC)
            last = face or last
            yield frame.timestamp_s, face

    def of_one_person(self) -> AnnotatedClip:
        """The clip for drawing its person: without the takes that show somebody else than most frames do.

        `prepare` leaves out the same, so that nobody is drawn by another's consent; what is left out is logged. Takes
        too short to tell whom they show are left out with them.
        """
        rows, people = self.tracked.faces.rows, self.tracked.people
        if not people:
            return self
        takes, counts = np.unique(rows["take"], return_counts=True)
        others = others_than_main(people, dict(zip(takes.tolist(), counts.tolist(), strict=True)))
        is_other_N = ~np.isin(rows["take"], list(people.keys() - others))
        if not is_other_N.any():
            return self
        text = (
            f"{is_other_N.sum()} of {len(rows)} frames show somebody else than most do, or too briefly to tell; they "
            "are not drawn from"
        )
        _say(Rejected(str(self.tracked.source.path), text, is_note=True))
        return replace(self, tracked=replace(self.tracked, faces=FaceTable(rows[~is_other_N])))

    def who(self) -> Embedding | None:
        """[128] unit embedding of the clip's person; None where it is not known."""
        takes, counts = np.unique(self.tracked.faces.rows["take"], return_counts=True)
        people = self.tracked.people
        seen = [count * people[take] for take, count in zip(takes.tolist(), counts, strict=True) if take in people]
        return unit(np.sum(seen, axis=0)) if seen else None

    def sources(self) -> Iterator[FaceFrame]:
        """Every frame with a face, with the place where it is cut out."""
        known_NKC = self.landmarks_NKC()
        for _, crop in cut_faces(self.tracked, self.size_px, lambda _: None):
            if crop is not None:
                yield replace(face_of_crop(crop), known_NKC=known_NKC)


def annotate_clip(
    path: Path,
    size_px: int,
    progress: Progress,
    face: int = 0,
    kept: Path | None = None,
    *,
    with_mesh: bool = False,
    most_frames: int | None = None,
) -> AnnotatedClip:
    """Find the face in the frames of a video or folder of pictures, and a steady crop for each take.

    Args:
        path: of the clip.
        size_px: side of the crops.
        progress: called for every frame.
        face: number of the face where there are several, from 1 on the left; 0 is the largest.
        kept: file of the faces of this clip: read if it is there, written otherwise; None for neither.
        with_mesh: whether the faces have their meshes.
        most_frames: of a clip that is drawn from: about as many are looked at, evenly over a clip that has more, and
            show a face, and pictures may be photos that do not follow one another. None, of one that drives, is all.

    Raises:
        DataError: if the clip cannot be read or shows no face at all.
    """
    num_frames, source = about_frames(path), ClipSource(path=path, face=face, with_mesh=with_mesh)
    if most_frames is not None:
        step = max(1, math.ceil(num_frames / most_frames))
        source = replace(source, step=step, knows_each=step > 1 or path.is_dir())
    if kept is not None and kept.is_file():
        clip = kept_track(kept, source)
    else:
        clip = _track(source, num_frames, progress, is_driving=most_frames is None)
        if kept is not None:
            keep_track(kept, clip)
    return AnnotatedClip(tracked=clip, size_px=size_px, gaps=tuple(gaps(clip)))


def _track(source: ClipSource, num_frames: int, progress: Progress, *, is_driving: bool) -> TrackedClip:
    """The faces of a clip of about so many frames, for the progress; whatever drives is in time, photos too."""
    path, numbers, look = source.path, count(1), track_faces if is_driving else track_clip

    def on_frame() -> None:  # photos are looked at twice
        progress(f"Finding the face in {path.name}", min(next(numbers), num_frames or sys.maxsize), num_frames)

    with annotator_of(source).open(source) as annotator:
        clip = look(source, annotator, on_problem=_say, on_frame=on_frame)
    if clip.faces:
        return clip
    if source.step > 1:
        return _track(replace(source, step=1), num_frames, progress, is_driving=is_driving)
    raise DataError(f"{path}: no face found in {clip.num_frames} frames; choose a clip that shows a face")


def _likeness(landmarks_NKC: FloatArray, movement: Movement, size_px: int) -> FloatArray:
    """[N, 164] numbers whose differences say how unlike two frames of perhaps two people are."""
    features_ND = likeness_features(landmarks_NKC, movement.pose_NC, size_px)
    return np.concatenate([features_ND, _AU_WEIGHT * movement.au_intensity_NA], axis=1)


def _likeness_of(face: FaceFrame) -> FloatArray:
    """[164] the same of one face."""
    own_1D = _likeness(face.landmarks_KC[None], movement_of([face]), len(face.image_HWC))
    return own_1D.reshape(-1)


def _say(problem: Rejected) -> None:
    logger.warning("%s", problem)


def _face_frame(crop: FaceCrop) -> FaceFrame:
    return FaceFrame(
        image_HWC=crop.image_HWC,
        landmarks_KC=crop.annotation.landmarks_KC,
        pose_C=crop.annotation.pose_C,
        au_presence_A=crop.annotation.au_presence_A,
        au_intensity_A=np.nan_to_num(crop.annotation.au_intensity_A),
        irises_EC=crop.annotation.irises_EC,
        mesh=None if crop.annotation.mesh is None else crop.annotation.mesh.in_half_sides(len(crop.image_HWC)),
    )


def face_of_crop(crop: FaceCrop) -> FaceFrame:
    """A face with the place where it was cut out."""
    return replace(_face_frame(crop), place=Place(picture_HWC=crop.picture_HWC, box=crop.box))


def _movement_of(rows: Rows) -> Movement:
    return Movement(
        pose_NC=rows["pose_C"],
        au_presence_NA=rows["au_presence_A"],
        au_intensity_NA=np.nan_to_num(rows["au_intensity_A"]),
    )


def _face_of_shard_file(path: Path, size_px: int) -> FaceFrame:
    shard = open_shard(path.parent.parent)
    name = f"{FRAMES_NAME}/{path.name}"
    if name not in shard.file_name:
        raise DataError(f"{path}: not in the metadata of shard {shard.path}; choose a frame that is")
    return face_of_shard(shard, shard.file_name.index(name), size_px)
