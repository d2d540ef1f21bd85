"""One picture that shows before a run what it will work with: crops, chosen sources, reference frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from data_partition.shards.images import on_white, tabled, write_image
from data_partition.shards.lettering import text_line
from data_partition.sources.video import read_frames
from model.errors import ConfigError
from model.frames import Frame
from reenact.faces import AnnotatedClip
from reenact.person import Person
from reenact.reenactor import FaceFrame, Place

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


def write_preview(path: Path, source: FaceFrame, clip: AnnotatedClip, reference: int | None) -> None:
    """Draw and write it.

    Args:
        path: ends in .png, .jpg or .jpeg; appears whole.
        source: the person to draw.
        clip: what drives, as it will be used.
        reference: index of its reference frame; None for absolute motion, of which the first face is shown.
    """
    index = next(iter(clip.tracked.faces)) if reference is None else reference
    title = f"Driving frame {index}" + ("" if reference is None else ", the reference of relative motion")
    driving = _driving(clip, index)
    sources = source.references.frames if isinstance(source, Person) else (source,)
    panels = [
        _titled("Source", _framed(source, source.landmarks_KC)),
        _titled(f"{len(sources)} frame(s) of the source to draw from", _grid([one.image_HWC for one in sources])),
        _titled(title, driving),
    ]
    write_image(path, tabled([panels]))


def _driving(clip: AnnotatedClip, index: int) -> Frame:
    """A frame of the clip with its box and landmarks."""
    tracked, face = clip.tracked, clip.tracked.faces[index]
    frames = read_frames(tracked.source.path, lambda _: None, quarter_turns=tracked.quarter_turns)
    picture_HWC = next(frame.image_HWC for frame in frames if frame.index == index)
    return _scaled(_marked(Place(picture_HWC=picture_HWC, box=face.box), face.annotation.landmarks_KC))


def _framed(source: FaceFrame, landmarks_KC: NDArray[np.float32]) -> Frame:
    """The source's picture with its box and landmarks, or its crop where the picture is not kept."""
    if source.place is None:
        return _scaled(source.image_HWC)
    box, size_px = source.place.box, source.image_HWC.shape[0]
    return _scaled(_marked(source.place, box.to_picture(landmarks_KC, size_px)))


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
