"""One picture that shows a whole dataset: every 50th crop of every identity, with names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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
MAX_HEIGHT_PX = 60_000
"""JPEG ends at 65,500."""
_LETTERS_PX = 15
_GREY = 160


def write_contact_sheet(shards: Iterable[Shard], path: Path, *, max_height_px: int = MAX_HEIGHT_PX) -> Path:
    """Write the sheet; a frame that cannot be read is grey.

    Where all people's crops are too many, each shows fewer of them; of whom there is no place then, the last line tells
    the number.

    Args:
        shards: one block each, in this order.
        path: JPEG or PNG to write.
        max_height_px: of the sheet, but for its last line.

    Returns:
        `path`.
    """
    blocks: list[_Block] = []
    most, num_left_out = MAX_THUMBNAILS, 0
    for shard in shards:
        if num_left_out:
            num_left_out += 1
            continue
        blocks.append(_block(shard).thinned(most))
        while _height(blocks) > max_height_px and most > MAX_COLUMNS:
            most //= 2
            blocks = [block.thinned(most) for block in blocks]
        if _height(blocks) > max_height_px:
            blocks.pop()
            num_left_out = 1
    rows = [[block.picture()] for block in blocks]
    if num_left_out or not blocks:
        rows.append(
            [text_line(f"and {num_left_out} more, not shown" if num_left_out else "nobody", size_px=_LETTERS_PX)]
        )
    write_image(path, tabled(rows))
    return path


def thumbnail(frame_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[S, S, 3] uint8 to [THUMBNAIL_PX, THUMBNAIL_PX, 3] uint8."""
    small_HWC = cv2.resize(frame_HWC, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small_HWC, np.uint8)


@dataclass(frozen=True, slots=True)
class _Block:
    """One person on the sheet."""

    label_HWC: NDArray[np.uint8]
    thumbnails: list[NDArray[np.uint8]]

    def thinned(self, most: int) -> _Block:
        """With every second, fourth, ... thumbnail, so that there are at most so many."""
        step = 1
        while -(-len(self.thumbnails) // step) > most:
            step *= 2
        return _Block(self.label_HWC, self.thumbnails[::step])

    def picture(self) -> NDArray[np.uint8]:
        """[H, W, 3] uint8: the label and lines of thumbnails below it."""
        starts = range(0, len(self.thumbnails), MAX_COLUMNS)
        return tabled([[self.label_HWC], *(self.thumbnails[start : start + MAX_COLUMNS] for start in starts)])

    def height_px(self) -> int:
        """Of the picture."""
        return len(self.label_HWC) + -(-len(self.thumbnails) // MAX_COLUMNS) * THUMBNAIL_PX


def _height(blocks: Iterable[_Block]) -> int:
    return sum(block.height_px() for block in blocks)


def _block(shard: Shard) -> _Block:
    step = max(EVERY_NTH, -(-shard.num_frames // MAX_THUMBNAILS))
    label = text_line(shard.identity, f"{shard.num_frames} frames", size_px=_LETTERS_PX)
    return _Block(label, [_thumbnail_of(shard, row) for row in range(0, shard.num_frames, step)])


def _thumbnail_of(shard: Shard, row: int) -> NDArray[np.uint8]:
    try:
        return thumbnail(shard.read_frame(row))
    except DataError:  # `doctor` says so
        return np.full((THUMBNAIL_PX, THUMBNAIL_PX, 3), _GREY, np.uint8)
