"""Picture files of people, read as a person sees them.

Frames of shards are read by `data_partition/shards/images.py`: this program wrote them itself, at a known size.
"""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from model.errors import DataError

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".avif"})
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "AVIF")
"""Decoders that a file may reach, by Pillow's names; a file is known by its content, not by its name."""
WANTED = "wanted JPEG, PNG, BMP, WebP, TIFF or AVIF"
MAX_PIXELS = 100_000_000
"""Of one picture or frame: 300 MB decoded."""
MAX_FILE_BYTES = 1 << 30

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
"""The next marker in JPEG's entropy-coded data, which has no 0xff but before a zero or a restart marker."""
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


def read_picture(path: Path) -> NDArray[np.uint8]:
    """The picture in a file: upright, in sRGB, on white where it is transparent, 8 bits a channel.

    What lies behind the picture's end (the film of a motion photo, a camera's notes) is not looked at.

    Args:
        path: a file in one of `FORMATS`, whatever its name.

    Returns:
        [H, W, 3] uint8 RGB.

    Raises:
        DataError: if the file is missing, empty, truncated, too large or not a picture.
    """
    data = _picture_bytes(path)
    image = _decoded(path, data)
    if data.startswith(_JPEG_START) and not _is_complete(path, data, image):
        raise DataError(f"{path}: truncated picture, its lower part is missing; copy or export the file again")
    return image


def _picture_bytes(path: Path) -> bytes:
    """Content of a file up to the end of its picture."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataError(f"{path}: more than {MAX_FILE_BYTES >> 20} MiB, too large for a picture")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read the picture ({error.strerror}); restore the file") from error
    end = len(data)
    if data.startswith(_JPEG_START):
        end = _jpeg_end(data)
    elif data.startswith(_PNG_START):
        end = _png_end(data)
    if not data or end > len(data):
        raise DataError(f"{path}: truncated picture of {len(data)} bytes; copy or export the file again")
    return data[:end]


def _jpeg_end(data: bytes) -> int:
    """Position behind the end marker of the first picture; beyond the data if there is none."""
    place = 2
    while marker := _JPEG_MARKER.search(data, place):
        code, place = marker[1][0], marker.end()
        if code == _END_OF_IMAGE:
            return place
        if code != 0x01:  # the one marker without a length
            place += int.from_bytes(data[place : place + 2], "big")
    return len(data) + 1


def _png_end(data: bytes) -> int:
    """Position behind the last chunk; beyond the data if it is not there."""
    place = len(_PNG_START)
    while place + 12 <= len(data):
        kind = data[place + 4 : place + 8]
        place += 12 + int.from_bytes(data[place : place + 4], "big")
        if kind == b"IEND":
            return place
    return len(data) + 1


def _decoded(path: Path, data: bytes) -> NDArray[np.uint8]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, which are looked at here, and of odd EXIF
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_pixels(path, *image.size)
                return np.array(_as_seen(image), np.uint8)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: {error}; make it smaller") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not a picture this program can read; {WANTED}") from error
    except Exception as error:  # decoders raise whatever damaged data makes them raise
        raise DataError(f"{path}: damaged picture ({error}); copy or export the file again") from error


def _check_pixels(path: Path, width_px: int, height_px: int) -> None:
    if width_px * height_px > MAX_PIXELS:
        text = f"{width_px} x {height_px} pixels, wanted at most {MAX_PIXELS // 1_000_000} megapixels"
        raise DataError(f"{path}: {text}; make it smaller")


def _as_seen(image: Image.Image) -> Image.Image:
    """A picture as viewers show it, in mode RGB."""
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        image = Image.fromarray((np.asarray(image, np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    return _in_srgb(image, profile)


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Colours of wide gamuts and printing inks as they look on a screen; a profile that does not fit is passed over."""
    if profile and image.mode in ("RGB", "CMYK", "L"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(image, source, target, outputMode="RGB") or image.convert("RGB")
        except ImageCms.PyCMSError:
            return image.convert("RGB")
    return image.convert("RGB")


def _is_complete(path: Path, data: bytes, image: NDArray[np.uint8]) -> bool:
    """Whether a JPEG holds all of its picture.

    Decoders fill what is missing before the end marker with grey and say nothing. Bytes put there change a picture that
    is cut and no other.
    """
    filling = bytes(range(1, 128)) * 2
    longer = _decoded(path, data[: -len(_JPEG_END)] + filling + _JPEG_END)
    return np.array_equal(longer, image)
