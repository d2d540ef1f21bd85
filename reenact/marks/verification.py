"""What marks a file has, whoever made it: needs no model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av

from data_partition.sources.pictures import read_picture
from data_partition.sources.video import VIDEO_SUFFIXES, main_track, open_video
from model.errors import DataError
from model.files import json_of
from model.frames import Frame
from reenact.marks.key import MarkingKey
from reenact.marks.kinds import Label
from reenact.marks.label import find_label
from reenact.marks.manifest import Manifest, read_manifest
from reenact.marks.watermark import Reading, looked_at, read_watermark

_NUM_STRETCHES = 8
"""Of a film, evenly spread over it."""
_STRETCH_FRAMES = 32
_EVERY = 4
"""Frames of a stretch from one that is looked at to the next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """What was found in a file."""

    label: Label | None
    """On most of what was looked at."""
    watermark: Reading
    manifest: Manifest | None

    @property
    def record(self) -> int | None:
        """Number of its record, of the watermark or else of a manifest that is intact."""
        if self.watermark.is_present and self.watermark.record is not None:
            return self.watermark.record
        number = self.manifest.made_of.get("record") if self.manifest is not None and self.manifest.is_intact else None
        return int(number, 16) if isinstance(number, str) and re.fullmatch("[0-9a-f]{6}", number) else None

    @property
    def is_marked(self) -> bool:
        """Whether it says in some way that holds that a model drew it."""
        has_manifest = self.manifest is not None and self.manifest.is_intact and bool(self.manifest.made_of)
        return self.label is not None or self.watermark.is_present or has_manifest


def verify_file(path: Path, *, suffix: str = "", anchors: bytes = b"") -> Findings:
    """Look for all marks.

    Args:
        path: a picture or a film.
        suffix: what it is, if its name does not say so.
        anchors: root certificates to trust, PEM.

    Raises:
        DataError: if it is not there, or can be read as neither.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; wanted a picture or a video")
    is_film = (suffix or path.suffix).lower() in VIDEO_SUFFIXES
    labels: Counter[Label | None] = Counter()
    middles: list[Frame] = []
    for frame_HWC in _some_frames(path) if is_film else [read_picture(path)]:  # a whole one at a time in memory
        labels[find_label(frame_HWC)] += 1
        middles.append(looked_at(frame_HWC))
    if not middles:
        raise DataError(f"{path}: no frame of it can be decoded; export it again as MP4")
    label, _ = labels.most_common(1)[0]
    return Findings(label=label, watermark=read_watermark(middles), manifest=read_manifest(path, anchors))


def deliveries(record: int, key: MarkingKey) -> list[dict[str, str]]:
    """The lines of this user's book about a record, oldest first.

    Raises:
        DataError: if a line is none that this program wrote.
        OSError: if it cannot be read.
    """
    if not key.records.is_file():
        return []
    try:
        lines = [json_of(line) for line in key.records.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if line["record"] == f"{record:06x}"]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{key.records}: damaged ({type(error).__name__}); mend it or move it away") from error


def _some_frames(path: Path) -> Iterator[Frame]:
    """Frames from all over a film, each once, as they are stored."""
    seen: set[int] = set()
    with open_video(path) as container:
        track = main_track(path, container)
        for number in range(_NUM_STRETCHES):
            decoded = _decoded(container, track, (container.duration or 0) * number // _NUM_STRETCHES)
            for frame in islice(decoded, 0, _STRETCH_FRAMES, _EVERY):
                if frame.pts is not None and frame.pts not in seen:
                    seen.add(frame.pts)
                    yield frame.to_ndarray(format="rgb24")


def _decoded(container: av.container.InputContainer, track: av.VideoStream, begin_us: int) -> Iterator[av.VideoFrame]:
    """From the last key frame before a time on, up to where the file is broken."""
    try:
        container.seek(begin_us)
        yield from container.decode(track)
    except av.FFmpegError:
        return
