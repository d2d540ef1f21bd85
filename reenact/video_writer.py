"""H.264 video files that appear when they are complete."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from numpy.typing import NDArray

from model.errors import DataError
from model.files import whole_file

_CODECS = ("libx264", "mpeg4")
"""In order of preference; a PyAV built without x264 still has mpeg4."""


class VideoWriter:
    """An MP4 file without sound that appears at `path` only if the `with` block ends without an error."""

    def __init__(self, path: Path, *, frame_rate_hz: Fraction) -> None:
        """Open the file.

        Args:
            path: ends in .mp4; its folder is made if need be.
            frame_rate_hz: > 0.

        Raises:
            DataError: if `path` does not end in .mp4.
        """
        if path.suffix.lower() != ".mp4":
            raise DataError(f"{path}: video is written as MP4; give the output a name that ends in .mp4")
        self.path = path
        self._open = ExitStack()
        file = self._open.enter_context(whole_file(path))
        self._container = self._open.enter_context(av.open(file, "w", format="mp4"))
        codec = next(name for name in _CODECS if name in av.codecs_available)
        self._stream: Any = self._container.add_stream(codec, rate=frame_rate_hz)
        self._stream.pix_fmt = "yuv420p"
        if codec == "libx264":
            self._stream.options = {"crf": "16", "preset": "medium"}
        self._open.push(self._encode_rest)

    def add(self, frame_HWC: NDArray[np.uint8]) -> None:
        """Append one uint8 [H, W, 3] RGB frame; H and W are even and the same for all frames."""
        if not self._stream.codec_context.is_open:
            self._stream.height, self._stream.width = frame_HWC.shape[:2]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")
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
