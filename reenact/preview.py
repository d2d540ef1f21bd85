"""What a run will work with, shown before it: crops, chosen sources, reference frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from data_partition.shards.images import on_white, tabled, write_image
from data_partition.shards.lettering import text_line
from data_partition.sources.video import read_frames
from model.errors import ConfigError
from model.frames import Frame
from reenact.face_frame import FaceFrame, Place
from reenact.faces import AnnotatedClip
from reenact.person import Person

SUFFIXES = (".png", ".jpg", ".jpeg")
_HEIGHT_PX, _THUMBNAIL_PX, _LETTERS_PX, _GAP_PX = 320, 96, 14, 8
_MAX_COLUMNS = 8
_BOX, _POINT = (255, 140, 0), (0, 220, 90)


def check_preview(path: Path) -> None:
    """Refuse a name that is none of a picture.

    Raises:
        ConfigError: naming the suffixes that are.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--preview {path}: wanted a name that ends in {' or '.join(SUFFIXES)}")


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Preview:
    """Pictures of what a run will work with."""

    source: Frame
    """The source's picture with the box that is cut out and the landmarks in it, or its crop alone."""
    sources: tuple[Frame, ...]
    """[S, S, 3] crops that results are drawn from."""
    driving: Frame
    """What drives, in the same way: of a clip the reference frame, or the first face for absolute motion."""
    about_driving: str
    """Which frame that is."""


def preview_of(source: FaceFrame, driving: FaceFrame | AnnotatedClip, reference: int | None) -> Preview:
    """Draw it.

    Args:
        source: the person to draw.
        driving: the picture or clip that drives, as it will be used.
        reference: index of a clip's reference frame; None for absolute motion.
    """
    picture, about = _driving(driving, reference)
    sources = source.references.frames if isinstance(source, Person) else (source,)
    return Preview(
        source=_framed(source),
        sources=tuple(one.image_HWC for one in sources),
        driving=picture,
        about_driving=about,
    )


def write_preview(path: Path, preview: Preview) -> None:
    """Write it as one picture.

    Args:
        path: ends in .png, .jpg or .jpeg; appears whole.
        preview: what to show.
    """
    panels = [
        _titled("Source", preview.source),
        _titled(f"{len(preview.sources)} frame(s) of the source to draw from", _grid(preview.sources)),
        _titled(preview.about_driving, preview.driving),
    ]
    write_image(path, tabled([panels]))


def _driving(driving: FaceFrame | AnnotatedClip, reference: int | None) -> tuple[Frame, str]:
    """Of a picture or a clip, and what it shows."""
    if isinstance(driving, FaceFrame):
        return _framed(driving), "Driving picture"
    index = next(iter(driving.tracked.faces)) if reference is None else reference
    about = f"Driving frame {index}" + ("" if reference is None else ", the reference of relative motion")
    return _frame_of(driving, index), about


def _frame_of(clip: AnnotatedClip, index: int) -> Frame:
    """A frame of the clip with its box and landmarks."""
    tracked, face = clip.tracked, clip.tracked.faces[index]
    frames = read_frames(
        tracked.source.path,
        lambda _: None,
        quarter_turns=tracked.quarter_turns,
        wanted=lambda _, one: one == index,
    )
    picture_HWC = next(frame.image_HWC for frame in frames if frame.index == index)
    return _scaled(_marked(Place(picture_HWC=picture_HWC, box=face.box), face.annotation.landmarks_KC))


def _framed(face: FaceFrame) -> Frame:
    """A face's picture with its box and landmarks, or its crop where the picture is not kept."""
    if face.place is None:
        return _scaled(face.image_HWC)
    points_KC = face.place.box.to_picture(face.landmarks_KC, face.image_HWC.shape[0])
    return _scaled(_marked(face.place, points_KC))


def _marked(place: Place, landmarks_KC: NDArray[np.float32]) -> Frame:
    marked = place.picture_HWC.copy()
    thickness = max(1, round(min(marked.shape[:2]) / 200))
    left, top, side = place.box.left, place.box.top, place.box.side
    cv2.rectangle(marked, (left, top), (left + side - 1, top + side - 1), _BOX, thickness)
    for x, y in np.rint(landmarks_KC).astype(int).tolist():
        cv2.circle(marked, (x, y), thickness, _POINT, -1, cv2.LINE_AA)
    return marked


def _scaled(picture: Frame) -> Frame:
    """As high as the panels are."""
    width_px = max(1, round(picture.shape[1] * _HEIGHT_PX / picture.shape[0]))
    interpolation = cv2.INTER_AREA if picture.shape[0] > _HEIGHT_PX else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (width_px, _HEIGHT_PX), interpolation=interpolation), np.uint8)


def _grid(frames: Sequence[Frame]) -> Frame:
    """Thumbnails in rows."""
    size = (_THUMBNAIL_PX, _THUMBNAIL_PX)
    cells = [np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8) for frame in frames]
    return tabled([cells[start : start + _MAX_COLUMNS] for start in range(0, len(cells), _MAX_COLUMNS)])


def _titled(title: str, picture: Frame) -> Frame:
    """The picture on white under its title."""
    label = text_line(title, size_px=_LETTERS_PX)
    width_px = max(picture.shape[1], label.shape[1]) + _GAP_PX
    return np.concatenate([on_white(one, one.shape[0], width_px) for one in (label, picture)])
