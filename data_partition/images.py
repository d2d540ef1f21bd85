"""Pictures on disk: uint8 RGB in, uint8 RGB out, and one clear error for a broken file."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG", b"IEND"
_TRAILER_BYTES = 1024
"""Cameras append a few bytes after the end marker; a truncated file has no marker near its end."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """The picture in a file.

    Args:
        path: a JPEG, PNG, BMP or WebP file.

    Returns:
        [H, W, 3] uint8 RGB.

    Raises:
        DataError: if the file is missing, empty, truncated or not a picture.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read the picture ({error.strerror}); restore the file") from error
    if _is_truncated(data):
        raise DataError(f"{path}: truncated picture of {len(data)} bytes; copy or export the file again")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise DataError(f"{path}: not a picture this program can read; wanted JPEG, PNG, BMP or WebP")
    return np.asarray(image, np.uint8)


def write_image(path: Path, image_HWC: NDArray[np.uint8], *, jpeg_quality: int = 95) -> None:
    """Write a picture to a temporary name, then rename it to `path`.

    Args:
        path: the suffix picks the format; JPEG is written without chroma subsampling, which small faces need.
        image_HWC: [H, W, 3] uint8 RGB.
        jpeg_quality: 1 to 100.
    """
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        jpeg_quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    is_jpeg = path.suffix.lower() in {".jpg", ".jpeg"}
    _, data = cv2.imencode(path.suffix, image_HWC[..., ::-1], options if is_jpeg else [])
    temporary = path.with_name(path.name + ".partial")
    temporary.write_bytes(data.tobytes())
    os.replace(temporary, path)


def _is_truncated(data: bytes) -> bool:
    tail = data[-_TRAILER_BYTES:]
    return (
        not data
        or (data.startswith(_JPEG_START) and _JPEG_END not in tail)
        or (data.startswith(_PNG_START) and _PNG_END not in tail)
    )
