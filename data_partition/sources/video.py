"""Frames of a clip, from a video file or a folder of pictures, one at a time."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.filter import Graph
from av.stream import Disposition
from av.video.reformatter import Colorspace
from numpy.typing import NDArray

from data_partition.sources.colour import Transfer, tone_mapped
from data_partition.sources.pictures import MAX_PIXELS, PICTURE_SUFFIXES, read_picture
from data_partition.sources.rejected import Rejected
from model.errors import DataError
from model.files import file_sha256

logger = logging.getLogger(__name__)

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".divx", ".wmv", ".asf", ".flv", ".f4v",
    ".mpg", ".mpeg", ".m2v", ".vob", ".ts", ".mts", ".m2ts", ".mxf", ".ogv", ".ogg", ".gif",
})
# fmt: on
FOLDER_RATE_HZ = 25.0
"""Frame rate assumed for a folder of pictures, which carries no times."""


MAX_PIXEL_RATIO = 4.0
"""Width of a pixel by its height, or the other way round, that is believed."""
_HDR: dict[int, Transfer] = {16: "pq", 18: "hlg"}
"""FFmpeg's number of a frame's transfer characteristic."""
_UNTOLD_MATRIX = 2
"""FFmpeg's number of a frame's colour matrix where the file says none."""
_HD_WIDTH_PX, _HD_HEIGHT_PX = 1280, 720
"""From which on players take such a frame for one of BT.709, and a smaller one for one of BT.601."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFrame:
    """One decoded frame."""

    index: int
    """Position in the clip, frames that could not be decoded included where the source shows them."""
    timestamp_s: float
    """Seconds from the first frame."""
    image_HWC: NDArray[np.uint8]
    """[H, W, 3] uint8 RGB as a player shows it: turned and mirrored, square pixels, sRGB, on white; [0, 0, 3] where
    nobody wanted it."""
    name: str = ""
    """Of the picture's file; empty for a frame of a video."""


Wanted = Callable[[int, int], bool]
"""Whether a frame's picture is wanted, by the frame's place among those that are read, from 0, and by its index."""


class Stretch(NamedTuple):
    """Which of a folder's pictures are meant, in natural order."""

    first: int
    end: int
    """After the last."""
    left_out: frozenset[str] = frozenset()
    """Names of pictures between them that are not meant."""


def is_clip(path: Path) -> bool:
    """Whether a path is a video file or a folder that directly holds pictures."""
    if path.is_dir():
        return has_pictures(path)
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() and os.access(path, os.R_OK)


def is_picture(path: Path) -> bool:
    """Whether a file is named as a picture and not hidden."""
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")


def has_pictures(folder: Path) -> bool:
    """Whether a folder directly holds pictures; not if it cannot be listed."""
    try:
        return any(is_picture(path) and not path.is_dir() for path in folder.iterdir())
    except OSError:
        return False


def count_frames(path: Path, stretch: Stretch | None = None) -> int:
    """Number of frames the source (a stretch of it) announces; 0 if it does not say or cannot be opened."""
    if stretch is not None:
        return stretch.end - stretch.first - len(stretch.left_out)
    if path.is_dir():
        return len(_pictures(path))
    return _told_by_track(path, lambda _, track: int(track.frames))


def about_frames(path: Path) -> int:
    """Number of frames the source announces, or else has by length and rate; of a longer sound too many.

    0 if nothing says it, or it cannot be opened.
    """
    return count_frames(path) if path.is_dir() else _told_by_track(path, _announced_or_estimated)


def _announced_or_estimated(container: av.container.InputContainer, track: av.VideoStream) -> int:
    length_s = float((container.duration or 0) / av.time_base)
    return int(track.frames) or max(0, round(length_s * float(track.average_rate or 0)))


def _told_by_track(path: Path, number: Callable[[av.container.InputContainer, av.VideoStream], int]) -> int:
    """A number of a video's track; 0 if it cannot be opened."""
    try:
        with open_video(path) as container:
            return number(container, main_track(path, container))
    except DataError:
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """When the frames of a clip are shown."""

    starts_s: Fraction
    """Time of the first frame that can be decoded, on the clock of the file."""
    time_base: Fraction
    """Seconds of one tick: every frame is shown at a whole number of them."""
    rate_hz: Fraction
    """Frames a second, the mean if it varies."""


def timing_of(path: Path) -> Timing:
    """The clock of a clip; of a folder of pictures one that ticks at its assumed rate.

    Raises:
        DataError: if it cannot be opened.
    """
    folder_rate = Fraction(FOLDER_RATE_HZ)
    if path.is_dir():
        return Timing(starts_s=Fraction(0), time_base=1 / folder_rate, rate_hz=folder_rate)
    with open_video(path) as container:
        track = main_track(path, container)
        tick = track.time_base or 1 / folder_rate
        first = next(_decoded(container, track, path, lambda _: None, Counter()), None)
        ticks = first.pts if first is not None and first.pts is not None else 0
        return Timing(starts_s=ticks * tick, time_base=tick, rate_hz=track.average_rate or folder_rate)


def open_video(path: Path) -> av.container.InputContainer:
    """A video file to decode; tags in any encoding are passed over.

    Raises:
        DataError: if it cannot be opened.
    """
    try:
        return av.open(f"file:{path}", metadata_errors="replace")  # a name may have a colon, as URLs do
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be opened as a video ({reason}); export it again as MP4") from error


def main_track(path: Path, container: av.container.InputContainer) -> av.VideoStream:
    """The picture track that a player shows: the default one, or the first; a cover picture is none.

    Raises:
        DataError: if there is no such track, or one that cannot be decoded, or its frames are too large.
    """
    tracks = [track for track in container.streams.video if not track.disposition & Disposition.attached_pic]
    if not tracks:
        raise DataError(f"{path}: has no picture track, only sound; choose another file")
    track = next((one for one in tracks if one.disposition & Disposition.default), tracks[0])
    if track.codec_context is None:
        raise DataError(f"{path}: a video that this program cannot decode; export it again as MP4")
    if track.width * track.height > MAX_PIXELS:
        text = f"frames of {track.width} x {track.height} pixels, wanted at most {MAX_PIXELS // 1_000_000} megapixels"
        raise DataError(f"{path}: {text}; export it smaller")
    return track


def read_frames(
    path: Path,
    on_problem: Callable[[Rejected], None],
    stretch: Stretch | None = None,
    quarter_turns: int = 0,
    wanted: Wanted | None = None,
) -> Iterator[VideoFrame]:
    """Decode a clip front to back, holding one frame in memory.

    Args:
        path: a video file or a folder of pictures (read in natural order: 2.png before 10.png).
        on_problem: called for each picture that is skipped, and once for damaged packets and frames of a video: what
            a decoder makes of these looks whole and is not.
        stretch: of a folder's pictures; None is all.
        quarter_turns: to the left, by which every frame is turned.
        wanted: which frames have a picture, None is all. Of the others a folder's file is not opened, so it is not
            told if it cannot be read, and a video's frame is decoded and not converted.

    Yields:
        Frames with rising index and timestamp.

    Raises:
        DataError: if the clip cannot be opened or has no picture track.
    """
    is_folder = path.is_dir()
    wanted = wanted or _all
    if is_folder:
        frames = _folder_frames(path, on_problem, stretch, wanted)
    else:
        frames = _whole(path, _video_frames(path, on_problem, wanted))
    for frame in frames:
        is_turned = quarter_turns and frame.image_HWC.size
        image_HWC = np.ascontiguousarray(np.rot90(frame.image_HWC, quarter_turns)) if is_turned else frame.image_HWC
        yield replace(frame, image_HWC=image_HWC)


def source_sha256(path: Path, stretch: Stretch | None = None) -> str:
    """SHA-256 of a file, or of the names and contents of a folder's pictures (of a stretch of them).

    A picture that cannot be read counts by its name alone, so that it does not take the others with it.

    Raises:
        OSError: if the file or the folder cannot be read.
    """
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for _, picture in _meant(path, stretch):
        digest.update(os.fsencode(picture.name))
        try:
            digest.update(hashlib.sha256(picture.read_bytes()).digest())
        except OSError:
            digest.update(b"unreadable")
    return digest.hexdigest()


def picture_names(folder: Path, stretch: Stretch | None = None) -> list[str]:
    """File names of a folder's pictures (of a stretch of them), in natural order."""
    return [path.name for _, path in _meant(folder, stretch)]


def _meant(folder: Path, stretch: Stretch | None) -> list[tuple[int, Path]]:
    """Pictures with their places among all of the folder's."""
    numbered = list(enumerate(_pictures(folder)))
    if stretch is None:
        return numbered
    return [one for one in numbered[stretch.first : stretch.end] if one[1].name not in stretch.left_out]


def _pictures(folder: Path) -> list[Path]:
    pictures = (file for file in folder.iterdir() if is_picture(file) and not file.is_dir())
    return sorted(pictures, key=lambda file: (_natural_key(file.name), file.name))


def _natural_key(name: str) -> list[tuple[int, str]]:
    """Numbers by value, everything else by letter."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if part.isascii() and part.isdigit() else (-1, part) for part in parts]


def _all(_place: int, _index: int) -> bool:
    return True


def _no_picture() -> NDArray[np.uint8]:
    return np.zeros((0, 0, 3), np.uint8)


def _folder_frames(
    folder: Path, on_problem: Callable[[Rejected], None], stretch: Stretch | None, wanted: Wanted
) -> Iterator[VideoFrame]:
    place = 0
    for index, path in _meant(folder, stretch):
        try:
            image = read_picture(path) if wanted(place, index) else _no_picture()
        except DataError as error:
            on_problem(Rejected.by_error(path, error))
            continue
        place += 1
        yield VideoFrame(index=index, timestamp_s=index / FOLDER_RATE_HZ, image_HWC=image, name=path.name)


def _whole(path: Path, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """The frames, and one clear error for whatever damaged data makes a decoder do."""
    try:
        yield from frames
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: damaged video ({type(error).__name__}: {error}); export it again as MP4") from error


def _video_frames(path: Path, on_problem: Callable[[Rejected], None], wanted: Wanted) -> Iterator[VideoFrame]:
    with open_video(path) as container:
        track = main_track(path, container)
        track.codec_context.thread_count = 1  # with several it depends on chance which damaged frames are known as such
        track.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # the header's size need not be true
        rate = float(track.average_rate or FOLDER_RATE_HZ)
        start: float | None = None
        last, place = -1.0, 0
        damaged, is_damaged = Counter[str](), False
        matrix: bytes | None = None
        for index, frame in enumerate(_progressive(_decoded(container, track, path, on_problem, damaged), track)):
            start = (frame.time or 0.0) if start is None else start
            time = frame.time - start if frame.time is not None else index / rate
            last = time if time > last else last + 1 / rate
            matrix = _display_matrix(frame) if matrix is None else matrix
            is_damaged = frame.is_corrupt or (is_damaged and not frame.key_frame)
            if is_damaged:
                damaged["frames that are damaged or follow such a one"] += 1
                continue
            image_HWC = _as_shown(frame, track, matrix) if wanted(place, index) else _no_picture()
            place += 1
            yield VideoFrame(index=index, timestamp_s=last, image_HWC=image_HWC)
        if damaged:
            text = " and ".join(f"{count} {what}" for what, count in damaged.items())
            on_problem(Rejected(str(path), f"{text} skipped; the file may be cut short, export it again"))


def _progressive(frames: Iterator[av.VideoFrame], track: av.VideoStream) -> Iterator[av.VideoFrame]:
    """As many frames, at the same times, those of two half pictures made whole (FFmpeg's bwdif)."""
    graph: Graph | None = None
    for frame in frames:
        if graph is None and frame.interlaced_frame:
            graph = _deinterlacer(track)
        if graph is None:
            yield frame
            continue
        graph.vpush(frame)
        yield from _pulled(graph)
    if graph is not None:
        graph.vpush(None)
        yield from _pulled(graph)


def _deinterlacer(track: av.VideoStream) -> Graph:
    graph = Graph()
    graph.link_nodes(
        graph.add_buffer(template=track),
        graph.add("bwdif", "mode=send_frame:deint=interlaced"),
        graph.add("buffersink"),
    ).configure()
    return graph


def _pulled(graph: Graph) -> Iterator[av.VideoFrame]:
    with contextlib.suppress(av.BlockingIOError, av.EOFError):
        while True:
            yield graph.vpull()


def _display_matrix(frame: av.VideoFrame) -> bytes:
    """Of the track, by its first frame: one that was asked for it waits for the garbage collector, picture and all."""
    return next((bytes(one) for one in frame.side_data if one.type.name == "DISPLAYMATRIX"), b"")


def _as_shown(frame: av.VideoFrame, track: av.VideoStream, matrix: bytes) -> NDArray[np.uint8]:
    """[H, W, 3] uint8 RGB of a decoded frame, as a player shows it."""
    return np.ascontiguousarray(_turned(_squared(_in_colour(frame), track), matrix))


def _in_colour(frame: av.VideoFrame) -> NDArray[np.uint8]:
    transfer = _HDR.get(int(frame.color_trc))
    if transfer:
        return tone_mapped(frame.to_ndarray(format="rgb48le"), transfer)
    is_hd = frame.width >= _HD_WIDTH_PX or frame.height >= _HD_HEIGHT_PX
    is_told = frame.format.is_rgb or int(frame.colorspace) != _UNTOLD_MATRIX
    matrix = {"src_colorspace": Colorspace.ITU709} if is_hd and not is_told else {}
    if any(component.is_alpha for component in frame.format.components):
        image_HWC = frame.to_ndarray(format="rgba", **matrix)
        alpha_HW1 = image_HWC[..., 3:].astype(np.uint16)
        return np.asarray((image_HWC[..., :3] * alpha_HW1 + 255 * (255 - alpha_HW1)) // 255, np.uint8)
    return np.asarray(frame.to_ndarray(format="rgb24", **matrix), np.uint8)


def _squared(image_HWC: NDArray[np.uint8], track: av.VideoStream) -> NDArray[np.uint8]:
    """The frame with square pixels, stretched along one side where its pixels are not."""
    ratio = float(track.sample_aspect_ratio or track.codec_context.sample_aspect_ratio or 1)
    if ratio == 1 or not 1 / MAX_PIXEL_RATIO <= ratio <= MAX_PIXEL_RATIO:
        return image_HWC
    height_px, width_px = image_HWC.shape[:2]
    size = (round(width_px * max(ratio, 1)), round(height_px / min(ratio, 1)))
    return np.asarray(cv2.resize(image_HWC, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def _turned(image_HWC: NDArray[np.uint8], matrix: bytes) -> NDArray[np.uint8]:
    """Turned and mirrored by a display matrix, nine int32 of which a, b, c, d map (x, y) to (ax + cy, bx + dy)."""
    if len(matrix) < 36:
        return image_HWC
    a, b, _, c, d = np.frombuffer(matrix[:20], np.int32).tolist()
    if abs(b) > abs(a):  # x becomes y
        image_HWC = image_HWC.transpose(1, 0, 2)
        a, d = c, b
    return image_HWC[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _decoded(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    path: Path,
    on_problem: Callable[[Rejected], None],
    damaged: Counter[str],
) -> Iterator[av.VideoFrame]:
    """Frames of a stream; damaged packets are skipped and counted in `damaged`."""
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.error.InvalidDataError:
                damaged["damaged packets"] += 1
    except (av.FFmpegError, ValueError) as error:
        on_problem(Rejected(str(path), f"reading stopped early ({error})"))
