"""The faces of a clip: found in every frame, followed from take to take, and cut out by steady boxes.

Training (`data_partition/preparation/clip.py`) and reenactment (`reenact/faces.py`) take them from here alone, so that
a network is used on crops like those it was trained on. A clip is decoded twice, photos three times: `track_faces`
keeps no picture, `cut_faces` holds one; memory grows by the numbers of the faces alone, .8 KB each, 3.8 with meshes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_partition.faces.annotate import FaceAnnotation
from data_partition.faces.clip_annotators import ClipAnnotator, MediaPipeAnnotator
from data_partition.faces.crop import CropBox, crop_and_resize, find_takes, single_image_box, steady_boxes
from data_partition.faces.face_table import FaceRows, FaceTable, Rows
from data_partition.faces.finder import open_finder, quarter_turns
from data_partition.faces.people import Embedding, open_recogniser, others_than_main, split_by_person
from data_partition.faces.sface import unit
from data_partition.sources.layouts import LAYOUTS, annotator_of
from data_partition.sources.records import ClipSource
from data_partition.sources.rejected import Rejected
from data_partition.sources.video import VideoFrame, read_frames

TURN_NAMES = ("nothing", "a quarter turn", "a half turn", "three quarter turns")
TURN_LOOKS = (0, 20, 40, 60)
"""Frames by which the way up is known, counted among those that can be read."""
IDENTITY_EVERY_FRAMES = 5
"""Of the frames with a face, by which it is known who it is; of pictures that are apart all."""
MIN_TAKE_FRAMES = 5
"""Takes with fewer frames are dropped: their frames have no partners. If that were most of a folder's pictures, they
are photos, which do not follow one another: each is cropped by itself, and all are one take."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class TrackedClip:
    """The faces of a clip; its pictures are decoded again when they are needed."""

    source: ClipSource
    num_frames: int
    """Frames that could be decoded."""
    faces: FaceTable
    """Frames without a face are left out."""
    people: Mapping[int, Embedding]
    """Take to the mean embedding of its face, of unit length; empty where SFace is missing or not asked."""
    quarter_turns: int
    """To the left, by which the frames were turned to stand upright."""
    is_cropped: bool
    """Whether the pictures are crops of heads already, used whole: they need not follow one another."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class FaceCrop:
    """Head and shoulders, cut out and resized."""

    image_HWC: NDArray[np.uint8]
    """[S, S, 3] uint8 RGB."""
    annotation: FaceAnnotation
    """In pixels of the crop."""
    picture_HWC: NDArray[np.uint8]
    """[H, W, 3] uint8 RGB, upright: what it was cut out of."""
    box: CropBox
    """Where."""


def track_clip(
    source: ClipSource,
    annotator: ClipAnnotator,
    *,
    on_problem: Callable[[Rejected], None],
    on_frame: Callable[[], None],
) -> TrackedClip:
    """The faces of a clip by `track_faces`, and those of photos once more, each looked at by itself.

    Arguments and errors are as of `track_faces`; of photos frames are told twice, and problems once.
    """
    problems: list[Rejected] = []
    clip = track_faces(source, annotator, on_problem=problems.append, on_frame=on_frame)
    if _shows_photos(clip):
        problems.clear()  # they come again
        source = replace(source, is_apart=True)
        with annotator_of(source).open(source) as anew:
            clip = track_faces(source, anew, on_problem=problems.append, on_frame=on_frame)
    for problem in problems:
        on_problem(problem)
    return clip


def _shows_photos(clip: TrackedClip) -> bool:
    """Whether a folder's pictures are photos and no shot: most of them are in takes too short to use."""
    if clip.is_cropped or not clip.source.path.is_dir():
        return False
    _, num_frames = np.unique(clip.faces.rows["take"], return_counts=True)
    num_in_shots = num_frames[num_frames >= MIN_TAKE_FRAMES].sum()
    return len(clip.faces) > 1 and bool(2 * num_in_shots < len(clip.faces))


def track_faces(
    source: ClipSource,
    annotator: ClipAnnotator,
    *,
    on_problem: Callable[[Rejected], None],
    on_frame: Callable[[], None],
) -> TrackedClip:
    """Find the face in every frame that the source wants looked at, and a box for each that is steady within a take.

    Args:
        source: the clip.
        annotator: a fresh one of this clip; it may carry state from frame to frame.
        on_problem: called for what cannot be read, of pictures and of annotation files.
        on_frame: called after each frame.

    Raises:
        DataError: if the clip cannot be opened.
    """
    spec = LAYOUTS[source.layout]
    turns = 0 if source.annotations or spec.is_cropped else turns_of(source)
    if turns:
        on_problem(_turned_note(source.path, turns))
    recogniser = None if spec.is_cropped else open_recogniser()
    num_frames, found = 0, FaceRows(with_mesh=source.with_mesh)
    identity_F: list[Embedding | None] = []
    step, identity_every = source.step, 1 if source.is_apart or source.knows_each else IDENTITY_EVERY_FRAMES
    is_looked_at = (lambda _, index: index % step == 0) if step > 1 else None
    for frame in read_frames(source.path, on_problem, source.stretch, turns, is_looked_at):
        num_frames += 1
        annotation = annotator.annotate(frame) if frame.index % step == 0 else None
        if annotation is not None:
            is_due = recogniser is not None and len(found) % identity_every == 0
            who = recogniser.embed(frame.image_HWC, annotation.landmarks_KC) if recogniser and is_due else None
            identity_F.append(who)
            found.append(frame.index, frame.timestamp_s, annotation, _size(frame.image_HWC))
        on_frame()
    for problem in annotator.problems():
        on_problem(problem)
    rows = found.finished()
    is_cropped = spec.is_cropped and bool((rows["image_HW"][:, 0] == rows["image_HW"][:, 1]).all())
    if is_cropped or not len(rows):
        rows, identity_F = _in_whole_pictures(rows), []
    else:
        rows, identity_F = (_in_own_boxes if source.is_apart else _in_steady_boxes)(rows, identity_F)
        if source.is_apart or source.knows_each:
            _set_strangers_apart(rows, identity_F)
    return TrackedClip(
        source=source,
        num_frames=num_frames,
        faces=FaceTable(rows),
        people=_people_of(rows["take"], identity_F),
        quarter_turns=turns,
        is_cropped=is_cropped,
    )


def cut_faces(
    clip: TrackedClip, size_px: int, on_problem: Callable[[Rejected], None]
) -> Iterator[tuple[VideoFrame, FaceCrop | None]]:
    """Every frame of a clip in order with its face cut out, or with None and mostly no picture where it has none.

    Args:
        clip: of `track_faces`, with all or some of its faces.
        size_px: side of the crops.
        on_problem: called for pictures that cannot be read.

    Raises:
        DataError: if the clip cannot be opened.
    """
    source, with_face = clip.source, frozenset(clip.faces)
    opens_all = source.path.is_dir() and source.step == 1  # as `track_faces` did: who cannot be read is no frame
    wanted = None if opens_all else lambda _, index: index in with_face
    for frame in read_frames(source.path, on_problem, source.stretch, clip.quarter_turns, wanted):
        face = clip.faces.get(frame.index)
        yield frame, None if face is None else _cut(frame.image_HWC, face.annotation, face.box, size_px)


def face_of_picture(
    image_HWC: NDArray[np.uint8], size_px: int, *, face: int = 0, path: Path, on_problem: Callable[[Rejected], None]
) -> FaceCrop | None:
    """The face of a picture that belongs to no clip, or None if no face is found.

    Args:
        image_HWC: [H, W, 3] uint8 RGB.
        size_px: side of the crop.
        face: number of the face where there are several, from 1 on the left; 0 is the largest.
        path: of the picture, for `on_problem`.
        on_problem: told of a picture that had to be turned, and of several faces.

    Raises:
        DataError: if there are faces, but none of that number.
        WeightsError: if MediaPipe's model file is missing.
    """
    finder = open_finder()
    turns = quarter_turns(finder, [image_HWC]) if finder is not None else 0
    if turns:
        on_problem(_turned_note(path, turns))
        image_HWC = np.ascontiguousarray(np.rot90(image_HWC, turns))
    with MediaPipeAnnotator(is_video=False, face=face, path=path) as annotator:
        annotation = annotator.annotate(VideoFrame(index=0, timestamp_s=0.0, image_HWC=image_HWC))
        for problem in annotator.problems():
            on_problem(problem)
    if annotation is None:
        return None
    return _cut(image_HWC, annotation, single_image_box(annotation.landmarks_KC, _size(image_HWC)), size_px)


def _turned_note(path: Path, turns: int) -> Rejected:
    text = f"not upright: turned by {TURN_NAMES[turns]} to the left; is it right?"
    return Rejected(str(path), text, is_note=True)


def turns_of(source: ClipSource) -> int:
    """Quarter turns to the left after which the clip is upright, by a few of its first frames."""
    finder = open_finder()
    if finder is None:
        return 0
    frames = read_frames(source.path, lambda _: None, source.stretch, wanted=lambda place, _: place in TURN_LOOKS)
    images = (frame.image_HWC for frame in islice(frames, TURN_LOOKS[-1] + 1))
    return quarter_turns(finder, (image_HWC for image_HWC in images if image_HWC.size))


def _in_whole_pictures(rows: Rows) -> Rows:
    """The rows as one take, in boxes that are the pictures, which are square."""
    rows["take"] = 0
    rows["box"][:, :2] = 0
    rows["box"][:, 2] = rows["image_HW"][:, 0]
    return rows


def _in_steady_boxes(rows: Rows, identity_F: list[Embedding | None]) -> tuple[Rows, list[Embedding | None]]:
    """The rows that are in a take, each with it and a steady box, and who is seen in them."""
    take_F = find_takes(rows["landmarks_KC"], rows["frame_index"], rows["image_HW"])
    take_F = split_by_person(take_F, identity_F)
    rows["take"] = take_F
    for take in np.unique(take_F[take_F >= 0]).tolist():
        places = np.flatnonzero(take_F == take)
        some = rows[places[0] : places[-1] + 1]  # a take is a stretch of rows
        boxes = steady_boxes(some["landmarks_KC"], some["timestamp_s"], tuple(some["image_HW"][0].tolist()))
        some["box"] = [(box.left, box.top, box.side) for box in boxes]
    kept = np.flatnonzero(take_F >= 0)
    return rows[kept], [identity_F[place] for place in kept]


def _in_own_boxes(rows: Rows, identity_F: list[Embedding | None]) -> tuple[Rows, list[Embedding | None]]:
    """The rows as one take, each with a box of its own, and who is seen in them."""
    boxes = [single_image_box(row["landmarks_KC"], tuple(row["image_HW"].tolist())) for row in rows]
    rows["box"] = [(box.left, box.top, box.side) for box in boxes]
    rows["take"] = 0
    return rows, identity_F


def _set_strangers_apart(rows: Rows, identity_F: Sequence[Embedding | None]) -> None:
    """Make every row that shows another than most of them do a take of its own."""
    seen = {place: who for place, who in enumerate(identity_F) if who is not None}
    others = sorted(others_than_main(seen, dict.fromkeys(seen, 1)))
    first = int(rows["take"].max()) + 1
    rows["take"][others] = range(first, first + len(others))


def _people_of(take_F: NDArray[np.int32], identity_F: Sequence[Embedding | None]) -> dict[int, Embedding]:
    """Take to the mean embedding of its face, of those where it is seen."""
    seen: dict[int, list[Embedding]] = {}
    for take, who in zip(take_F.tolist(), identity_F, strict=False):
        if who is not None:
            seen.setdefault(take, []).append(who)
    return {take: unit(np.mean(some, axis=0)) for take, some in seen.items()}


def _cut(image_HWC: NDArray[np.uint8], annotation: FaceAnnotation, box: CropBox, size_px: int) -> FaceCrop:
    return FaceCrop(
        image_HWC=crop_and_resize(image_HWC, box, size_px),
        annotation=annotation.moved(lambda points_XC: box.to_crop(points_XC, size_px)),
        picture_HWC=image_HWC,
        box=box,
    )


def _size(image_HWC: NDArray[np.uint8]) -> tuple[int, int]:
    height_px, width_px = image_HWC.shape[:2]
    return height_px, width_px
