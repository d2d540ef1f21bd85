"""One picture that shows a whole dataset: every 50th crop of every identity, with names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from data_partition.shards.images import tabled, write_image
from data_partition.shards.lettering import text_line
from data_partition.shards.shard import Shard
from model.errors import DataError

CONTACT_SHEET_NAME = "contact-sheet.jpg"
EVERY_NTH = 50
THUMBNAIL_PX = 96
MAX_COLUMNS = 16
MAX_THUMBNAILS = 64
"""Of one identity; longer shards are shown with larger steps."""
_LETTERS_PX = 15
_GREY = 160


def write_contact_sheet(shards: Iterable[Shard], path: Path) -> Path:
    """Write the sheet; a frame that cannot be read is grey.

    Args:
        shards: one block each, in this order.
        path: JPEG or PNG to write.

    Returns:
        `path`.
    """
    write_image(path, tabled([[_block(shard)] for shard in shards]))
    return path


def thumbnail(frame_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[S, S, 3] uint8 to [THUMBNAIL_PX, THUMBNAIL_PX, 3] uint8."""
    small_HWC = cv2.resize(frame_HWC, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small_HWC, np.uint8)


def _block(shard: Shard) -> NDArray[np.uint8]:
    step = max(EVERY_NTH, -(-shard.num_frames // MAX_THUMBNAILS))
    thumbnails = [_thumbnail_of(shard, row) for row in range(0, shard.num_frames, step)]
    num_columns = min(len(thumbnails), MAX_COLUMNS)
    label = text_line(shard.identity, f"{shard.num_frames} frames", size_px=_LETTERS_PX)
    lines = [thumbnails[start : start + num_columns] for start in range(0, len(thumbnails), num_columns)]
    return tabled([[label], *lines])


def _thumbnail_of(shard: Shard, row: int) -> NDArray[np.uint8]:
    try:
        return thumbnail(shard.read_frame(row))
    except DataError:  # `doctor` says so
        return np.full((THUMBNAIL_PX, THUMBNAIL_PX, 3), _GREY, np.uint8)
