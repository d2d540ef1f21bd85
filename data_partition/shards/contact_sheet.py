"""One picture that shows a whole dataset: every 50th crop of every identity, with names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from data_partition.shards.images import write_image
from data_partition.shards.shard import Shard

EVERY_NTH = 50
THUMBNAIL_PX = 96
MAX_COLUMNS = 16
MAX_THUMBNAILS = 64
"""Of one identity; longer shards are shown with larger steps."""
_LABEL_PX = 22


def write_contact_sheet(shards: Iterable[Shard], path: Path) -> Path:
    """Write the sheet.

    Args:
        shards: one block each, in this order.
        path: JPEG or PNG to write.

    Returns:
        `path`.
    """
    blocks = [_block(shard) for shard in shards]
    width = max(block.shape[1] for block in blocks)
    padded = [
        cv2.copyMakeBorder(block, 0, 0, 0, width - block.shape[1], cv2.BORDER_CONSTANT, value=(255, 255, 255))
        for block in blocks
    ]
    write_image(path, np.concatenate(padded).astype(np.uint8))
    return path


def thumbnail(frame_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[S, S, 3] uint8 to [THUMBNAIL_PX, THUMBNAIL_PX, 3] uint8."""
    small_HWC = cv2.resize(frame_HWC, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small_HWC, np.uint8)


def _block(shard: Shard) -> NDArray[np.uint8]:
    step = max(EVERY_NTH, -(-shard.num_frames // MAX_THUMBNAILS))
    thumbnails = [thumbnail(shard.read_frame(row)) for row in range(0, shard.num_frames, step)]
    num_columns = min(len(thumbnails), MAX_COLUMNS)
    blank = np.full((THUMBNAIL_PX, THUMBNAIL_PX, 3), 255, np.uint8)
    thumbnails += [blank] * (-len(thumbnails) % num_columns)
    lines = [
        np.concatenate(thumbnails[start : start + num_columns], axis=1)
        for start in range(0, len(thumbnails), num_columns)
    ]
    text = f"{shard.identity}: {shard.num_frames} frames"
    width = max(lines[0].shape[1], 9 * len(text))
    label = np.full((_LABEL_PX, width, 3), 255, np.uint8)
    cv2.putText(label, text, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    body = np.concatenate(lines)
    right = width - body.shape[1]
    body = cv2.copyMakeBorder(body, 0, 0, 0, right, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    return np.concatenate([label, body])
