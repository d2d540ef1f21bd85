"""Clips that show several faces, as one picture with a number on each face: `fedreenact prepare --preview`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from data_partition.faces.clip_annotators import LOOK_EVERY_FRAMES
from data_partition.faces.finder import FaceFinder, FoundFace, chosen
from data_partition.faces.track import turns_of
from data_partition.shards.images import on_white, tabled, write_image
from data_partition.shards.lettering import text_line, written_on
from data_partition.sources.layouts import LAYOUTS, detect_layout, find_sources
from data_partition.sources.names import Layout
from data_partition.sources.records import ClipSource
from data_partition.sources.video import read_frames
from model.errors import DataError

LOOKS = (*range(0, 100, LOOK_EVERY_FRAMES), *range(100, 1500, 50))
"""Places of the frames of a clip that are looked at until one shows a face: in its first minute."""
MAX_CLIPS = 200
"""Pictures in the preview; the lines name all clips."""
_TILE_PX, _NUM_COLUMNS, _LABEL_PX, _LETTERS_PX, _NUMBER_PX = 480, 3, 26, 15, 32
_USED, _OTHER = (0, 160, 0), (200, 0, 0)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class SeveralFaces:
    """The frame of a clip by which a face is chosen, where it shows several."""

    identity: str
    clip: ClipSource
    image_HWC: NDArray[np.uint8]
    """[H, W, 3] uint8 RGB, upright."""
    faces: tuple[FoundFace, ...]
    """From left to right, two or more."""

    @property
    def used(self) -> int:
        """Number of the face that is used, from 1."""
        return self.faces.index(chosen(self.faces, self.clip.face)) + 1

    def to_line(self) -> str:
        """What is seen and how to choose otherwise, as a shell takes it."""
        other = next(number for number in range(1, len(self.faces) + 1) if number != self.used)
        return (
            f"{self.identity}: {self.clip.name} shows {len(self.faces)} faces, number {self.used} from the left is "
            f"used; --face {shlex.quote(f'{self.identity}={other}')} takes another"
        )


def find_several_faces(src: Path, layout: Layout | None, faces: dict[str, int]) -> Iterator[SeveralFaces]:
    """Every clip of a source folder that shows several faces.

    Args:
        src: as for `prepare`.
        layout: of it; None finds out.
        faces: person to the number of the face that is wanted.

    Raises:
        ConfigError: if `faces` names somebody who is not in `src`.
        DataError: if nobody is in `src`.
        WeightsError: if YuNet's file is missing.
    """
    finder = FaceFinder()
    sources = find_sources(src, layout or detect_layout(src)[0], faces)
    for people in sources.people.values():
        for identity, clips in people.items():
            for clip in clips:
                try:
                    image_HWC, found = first_faces(clip, finder)
                except DataError:  # `prepare` says so
                    continue
                if len(found) > 1:
                    yield SeveralFaces(identity=identity, clip=clip, image_HWC=image_HWC, faces=found)


def write_preview(path: Path, clips: Sequence[SeveralFaces]) -> None:
    """Write the picture; green is the face that is used."""
    tiles = [_tile(clip) for clip in clips[:MAX_CLIPS]]
    rows = [tiles[start : start + _NUM_COLUMNS] for start in range(0, len(tiles), _NUM_COLUMNS)]
    write_image(path, tabled(rows))


def first_faces(clip: ClipSource, finder: FaceFinder) -> tuple[NDArray[np.uint8], tuple[FoundFace, ...]]:
    """The first frame looked at that shows a face, upright, and its faces from left to right.

    No faces, and a picture of one pixel, for a clip that shows none.

    Raises:
        DataError: if the clip cannot be read.
    """
    if not clip.annotations and not LAYOUTS[clip.layout].is_cropped:
        looked_at = frozenset(LOOKS)
        frames = read_frames(
            clip.path, lambda _: None, clip.stretch, turns_of(clip), lambda place, _: place in looked_at
        )
        for frame in islice(frames, LOOKS[-1] + 1):
            if frame.image_HWC.size and (faces := finder.find(frame.image_HWC)):
                return frame.image_HWC, tuple(faces)
    return np.zeros((1, 1, 3), np.uint8), ()


def _tile(clip: SeveralFaces) -> NDArray[np.uint8]:
    scale = _TILE_PX / clip.image_HWC.shape[1]
    image = np.asarray(cv2.resize(clip.image_HWC, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    for number, face in enumerate(clip.faces, start=1):
        colour = _USED if number == clip.used else _OTHER
        left, top = round(scale * face.left), round(scale * face.top)
        right, bottom = round(scale * (face.left + face.width)), round(scale * (face.top + face.height))
        cv2.rectangle(image, (left, top), (right, bottom), colour, 2)
        image = written_on(image, str(number), (left + 4, bottom - 6), size_px=_NUMBER_PX, colour=colour)
    label = text_line(clip.identity, clip.clip.name, size_px=_LETTERS_PX)
    return np.concatenate([on_white(label, _LABEL_PX, _TILE_PX), on_white(image, image.shape[0], _TILE_PX)])
