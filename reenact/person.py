"""A person as a clip: the frames that show most of somebody, chosen once, and of them the nearest for every result.

Legend: R reference frames, K = 68 landmarks, C coordinates, D numbers of `model.landmarks.likeness`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from data_partition.faces.crop import CropBox
from data_partition.faces.people import SAME_PERSON, Embedding, open_recogniser, others_than_main
from data_partition.faces.sface import SFace
from data_partition.shards.shard import INFO_NAME, Shard, open_shard
from data_partition.sources.video import is_clip
from model.errors import ConfigError
from model.frames import Frame
from model.landmarks.likeness import likeness_features, nearest, spread
from model.progress import Progress
from reenact.detail import cut_detail
from reenact.face_frame import MAX_REFERENCES, FaceFrame
from reenact.faces import ShardFace, annotate_clip, face_of_picture, face_of_shard, who_is
from reenact.guidance import FloatArray

Faces = Callable[[], Iterator[FaceFrame]]
"""Gives the faces of one source from the beginning, as often as it is called."""

_MOST_FRAMES = 600
"""Of a clip of a person that are looked at. 300 of 600 cost 4 % of the sharpness of results: fewer to choose from."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class References:
    """Frames of one person, of one size."""

    frames: tuple[FaceFrame, ...]
    """R >= 1; the first is the most ordinary one."""
    features_RD: FloatArray

    def with_detail(self) -> References:
        """The same frames with their detail, so that results are larger; raises a DataError for one that is gone."""
        return replace(self, frames=tuple(map(_with_detail, self.frames)))

    def where(self, is_wanted: Callable[[FaceFrame], bool]) -> References | None:
        """Those of its frames that are wanted; None if none is."""
        kept = [index for index, face in enumerate(self.frames) if is_wanted(face)]
        chosen = tuple(self.frames[index] for index in kept)
        return replace(self, frames=chosen, features_RD=self.features_RD[kept]) if kept else None

    def nearest(self, target_KC: FloatArray, driving: FaceFrame, num: int, *, held: Sequence[int] = ()) -> list[int]:
        """Which frames are most like a result, the most alike first.

        Args:
            target_KC: [68, 2] pixels, landmarks of the result.
            driving: the frame whose pose and gaze the result has.
            num: of frames, >= 1.
            held: those of the frame before, of a clip.
        """
        size_px = self.frames[0].image_HWC.shape[0]
        irises_EC = driving.irises_in(target_KC)
        irises_1EC = None if irises_EC is None else irises_EC[None]
        wanted_D = likeness_features(target_KC[None], driving.pose_C[None], size_px, irises_1EC)[0]
        return nearest(self.features_RD, wanted_D, num, held=held)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Person(FaceFrame):
    """A person of whom there are several frames; the frame that it is itself stands for them where one is wanted."""

    references: References

    @classmethod
    def of(cls, face: FaceFrame, references: References) -> Person:
        """The person of a frame, to be drawn from the references."""
        return cls(references=references, **{field.name: getattr(face, field.name) for field in fields(FaceFrame)})

    def alone(self) -> FaceFrame:
        """The frame that stands for the person."""
        return FaceFrame(**{field.name: getattr(self, field.name) for field in fields(FaceFrame)})

    def standing(self) -> Sequence[Person]:
        """As in any of the references."""
        return [Person.of(replace(face, identity=self.identity), self.references) for face in self.references.frames]

    def frames_for(self, target_KC: FloatArray, driving: FaceFrame, num: int) -> Sequence[FaceFrame]:
        """Of the references the nearest."""
        return [self.references.frames[index] for index in self.references.nearest(target_KC, driving, num)]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """What one path shows."""

    faces: Faces
    who: Callable[[SFace], Embedding | None] = lambda _: None
    """[128] unit embedding of its person; None where that is not known, and of shards, whose people have names."""


class SteadyChoice:
    """Chooses the sources of one driving frame of a clip after another, without flicker."""

    def __init__(self, source: FaceFrame, num: int) -> None:
        """Start with nothing held; `num` frames are wanted for each."""
        self._source, self._num = source, num
        self._held: list[int] = []

    def next(self, target_KC: FloatArray, driving: FaceFrame) -> Sequence[FaceFrame]:
        """The frames for the next result; arguments as of `FaceFrame.frames_for`."""
        if not isinstance(self._source, Person):
            return self._source.frames_for(target_KC, driving, self._num)
        references = self._source.references
        self._held = references.nearest(target_KC, driving, self._num, held=self._held)
        return [references.frames[index] for index in self._held]


def person_of(
    paths: Sequence[Path], size_px: int, progress: Progress, face: int = 0, *, with_mesh: bool = False
) -> FaceFrame:
    """The person whom pictures, clips, folders of pictures or shards show; of one picture its face alone.

    Args:
        paths: at least one. Of a shard the training frames of its longest clip are taken; several paths are taken
            together.
        size_px: side of the crops.
        progress: called for every frame of a clip.
        face: number of the face where there are several, from 1 on the left; 0 is the largest.
        with_mesh: whether faces of clips have their meshes; those of pictures have them, those of shards if it has.

    Raises:
        ConfigError: if they name different people, files show different ones, or shards and files are mixed.
        DataError: if one cannot be read or shows no face.
    """
    sources = [_source_of(path, size_px, progress, face, with_mesh=with_mesh) for path in paths]
    if len(sources) > 1:
        _require_one_face(paths, sources)
    references = references_from(lambda: chain.from_iterable(source.faces() for source in sources))
    names = sorted({face.identity for face in references.frames})
    if len(names) > 1 and "" in names:
        raise ConfigError(
            f"--source: shards ({', '.join(filter(None, names))}) and other files cannot be mixed; give shards of one "
            "person or files of one person"
        )
    if len(names) > 1:
        raise ConfigError(f"--source: shows {' and '.join(map(repr, names))}, wanted one person")
    first = references.frames[0]
    return first if len(references.frames) == 1 else Person.of(first, references)


def references_from(faces: Faces) -> References:
    """At most `MAX_REFERENCES` of the faces, as different as possible in expression and pose, and sharp, with detail.

    The faces are gone through twice and are not kept, so memory does not grow with their number.
    """
    features_FD, chosen = _most_different(faces())
    kept = {}
    for index, face in enumerate(faces()):
        if index in chosen:
            kept[index] = _with_detail(face)
            if index != chosen[0] and face.place is not None:  # whole pictures are large, and kept of one
                kept[index] = replace(kept[index], place=None)
    return References(frames=tuple(kept[index] for index in chosen), features_RD=features_FD[chosen])


def _with_detail(face: FaceFrame) -> FaceFrame:
    """A face that is larger where it was cut out than the network sees it, or in its shard."""
    if face.place is not None:
        picture_HWC, box = face.place.picture_HWC, face.place.box
    elif isinstance(face, ShardFace):
        picture_HWC = face.shard.read_frame(face.row)
        box = CropBox(left=0, top=0, side=len(picture_HWC))
    else:
        return face
    return replace(face, detail_HWC=cut_detail(picture_HWC, box, len(face.image_HWC)))


def _most_different(faces: Iterator[FaceFrame]) -> tuple[FloatArray, list[int]]:
    """[F, D] of all faces, and which at most `MAX_REFERENCES` to take, the most ordinary one first."""
    features, sharpness = zip(*((_features_of(face), _sharpness(face.image_HWC)) for face in faces), strict=True)
    features_FD = np.stack(features)
    return features_FD, spread(features_FD, np.array(sharpness), MAX_REFERENCES)


def _features_of(face: FaceFrame) -> FloatArray:
    """[D]."""
    irises_1EC = None if face.irises_EC is None else face.irises_EC[None]
    size_px = face.image_HWC.shape[0]
    features_D: FloatArray = likeness_features(face.landmarks_KC[None], face.pose_C[None], size_px, irises_1EC)[0]
    return features_D


def references_of_shard(shard: Shard, clip: str, size_px: int) -> References:
    """The training frames of a clip, or of the clip that has most of them if this one has none; without detail.

    Of a shard that has test frames alone, as those of VoxCeleb's test people, these.

    Raises:
        DataError: if a frame cannot be read.
    """
    is_wanted_F = ~shard.is_test_F | shard.is_test_F.all()
    names, counts = np.unique(shard.clip[is_wanted_F], return_counts=True)
    taken = clip if clip in names else names[counts.argmax()]
    rows = np.flatnonzero(is_wanted_F & (shard.clip == taken))
    features_FD, chosen = _most_different(face_of_shard(shard, int(row), size_px) for row in rows)
    frames = tuple(face_of_shard(shard, int(rows[place]), size_px) for place in chosen)
    return References(frames=frames, features_RD=features_FD[chosen])


def _require_one_face(paths: Sequence[Path], sources: Sequence[_Source]) -> None:
    """Refuse files that show another person than most of them do."""
    recogniser = open_recogniser()
    if recogniser is None:
        return
    people = {
        path: who for path, source in zip(paths, sources, strict=True) if (who := source.who(recogniser)) is not None
    }
    others = others_than_main(people, dict.fromkeys(people, 1))
    if not others:
        return
    main, other = (next(path for path in people if (path in others) == is_other) for is_other in (False, True))
    alike = float(people[main] @ people[other])
    raise ConfigError(
        f"--source: {main} and {other} show different people (likeness {alike:.2f}, wanted {SAME_PERSON:g}); leave one "
        "of them out"
    )


def _source_of(path: Path, size_px: int, progress: Progress, face: int, *, with_mesh: bool) -> _Source:
    if (path / INFO_NAME).is_file():
        shard = open_shard(path)
        references = references_of_shard(shard, "", size_px)
        return _Source(faces=lambda: iter(references.frames))
    if is_clip(path):
        clip = annotate_clip(path, size_px, progress, face, with_mesh=with_mesh, most_frames=_MOST_FRAMES)
        of_one = clip.of_one_person()
        return _Source(faces=of_one.sources, who=lambda _: of_one.who())
    found = face_of_picture(path, size_px, face)
    return _Source(faces=lambda: iter((found,)), who=lambda recogniser: who_is(found, recogniser))


def _sharpness(image_HWC: Frame) -> float:
    """Standard deviation of the Laplacian of the grey picture."""
    grey_HW = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey_HW, cv2.CV_32F).std())
