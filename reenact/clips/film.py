"""A driving clip drawn frame by frame into pieces, and the pieces joined to a film with sound.

A clip is decoded, drawn and encoded in one stream: memory holds a few pictures, however long it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from data_partition.sources.video import timing_of
from model.errors import DataError
from model.frames import Frame
from model.progress import Progress
from reenact.clips.pieces import PIECE_FRAMES, Pieces, join_pieces
from reenact.clips.sound import Sound
from reenact.clips.video_writer import VideoWriter
from reenact.face_frame import FaceFrame
from reenact.faces import AnnotatedClip
from reenact.marks.delivery import Marks, deliver_film
from reenact.movement import FloatArray
from reenact.person import SteadyChoice
from reenact.reenactor import Reenactor, Transfer

_FRAMES_AT_ONCE = 8
_Item = TypeVar("_Item")
_Timed = tuple[float, FaceFrame | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Film:
    """What is drawn."""

    source: FaceFrame
    """The person, standing still before the first face of the clip."""
    clip: AnnotatedClip
    """What drives, steadied."""
    transfer: Transfer
    finish: Callable[[Frame], Frame]
    """Makes of a result the picture of the film."""
    marks: Marks
    """Put on every picture."""
    sound: Sound | None
    require_permission: Callable[[], None]
    """Called before the film is delivered; raises a DataError if it may not be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _ToDraw:
    """N successive driving frames with a face."""

    sources: list[Sequence[FaceFrame]]
    faces: list[FaceFrame]
    targets_NKC: FloatArray

    def last(self) -> _ToDraw:
        return _ToDraw(sources=self.sources[-1:], faces=self.faces[-1:], targets_NKC=self.targets_NKC[-1:])


def write_film(out: Path, film: Film, reenactor: Reenactor, pieces: Pieces, progress: Progress) -> None:
    """Draw the pieces that are missing, deliver the film, remove the pieces.

    Args:
        out: ends in .mp4; appears when it is complete and its marks are read from it.
        film: what to draw.
        reenactor: what to draw with.
        pieces: where the film grows, and goes on after it was stopped.
        progress: called for every frame.

    Raises:
        DataError: if a mark cannot be read, or the film may no longer be delivered.
    """
    num_frames, timing = film.clip.num_frames, timing_of(film.clip.tracked.source.path)
    done = min(len(pieces.finished()) * PIECE_FRAMES, num_frames)
    frames = drawn_frames(reenactor, film, first=done)
    progress("Drawing", done, num_frames)
    while done < num_frames:
        path = pieces.path(done // PIECE_FRAMES)
        with VideoWriter(path, frame_rate_hz=timing.rate_hz, time_base=timing.time_base) as writer:
            for timestamp_s, frame in islice(frames, min(PIECE_FRAMES, num_frames - done)):
                writer.add(film.marks(film.finish(frame)), timestamp_s)
                done += 1
                progress("Drawing", done, num_frames)
    join_pieces(pieces.joined, pieces.finished(), film.sound, timing=timing)
    _deliver(out, film, pieces)
    pieces.remove()


def _deliver(out: Path, film: Film, pieces: Pieces) -> None:
    """Leave nothing of what may no longer be shown."""
    try:
        film.require_permission()
    except DataError:
        pieces.remove()
        raise
    deliver_film(out, pieces.joined, film.marks.origin)


def drawn_frames(reenactor: Reenactor, film: Film, *, first: int = 0) -> Iterator[tuple[float, Frame]]:
    """Time in seconds and result of every frame of the clip from a first one on; without a face the last one stays.

    Args:
        reenactor: what to draw with.
        film: what to draw.
        first: a multiple of 8. What is chosen for the frames before it is gone through, so that the rest is as it would
            have been; they are not drawn.
    """
    choice = SteadyChoice(film.source, reenactor.num_sources)
    last, skipped = reenactor.at_rest(film.source), None
    for number, chunk in enumerate(_chunks(film.clip.faces(), _FRAMES_AT_ONCE)):
        to_draw = _to_draw(reenactor, film, choice, chunk)
        if (number + 1) * _FRAMES_AT_ONCE <= first:
            skipped = to_draw.last() if to_draw is not None else skipped
            continue
        if skipped is not None:
            last, skipped = _draw(reenactor, film, skipped)[0], None
        results = iter(_draw(reenactor, film, to_draw) if to_draw is not None else ())
        for timestamp_s, face in chunk:
            last = next(results) if face is not None else last
            yield timestamp_s, last


def _to_draw(reenactor: Reenactor, film: Film, choice: SteadyChoice, chunk: Sequence[_Timed]) -> _ToDraw | None:
    """The frames of a chunk that have a face, or None if none has."""
    faces = [face for _, face in chunk if face is not None]
    if not faces:
        return None
    targets_NKC = reenactor.target_landmarks(film.transfer, film.source, faces)
    posed = reenactor.posed(film.transfer, film.source, faces)
    sources = [choice.next(target_KC, face) for target_KC, face in zip(targets_NKC, posed, strict=True)]
    return _ToDraw(sources=sources, faces=faces, targets_NKC=targets_NKC)


def _draw(reenactor: Reenactor, film: Film, wanted: _ToDraw) -> list[Frame]:
    drawings = reenactor.draw_from(wanted.sources, wanted.faces, wanted.targets_NKC, film.transfer.reference)
    return [drawing.result for drawing in drawings]


def _chunks(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
