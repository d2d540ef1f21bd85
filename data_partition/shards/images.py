"""Pictures on disk: uint8 RGB in, uint8 RGB out, and one clear error for a broken file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.errors import DataError
from model.files import write_bytes

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG", b"IEND"
_UNREADABLE = "{path}: not a picture this program can read; wanted JPEG, PNG, BMP or WebP"
_TRUNCATED = "{path}: truncated picture of {num_bytes} bytes; copy or export the file again"
_MISSING = "{path}: cannot read the picture ({reason}); restore the file"
_TRAILER_BYTES = 1024
"""Cameras append a few bytes after the end marker; a truncated file has no marker near its end."""


class WrongSizeError(DataError):
    """A picture is not of the size that was wanted."""


def read_image(path: Path, *, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The picture in a file.

    Args:
        path: a JPEG, PNG, BMP or WebP file.
        size: (width, height) that the picture must have; None for any. A small file can hold a picture of gigabytes:
            one whose header tells another size is not decoded.

    Returns:
        [H, W, 3] uint8 RGB.

    Raises:
        DataError: if the file is missing, empty, truncated or not a picture.
        WrongSizeError: if the picture is of another size.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(_MISSING.format(path=path, reason=error.strerror)) from error
    if _is_truncated(data):
        raise DataError(_TRUNCATED.format(path=path, num_bytes=len(data)))
    if size is not None:
        _check_size(path, io.BytesIO(data), size)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise DataError(_UNREADABLE.format(path=path))
    return np.asarray(image, np.uint8)


def check_image(path: Path, size: tuple[int, int]) -> None:
    """Look at a picture's header and end alone; errors as of `read_image`.

    Args:
        path: as there.
        size: (width, height) that the picture must have.
    """
    try:
        with path.open("rb") as file:
            num_bytes = file.seek(0, io.SEEK_END)
            file.seek(max(0, num_bytes - _TRAILER_BYTES))
            tail = file.read()
            file.seek(0)
            if _is_truncated(file.read(len(_PNG_START)) + tail):
                raise DataError(_TRUNCATED.format(path=path, num_bytes=num_bytes))
            file.seek(0)
            _check_size(path, file, size)
    except OSError as error:
        raise DataError(_MISSING.format(path=path, reason=error.strerror)) from error


def write_image(path: Path, image_HWC: NDArray[np.uint8], *, jpeg_quality: int = 95) -> None:
    """Write a picture whole or not at all.

    Args:
        path: the suffix picks the format, as for `encode_image`.
        image_HWC: [H, W, 3] uint8 RGB.
        jpeg_quality: 1 to 100.

    Raises:
        DataError: as `encode_image`.
    """
    write_bytes(path, encode_image(path.suffix, image_HWC, jpeg_quality=jpeg_quality))


def encode_image(suffix: str, image_HWC: NDArray[np.uint8], *, jpeg_quality: int = 95) -> bytes:
    """A picture as the bytes of its file.

    Args:
        suffix: picks the format; JPEG is without chroma subsampling, which small faces need.
        image_HWC: [H, W, 3] uint8 RGB.
        jpeg_quality: 1 to 100.

    Raises:
        DataError: if the format does not hold it: no side of a JPEG is longer than 65,500 pixels.
    """
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        jpeg_quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    is_jpeg = suffix.lower() in {".jpg", ".jpeg"}
    is_done, data = cv2.imencode(suffix, image_HWC[..., ::-1], options if is_jpeg else [])
    if not is_done:
        height_px, width_px = image_HWC.shape[:2]
        raise DataError(f"a picture of {width_px} x {height_px} pixels does not fit into {suffix}; make it smaller")
    return bytes(data)


def tabled(rows: Sequence[Sequence[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Pictures in rows from the top left on white: a row is as high as its highest, the table as wide as its widest.

    Args:
        rows: at least one, of at least one picture each, [H, W, 3] uint8 of any sizes.

    Returns:
        [H, W, 3] uint8.
    """
    lines = [
        np.concatenate([on_white(image, max(one.shape[0] for one in row), image.shape[1]) for image in row], axis=1)
        for row in rows
    ]
    width_px = max(line.shape[1] for line in lines)
    return np.concatenate([on_white(line, line.shape[0], width_px) for line in lines])


def on_white(image_HWC: NDArray[np.uint8], height_px: int, width_px: int) -> NDArray[np.uint8]:
    """[height, width, 3]: a picture at the top left, white beside and below it; what is beyond is cut off."""
    canvas_HWC = np.full((height_px, width_px, 3), 255, np.uint8)
    height, width = image_HWC.shape[:2]
    canvas_HWC[:height, :width] = image_HWC[:height_px, :width_px]
    return canvas_HWC


def _check_size(path: Path, file: BinaryIO, wanted: tuple[int, int]) -> None:
    """Compare the size in a picture's header."""
    try:
        with Image.open(file, formats=("JPEG", "PNG", "BMP", "WEBP")) as header:
            got = header.size
    except Image.DecompressionBombError as error:
        raise WrongSizeError(f"{path}: {error}, wanted {wanted[0]} x {wanted[1]}") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(_UNREADABLE.format(path=path)) from error
    if got != wanted:
        raise WrongSizeError(f"{path}: frame is {got[0]} x {got[1]} pixels, wanted {wanted[0]} x {wanted[1]}")


def _is_truncated(data: bytes) -> bool:
    tail = data[-_TRAILER_BYTES:]
    return (
        not data
        or (data.startswith(_JPEG_START) and _JPEG_END not in tail)
        or (data.startswith(_PNG_START) and _PNG_END not in tail)
    )
