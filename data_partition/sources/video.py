"""Frames of a clip, from a video file or a folder of pictures, one at a time."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from data_partition.shards.images import IMAGE_SUFFIXES, read_image
from data_partition.sources.rejected import Rejected
from model.errors import DataError

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".gif"})
FOLDER_RATE_HZ = 25.0
"""Frame rate assumed for a folder of pictures, which carries no times."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFrame:
    """One decoded frame."""

    index: int
    """Position in the clip, frames that could not be decoded included where the source shows them."""
    timestamp_s: float
    """Seconds from the first frame."""
    image_HWC: NDArray[np.uint8]
    """[H, W, 3] uint8 RGB, upright."""
    name: str = ""
    """Of the picture's file; empty for a frame of a video."""


Stretch = tuple[int, int]
"""First picture and the one after the last, of a folder's pictures in natural order."""


def is_clip(path: Path) -> bool:
    """Whether a path is a video file or a folder that directly holds pictures."""
    if path.is_dir():
        return any(map(_is_picture, path.iterdir()))
    return path.suffix.lower() in VIDEO_SUFFIXES


def count_frames(path: Path) -> int:
    """Number of frames the source announces; 0 if it does not say or cannot be opened."""
    if path.is_dir():
        return sum(map(_is_picture, path.iterdir()))
    try:
        with av.open(str(path)) as container:
            return container.streams.video[0].frames if container.streams.video else 0
    except (av.FFmpegError, OSError):
        return 0


def read_frames(
    path: Path, on_problem: Callable[[Rejected], None], stretch: Stretch | None = None
) -> Iterator[VideoFrame]:
    """Decode a clip front to back, holding one frame in memory.

    Args:
        path: a video file or a folder of pictures (read in natural order: 2.png before 10.png).
        on_problem: called for each picture that is skipped, and once for the damaged packets of a video.
        stretch: of a folder's pictures; None is all.

    Yields:
        Frames with rising index and timestamp.

    Raises:
        DataError: if the clip cannot be opened or has no picture track.
    """
    return _folder_frames(path, on_problem, stretch) if path.is_dir() else _video_frames(path, on_problem)


def source_sha256(path: Path, stretch: Stretch | None = None) -> str:
    """SHA-256 of a file, or of the names and contents of a folder's pictures (of a stretch of them)."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for picture in _pictures(path)[slice(*stretch) if stretch else slice(None)]:
        digest.update(picture.name.encode())
        digest.update(hashlib.sha256(picture.read_bytes()).digest())
    return digest.hexdigest()


def picture_names(folder: Path, stretch: Stretch | None = None) -> list[str]:
    """File names of a folder's pictures (of a stretch of them), in natural order."""
    return [path.name for path in _pictures(folder)[slice(*stretch) if stretch else slice(None)]]


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _pictures(folder: Path) -> list[Path]:
    return sorted(filter(_is_picture, folder.iterdir()), key=lambda file: (_natural_key(file.name), file.name))


def _natural_key(name: str) -> list[tuple[int, str]]:
    """Numbers by value, everything else by letter."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if part.isascii() and part.isdigit() else (-1, part) for part in parts]


def _folder_frames(
    folder: Path, on_problem: Callable[[Rejected], None], stretch: Stretch | None
) -> Iterator[VideoFrame]:
    pictures = _pictures(folder)
    first, end = stretch or (0, len(pictures))
    for index, path in enumerate(pictures[first:end], start=first):
        try:
            image = read_image(path)
        except DataError as error:
            on_problem(Rejected.by_error(path, error))
            continue
        yield VideoFrame(index=index, timestamp_s=index / FOLDER_RATE_HZ, image_HWC=image, name=path.name)


def _video_frames(path: Path, on_problem: Callable[[Rejected], None]) -> Iterator[VideoFrame]:
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{path}: cannot be opened as a video ({error}); export it again as MP4") from error
    with container:
        if not container.streams.video:
            raise DataError(f"{path}: has no picture track, only sound; choose another file")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = float(stream.average_rate or FOLDER_RATE_HZ)
        start: float | None = None
        last = -1.0
        for index, frame in enumerate(_decoded(container, stream, path, on_problem)):
            start = (frame.time or 0.0) if start is None else start
            time = frame.time - start if frame.time is not None else index / rate
            last = time if time > last else last + 1 / rate
            image = np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90))
            yield VideoFrame(index=index, timestamp_s=last, image_HWC=np.ascontiguousarray(image))


def _decoded(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    path: Path,
    on_problem: Callable[[Rejected], None],
) -> Iterator[av.VideoFrame]:
    """Frames of a stream; damaged packets are skipped and counted in one sentence."""
    num_damaged = 0
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.error.InvalidDataError:
                num_damaged += 1
    except av.FFmpegError as error:
        on_problem(Rejected(str(path), f"reading stopped early ({error})"))
    if num_damaged:
        on_problem(Rejected(str(path), f"{num_damaged} damaged packets skipped; the file may be cut short"))
