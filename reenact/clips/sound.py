"""The driving clip's sound beside the drawn pictures: its packets as they are, or AAC where MP4 cannot hold them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av

from data_partition.sources.video import open_video, timing_of

COPIED = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})
"""Codecs that MP4 holds and players know; any other sound is written anew."""
AAC_RATES_HZ = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
_USUAL_RATE_HZ = 48_000
_MAX_LEAD_S = Fraction(1, 10)
"""Packets that end earlier than this before the first picture are left out. Those nearer to it stay: a decoder warms up
on them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sound:
    """What is to be heard of a clip."""

    path: Path
    codec: str
    """FFmpeg's name of its codec."""
    starts_s: Fraction
    """Time of the clip's first picture, from which sound is counted."""

    @property
    def is_copied(self) -> bool:
        """Whether the packets are taken over bit for bit."""
        return self.codec in COPIED

    def __str__(self) -> str:
        """What becomes of it."""
        return f"{self.codec}, copied" if self.is_copied else f"{self.codec}, written anew as aac"


def sound_of(path: Path) -> Sound | None:
    """The sound track that a player takes; None for pictures, and for a film without one that can be decoded."""
    if path.is_dir():
        return None
    with open_video(path) as container:
        track = container.streams.best("audio")
        if track is None or track.codec_context is None:
            return None
        return Sound(path=path, codec=track.codec_context.codec.name, starts_s=timing_of(path).starts_s)


class SoundCopy:
    """A sound track of an output, filled from another file."""

    def __init__(self, sound: Sound, output: av.container.OutputContainer) -> None:
        """Add the track; the file is open until the `with` block ends."""
        self._open, self._sound = ExitStack(), sound
        self._input = self._open.enter_context(open_video(sound.path))
        self._track: Any = self._input.streams.best("audio")
        if sound.is_copied:
            self._stream: Any = output.add_stream_from_template(self._track)
            return
        rate_hz = self._track.rate if self._track.rate in AAC_RATES_HZ else _USUAL_RATE_HZ
        self._stream = output.add_stream("aac", rate=rate_hz)
        self._stream.layout = "mono" if self._track.channels == 1 else "stereo"

    def __enter__(self) -> Self:
        """The open copy."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._open.__exit__(kind, error, trace)

    def packets(self, ends_s: Fraction) -> Iterator[av.Packet]:
        """Packets of the output's track in order of time, zero being the first picture, up to where pictures end."""
        return self._copied(ends_s) if self._sound.is_copied else self._anew(ends_s)

    def _heard(self, ends_s: Fraction) -> Iterator[tuple[Fraction, av.Packet]]:
        """Time from the first picture, and packet."""
        for packet in self._input.demux(self._track):
            if packet.pts is None:
                continue
            time_s = packet.pts * packet.time_base - self._sound.starts_s
            if time_s >= ends_s:
                return
            if time_s + (packet.duration or 0) * packet.time_base > -_MAX_LEAD_S:
                yield time_s, packet

    def _copied(self, ends_s: Fraction) -> Iterator[av.Packet]:
        for time_s, packet in self._heard(ends_s):
            packet.pts = packet.dts = round(time_s / packet.time_base)
            packet.stream = self._stream
            yield packet

    def _anew(self, ends_s: Fraction) -> Iterator[av.Packet]:
        """Samples are put where the first of them was heard: silence between packets is not closed up."""
        context = self._stream.codec_context
        resampler = av.AudioResampler(format="fltp", layout=context.layout, rate=context.rate)
        for time_s, packet in self._heard(ends_s):
            for frame in _decoded(packet):
                frame.pts, frame.time_base = round(time_s * frame.sample_rate), Fraction(1, frame.sample_rate)
                time_s += Fraction(frame.samples, frame.sample_rate)
                for part in resampler.resample(frame):
                    yield from self._stream.encode(part)
        for part in resampler.resample(None):
            yield from self._stream.encode(part)
        yield from self._stream.encode(None)


def _decoded(packet: av.Packet) -> list[Any]:
    """Its frames; nothing of a damaged packet."""
    try:
        return list(packet.decode())
    except av.error.InvalidDataError:
        return []
