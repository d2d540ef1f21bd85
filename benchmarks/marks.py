"""What the marks of results withstand, and how often the watermark is seen where none is.

    python benchmarks/marks.py VIDEOS

VIDEOS: a folder of clips. Prints the tables of docs/marks.md; needs no model, a few minutes, one thread is enough.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np

from data_partition.sources.video import is_clip, read_frames
from model.frames import Frame
from reenact.marks.delivery import Marks, marked_picture
from reenact.marks.kinds import Label
from reenact.marks.label import find_label
from reenact.marks.manifest import Origin
from reenact.marks.watermark import THRESHOLD, read_watermark

SIZES_PX = (64, 256, 480)
"""Of squares; 64 is delivered four times as large."""
NUM_MARKED = 20
"""Frames of each clip."""
NUM_UNMARKED = 40
RECORD = 0xC0FFEE


def squares(clip: Path, size_px: int, count: int) -> list[Frame]:
    """The middle of every seventh frame, scaled."""
    frames = (frame.image_HWC for frame in islice(read_frames(clip, lambda _: None), 0, 7 * count, 7))
    return [square(frame, size_px) for frame in frames]


def square(frame: Frame, size_px: int) -> Frame:
    """The middle of a picture, scaled."""
    side = min(frame.shape[:2])
    top, left = ((length - side) // 2 for length in frame.shape[:2])
    middle = np.ascontiguousarray(frame[top : top + side, left : left + side])
    return np.asarray(cv2.resize(middle, (size_px, size_px), interpolation=cv2.INTER_AREA), np.uint8)


def jpeg(frame: Frame, quality: int) -> Frame:
    """After JPEG."""
    _, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)


def half(frame: Frame) -> Frame:
    """Half as high and wide."""
    return np.asarray(cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)


def crop(frame: Frame) -> Frame:
    """A tenth off every border, not the same at all, even sides."""
    tenth = frame.shape[0] // 10
    cropped = frame[tenth + 3 : -tenth + 3, tenth - 5 : -tenth - 5]
    return np.ascontiguousarray(cropped[: cropped.shape[0] // 2 * 2, : cropped.shape[1] // 2 * 2])


def h264(frames: Iterable[Frame], crf: int) -> list[Frame]:
    """After x264, encoded once more than they were."""
    file = io.BytesIO()
    first, *rest = frames
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": str(crf)})
        stream.height, stream.width = first.shape[:2]
        for frame in (first, *rest):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


Attack = Callable[[list[Frame]], list[list[Frame]]]
"""Marked frames of a clip to what is read together: every picture by itself, or a film."""
ON_PICTURES: dict[str, Attack] = {
    "picture, as it was delivered": lambda frames: [[frame] for frame in frames],
    "picture, JPEG, quality 75": lambda frames: [[jpeg(frame, 75)] for frame in frames],
    "picture, JPEG, quality 50": lambda frames: [[jpeg(frame, 50)] for frame in frames],
    "picture, half size": lambda frames: [[half(frame)] for frame in frames],
    "picture, cropped by a tenth": lambda frames: [[crop(frame)] for frame in frames],
}
ON_FILMS: dict[str, Attack] = {
    "film, crf 23": lambda frames: [h264(frames, 23)],
    "film, crf 30": lambda frames: [h264(frames, 30)],
    "film, cropped, crf 26": lambda frames: [h264(map(crop, frames), 26)],
    "film, half size, crf 26": lambda frames: [h264(map(half, frames), 26)],
}


def survival(clips: list[Path]) -> None:
    """One row an attack, one column a size: watermarks found, records read, labels found, weakest watermark."""
    origin = Origin(label=Label.GENERATED, record=RECORD, model_sha256="")
    marks = Marks(origin)
    print("| | " + " | ".join(f"{size} px" for size in SIZES_PX) + " |\n|---" + "|---" * len(SIZES_PX) + "|")
    plain = {size: [squares(clip, size, NUM_MARKED) for clip in clips] for size in SIZES_PX}
    for attacks, mark in ((ON_PICTURES, lambda frame: marked_picture(frame, origin)), (ON_FILMS, marks)):
        marked = {size: [list(map(mark, frames)) for frames in found] for size, found in plain.items()}
        for name, attack in attacks.items():
            print(f"| {name} | " + " | ".join(cell(attack, marked[size]) for size in SIZES_PX) + " |", flush=True)
    for size in SIZES_PX:
        frames = [frame for found in plain[size] for frame in found]
        started = time.process_time()
        for frame in frames:
            marks(frame)
        print(f"{size} px: {1000 * (time.process_time() - started) / len(frames):.1f} CPU-ms a frame")


def cell(attack: Attack, clips: list[list[Frame]]) -> str:
    """Of all clips."""
    groups = [group for frames in clips for group in attack(frames)]
    readings = [read_watermark(group) for group in groups]
    found, read = (sum(chosen) for chosen in ([r.is_present for r in readings], [r.record == RECORD for r in readings]))
    labels = sum(find_label(group[0]) is Label.GENERATED for group in groups)
    weakest = min(reading.deviations for reading in readings)
    return f"{found}, {read}, {labels} of {len(groups)} ({weakest:.1f})"


def false_alarms(clips: list[Path]) -> None:
    """Unmarked pictures, each as it is, mirrored, upside down and after JPEG: the tile is none of its mirror images."""
    pictures = [frame for clip in clips for frame in squares(clip, 256, NUM_UNMARKED)]
    looks: tuple[Callable[[Frame], Frame], ...] = (
        lambda frame: frame,
        lambda frame: np.ascontiguousarray(frame[:, ::-1]),
        lambda frame: np.ascontiguousarray(frame[::-1]),
        lambda frame: jpeg(frame, 50),
    )
    changed = [look(frame) for look in looks for frame in pictures]
    values = np.array([read_watermark([frame]).deviations for frame in changed])
    labels = sum(find_label(frame) is not None for frame in changed)
    print(
        f"{len(pictures)} unmarked pictures, {len(values)} readings: {int((values >= THRESHOLD).sum())} watermarks "
        f"(threshold {THRESHOLD:g}; greatest {values.max():.2f}, 99 of 100 below {np.percentile(values, 99):.2f}), "
        f"{labels} labels"
    )


def main() -> None:
    """Print everything."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    clips = sorted(path for path in Path(sys.argv[1]).iterdir() if is_clip(path))
    survival(clips)
    false_alarms(clips)


if __name__ == "__main__":
    main()
