"""A film that is drawn piece by piece beside its result, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import heapq
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from data_partition.sources.video import Timing
from model.files import whole_file, write_text
from reenact.sound import Sound, SoundCopy

PIECE_FRAMES = 240
"""Frames of a piece; a run that is stopped loses fewer. Eight seconds are drawn within a minute."""
_MARK = "made-of.json"


@dataclass(frozen=True, slots=True)
class Pieces:
    """The finished pieces of one film: a folder `<result>.parts`."""

    folder: Path

    @classmethod
    def beside(cls, out: Path, made_of: object) -> Pieces:
        """The pieces of a result; those that were made of something else are removed.

        Args:
            out: the result.
            made_of: all that the pictures depend on, as `json.dumps` takes it.
        """
        pieces, text = cls(pieces_folder(out)), json.dumps(made_of, sort_keys=True)
        mark = pieces.folder / _MARK
        if not mark.is_file() or mark.read_text(encoding="utf-8") != text:
            shutil.rmtree(pieces.folder, ignore_errors=True)
            write_text(mark, text)
        return pieces

    def path(self, number: int) -> Path:
        """Of a piece, from 0."""
        return self.folder / f"{number:06d}.nut"

    @property
    def track(self) -> Path:
        """Of the faces of the driving clip."""
        return self.folder / "face-table.npz"

    @property
    def joined(self) -> Path:
        """Of the whole film, before it is signed."""
        return self.folder / "whole.mp4"

    def finished(self) -> list[Path]:
        """The pieces that are there, from the first to the one before the first that is missing."""
        found: list[Path] = []
        while (path := self.path(len(found))).is_file():
            found.append(path)
        return found

    def remove(self) -> None:
        """Once the result is written."""
        shutil.rmtree(self.folder)


def pieces_folder(out: Path) -> Path:
    """Where the pieces of a result are."""
    return out.with_name(out.name + ".parts")


def join_pieces(out: Path, pieces: Sequence[Path], sound: Sound | None, *, timing: Timing) -> None:
    """Write the film: pictures as they were encoded, and sound beside them, in order of time.

    Args:
        out: ends in .mp4; appears whole.
        pieces: at least one, in order.
        sound: of the driving clip; it ends with the last picture.
        timing: of the driving clip.
    """
    with ExitStack() as opened:
        container = opened.enter_context(av.open(opened.enter_context(whole_file(out)), "w", format="mp4"))
        first = opened.enter_context(av.open(str(pieces[0])))
        stream = container.add_stream_from_template(first.streams.video[0])
        stream.time_base = timing.time_base
        tracks = [_pictures(pieces, stream)]
        if sound is not None:
            ends_s = _last_picture_s(pieces[-1]) + 1 / timing.rate_hz
            tracks.append(opened.enter_context(SoundCopy(sound, container)).packets(ends_s))
        for packet in heapq.merge(*tracks, key=_time_s):
            container.mux(packet)


def _pictures(pieces: Sequence[Path], stream: av.VideoStream) -> Iterator[av.Packet]:
    for piece in pieces:
        with av.open(str(piece)) as container:
            for packet in container.demux(video=0):
                if packet.pts is not None:
                    packet.dts = packet.pts  # there are no B-frames, which NUT cannot know of a short piece
                    packet.stream = stream
                    yield packet


def _last_picture_s(piece: Path) -> Fraction:
    with av.open(str(piece)) as container:
        packets = (packet for packet in container.demux(video=0) if packet.pts is not None)
        return max((packet.pts or 0) * (packet.time_base or Fraction(0)) for packet in packets)


def _time_s(packet: av.Packet) -> Fraction:
    return (packet.dts or 0) * (packet.time_base or Fraction(0))
