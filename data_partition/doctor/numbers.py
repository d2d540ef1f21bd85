"""What `fedreenact doctor` measures of one person: every frame is read once, and no picture is kept but thumbnails.

Legend: F frames, A = 18 action units, C coordinates.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from data_partition.shards.contact_sheet import thumbnail
from data_partition.shards.shard import Shard
from model.errors import DataError

SHARP_SIDE_PX = 128
STILL_CHANGE = 0.2
"""Mean grey difference of neighbouring frames, of 255, below which they show the same picture."""
TINY_PX = 8
"""Side of the grey picture that is kept of every frame; also of the hash, which so has 64 bits."""

FloatArray = NDArray[np.floating]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardNumbers:
    """One person's numbers. Rows of frames that cannot be read hold zeros and NaN."""

    shard: Shard
    is_read_F: NDArray[np.bool_]
    """[F] false where the frame cannot be read."""
    sharpness_F: NDArray[np.float32]
    """[F] Laplacian variance over grey variance within the face, >= 0."""
    digest_F: NDArray[np.uint64]
    """[F] of the grey picture in full size: equal for the same picture only."""
    hash_F: NDArray[np.uint64]
    """[F] perceptual (`difference_hash`): often equal for a picture that was scaled or encoded again."""
    tiny_FHW: NDArray[np.uint8]
    """[F, 8, 8] grey."""
    num_still: int
    """Frames that show the picture of the frame before."""
    problem: str
    """What is wrong with the first frame that cannot be read; "" if all can."""
    thumbnails: tuple[Pixels, ...]
    """[THUMBNAIL_PX, THUMBNAIL_PX, 3] uint8 RGB each, spread evenly over the frames."""

    @property
    def num_clips(self) -> int:
        """Clips that the frames come from."""
        return len(np.unique(self.shard.clip))

    @property
    def num_test(self) -> int:
        """Frames kept for testing."""
        return int(self.shard.is_test_F.sum())

    @property
    def num_unread(self) -> int:
        """Frames that cannot be read."""
        return int((~self.is_read_F).sum())

    @property
    def is_for_evaluation_only(self) -> bool:
        """Whether every frame is a test frame."""
        return bool(self.shard.is_test_F.all())

    @property
    def au_share_A(self) -> FloatArray:
        """[A] share of the frames in which each action unit is present, 0 to 1."""
        share: FloatArray = self.shard.au_presence_FA.mean(axis=0)
        return share

    def pose_quantiles(self, *quantiles: float) -> FloatArray:
        """[Q, 3] degrees: the quantiles of pitch, yaw and roll."""
        return np.quantile(self.shard.pose_FC, quantiles, axis=0)

    def sharpness_quantiles(self, *quantiles: float) -> FloatArray:
        """[Q] quantiles of the sharpness of all frames that can be read; NaN if none can."""
        if not self.is_read_F.any():
            return np.full(len(quantiles), np.nan)
        return np.quantile(self.sharpness_F[self.is_read_F], quantiles)

    @property
    def brightness(self) -> float:
        """Median over the frames of their mean grey, 0 to 255; NaN if none can be read."""
        if not self.is_read_F.any():
            return float("nan")
        return float(np.median(self.tiny_FHW[self.is_read_F].mean(axis=(1, 2))))

    def face_sizes(self) -> FloatArray:
        """[F] larger side of the landmarks' box, in sides of the frame."""
        span_FC = self.shard.landmarks_FKC.max(axis=1) - self.shard.landmarks_FKC.min(axis=1)
        sizes: FloatArray = span_FC.max(axis=1) / self.shard.size_px
        return sizes


class _Frame(NamedTuple):
    """What one frame gives; the grey picture is dropped when the next frame has been compared with it."""

    grey_HW: Pixels
    sharpness: float
    digest: int
    hash: int
    tiny_HW: Pixels
    thumbnail: Pixels | None


def measure(shard: Shard, *, num_thumbnails: int, on_frame: Callable[[int], None]) -> ShardNumbers:
    """Read every frame of a shard once, on as many threads as there are cores, and measure it.

    Memory: about 100 bytes a frame, the thumbnails, and a few pictures at a time.

    Args:
        shard: of one person.
        num_thumbnails: at most so many, >= 0.
        on_frame: called after each frame with the number of frames done.
    """
    num_frames = shard.num_frames
    shown = frozenset(np.linspace(0, num_frames - 1, min(num_thumbnails, num_frames)).astype(int).tolist())
    is_read_F = np.zeros(num_frames, np.bool_)
    sharpness_F = np.full(num_frames, np.nan, np.float32)
    digest_F, hash_F = np.zeros(num_frames, np.uint64), np.zeros(num_frames, np.uint64)
    tiny_FHW = np.zeros((num_frames, TINY_PX, TINY_PX), np.uint8)
    thumbnails, problem, num_still = [], "", 0
    previous_HW: Pixels | None = None
    for row, frame in enumerate(_frames(shard, shown)):
        on_frame(row + 1)
        if isinstance(frame, DataError):
            problem = problem or str(frame)
            continue
        is_read_F[row], sharpness_F[row], digest_F[row], hash_F[row] = True, frame.sharpness, frame.digest, frame.hash
        tiny_FHW[row] = frame.tiny_HW
        if frame.thumbnail is not None:
            thumbnails.append(frame.thumbnail)
        num_still += previous_HW is not None and bool(cv2.absdiff(frame.grey_HW, previous_HW).mean() < STILL_CHANGE)
        previous_HW = frame.grey_HW
    return ShardNumbers(
        shard=shard,
        is_read_F=is_read_F,
        sharpness_F=sharpness_F,
        digest_F=digest_F,
        hash_F=hash_F,
        tiny_FHW=tiny_FHW,
        num_still=num_still,
        problem=problem,
        thumbnails=tuple(thumbnails),
    )


def difference_hash(grey_HW: Pixels) -> int:
    """64 bits that say where a grey picture of 9 x 8 pixels gets brighter from left to right (dHash).

    Args:
        grey_HW: [H, W] uint8 of any size.
    """
    small_HW = cv2.resize(grey_HW, (TINY_PX + 1, TINY_PX), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(small_HW[:, 1:] > small_HW[:, :-1]).tobytes(), "big")


def sharpness(grey_HW: Pixels, landmarks_KC: NDArray[np.float32]) -> float:
    """Laplacian variance over grey variance within the face, at most at 128 px.

    Args:
        grey_HW: [S, S] uint8.
        landmarks_KC: [68, 2] (x, y) pixels; their box is the face.
    """
    scale = min(1.0, SHARP_SIDE_PX / grey_HW.shape[0])
    if scale < 1:
        size = (SHARP_SIDE_PX, SHARP_SIDE_PX)
        grey_HW = np.asarray(cv2.resize(grey_HW, size, interpolation=cv2.INTER_AREA), np.uint8)
    last = grey_HW.shape[0] - 1
    x0, y0 = np.clip(landmarks_KC.min(axis=0) * scale, 0, last - 1).astype(int)
    x1, y1 = np.clip(landmarks_KC.max(axis=0) * scale, 1, last).astype(int)
    face = (slice(y0, y1 + 1), slice(x0, x1 + 1))
    contrast = max(float(grey_HW[face].var()), 1.0)
    return float(np.asarray(cv2.Laplacian(grey_HW, cv2.CV_32F))[face].var()) / contrast


def _frames(shard: Shard, shown: Collection[int]) -> Iterator[_Frame | DataError]:
    """Every row in order; at most a few rows a thread are read ahead."""
    num_threads = os.cpu_count() or 1
    pending: deque[Future[_Frame | DataError]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        for row in range(shard.num_frames):
            pending.append(pool.submit(_measure_frame, shard, row, row in shown))
            if len(pending) > 4 * num_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _measure_frame(shard: Shard, row: int, is_shown: bool) -> _Frame | DataError:
    try:
        frame_HWC = shard.read_frame(row)
    except DataError as error:
        return error
    grey_HW = np.asarray(cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY), np.uint8)
    return _Frame(
        grey_HW=grey_HW,
        sharpness=sharpness(grey_HW, shard.landmarks_FKC[row]),
        digest=int.from_bytes(hashlib.blake2b(grey_HW.tobytes(), digest_size=8).digest(), "big"),
        hash=difference_hash(grey_HW),
        tiny_HW=np.asarray(cv2.resize(grey_HW, (TINY_PX, TINY_PX), interpolation=cv2.INTER_AREA), np.uint8),
        thumbnail=thumbnail(frame_HWC) if is_shown else None,
    )
