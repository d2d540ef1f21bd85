"""H.264 films that appear when they are complete."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from model.errors import DataError
from model.files import whole_file

_CODECS = ("libx264", "mpeg4")
"""In order of preference; a PyAV built without x264 still has mpeg4."""
FORMATS = {".mp4": "mp4", ".nut": "nut"}
"""Container by suffix. NUT is for pieces of a film: it keeps times as they are, also when they start late."""
TIME_BASE = Fraction(1, 90_000)
"""Seconds of one tick, in which usual frame rates are whole numbers."""
_BT709 = 1
"""FFmpeg's number of the primaries, transfer and matrix of HD television."""


class VideoWriter:
    """A film without sound that appears at `path` only if the `with` block ends without an error.

    Every frame follows from frames before it alone (no B-frames): times may be as uneven as they like, and films of one
    size can be joined without encoding them again.
    """

    def __init__(self, path: Path, *, frame_rate_hz: Fraction, time_base: Fraction = TIME_BASE) -> None:
        """Open the file.

        Args:
            path: ends in .mp4, or in .nut for a piece; its folder is made if need be.
            frame_rate_hz: > 0, what the file announces; every frame says itself when it is shown.
            time_base: seconds of one tick, to which times are rounded.

        Raises:
            DataError: if `path` does not end so.
        """
        if path.suffix.lower() not in FORMATS:
            raise DataError(f"{path}: video is written as MP4; give the output a name that ends in .mp4")
        self.path = path
        self._open = ExitStack()
        file = self._open.enter_context(whole_file(path))
        self._container = self._open.enter_context(av.open(file, "w", format=FORMATS[path.suffix.lower()]))
        codec = next(name for name in _CODECS if name in av.codecs_available)
        self._stream: Any = self._container.add_stream(codec, rate=frame_rate_hz)
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = time_base
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = ColorRange.MPEG
        self._frame_rate_hz, self._time_base = frame_rate_hz, time_base
        self._num_frames, self._last_pts = 0, -1
        if codec == "libx264":
            self._stream.options = {"crf": "16", "preset": "medium", "bf": "0"}
        self._open.push(self._encode_rest)

    def add(self, frame_HWC: NDArray[np.uint8], timestamp_s: float | None = None) -> None:
        """Append one frame.

        Args:
            frame_HWC: uint8 [H, W, 3] RGB; H and W are even and the same for all frames.
            timestamp_s: when it is shown, seconds from the start, >= 0 and rising; it stays until the next one. None
                goes by the frame rate.
        """
        if not self._stream.codec_context.is_open:
            self._stream.height, self._stream.width = frame_HWC.shape[:2]
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")
        frame = rgb.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        if timestamp_s is None:
            timestamp_s = float(self._num_frames / self._frame_rate_hz)
        self._last_pts = max(self._last_pts + 1, round(timestamp_s / self._time_base))
        self._num_frames += 1
        frame.pts, frame.time_base = self._last_pts, self._time_base
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> Self:
        """The open writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Finish the file and give it its name, or remove it after an error."""
        self._open.__exit__(kind, error, traceback)

    def _encode_rest(
        self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))
