"""(source, driving) pairs as ReenactmentBatches, from decoded frames kept in memory.

Shapes: N pairs, S image side in pixels, K = 68 landmarks, F frames of a shard.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch

from data_partition.partition import ClientData, Split
from data_partition.shards.shard import Shard
from model.batch import ReenactmentBatch
from model.errors import DataError
from model.frames import in_model_range
from model.landmarks.geometry import draw_heatmap, rescaled


class FrameRef(NamedTuple):
    """One frame of a shard."""

    shard: Shard
    row: int


class Pair(NamedTuple):
    """Who (source) and how (driving)."""

    identity_index: int
    """Of the source, among the federation's identities."""
    source: FrameRef
    driving: FrameRef


class ModelFrame(NamedTuple):
    """A frame at the model's size."""

    image_CHW: npt.NDArray[np.uint8]
    landmarks_KC: npt.NDArray[np.float32]
    heatmap_HW: npt.NDArray[np.float32]


class FrameCache:
    """ModelFrames, the least recently used dropped first, bounded in bytes; safe to share between threads."""

    def __init__(self, max_bytes: int) -> None:
        """Start empty; images and heatmaps together never take more than max_bytes."""
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._frames: OrderedDict[Hashable, ModelFrame] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def num_bytes(self) -> int:
        """Bytes held now."""
        return self._num_bytes

    def get(self, shard: Shard, row: int, size_px: int) -> ModelFrame:
        """The frame at size_px, decoded only if it is not held.

        Raises:
            DataError: if the image file is missing or damaged; it names the file.
        """
        # The landmarks in the key make a shard that was prepared again at the same path miss the old frames.
        key = (shard.path, shard.file_name[row], shard.landmarks_FKC[row].tobytes(), size_px)
        with self._lock:
            frame = self._frames.get(key)
            if frame is not None:
                self._frames.move_to_end(key)
                return frame
        frame = load_frame(shard, row, size_px)
        with self._lock:
            if key not in self._frames:
                self._frames[key] = frame
                self._num_bytes += _frame_bytes(frame)
            while self._num_bytes > self._max_bytes:
                self._num_bytes -= _frame_bytes(self._frames.popitem(last=False)[1])
        return frame


PROCESS_CACHE = FrameCache(max_bytes=512 * 2**20)
"""Shared by all clients of a process: a client object lives for one round, its worker process for many."""


class PairSampler:
    """Pairs of two different frames of one clip, from one side of a client's split."""

    def __init__(self, data: ClientData, *, split: Split) -> None:
        """Group the frames by clip; a clip with a single frame gives no pair.

        Raises:
            DataError: if no clip has two frames on this side of the split.
        """
        self._clips: list[tuple[int, Shard, npt.NDArray[np.int64]]] = []
        for part in data.frames:
            rows = part.split_rows(split)
            _, first, clip_R, num_rows = np.unique(
                part.shard.clip[rows], return_index=True, return_inverse=True, return_counts=True
            )
            rows_of_clip = np.split(rows[np.argsort(clip_R, kind="stable")], np.cumsum(num_rows)[:-1])
            for clip in np.argsort(first):  # in the order in which the clips come
                if num_rows[clip] >= 2:
                    self._clips.append((part.identity_index, part.shard, rows_of_clip[clip]))
        if not self._clips:
            where = ", ".join(str(part.shard.path) for part in data.frames) or "a client without frames"
            raise DataError(f"{where}: no clip has two {split} frames to pair; add frames or lower num-clients")
        self._ends = np.cumsum([len(rows) for _, _, rows in self._clips])

    @property
    def num_frames(self) -> int:
        """Frames that can be drawn."""
        return int(self._ends[-1])

    def draw(self, num_pairs: int, rng: np.random.Generator) -> list[Pair]:
        """Random pairs: driving uniform over all frames, source uniform over the other frames of its clip."""
        return self.pairs_driven_by(rng.integers(self.num_frames, size=num_pairs), rng)

    def pairs_driven_by(self, driving: npt.NDArray[np.int64], rng: np.random.Generator) -> list[Pair]:
        """One pair for each driving frame, given by its position in [0, num_frames), with a random source."""
        pairs = []
        for position in driving:
            clip = int(np.searchsorted(self._ends, position, side="right"))
            identity_index, shard, rows = self._clips[clip]
            driving_at = int(position) - (int(self._ends[clip]) - len(rows))
            source_at = int(rng.integers(len(rows) - 1))
            source_at += source_at >= driving_at
            source, driver = FrameRef(shard, int(rows[source_at])), FrameRef(shard, int(rows[driving_at]))
            pairs.append(Pair(identity_index, source, driver))
        return pairs


def iter_batches(
    data: ClientData,
    *,
    size_px: int,
    batch_size: int,
    rng: np.random.Generator,
    split: Split,
    cache: FrameCache = PROCESS_CACHE,
) -> Iterator[ReenactmentBatch]:
    """Endless random batches for `train`; for `test` one pass in which every frame drives once, in order.

    Args:
        data: a client's frames.
        size_px: image side S of the batches.
        batch_size: pairs in a batch; the last test batch may be smaller.
        rng: the only source of randomness: an equal generator gives equal batches.
        split: which side of the shards' split both frames of every pair come from.
        cache: where decoded frames are kept.

    Raises:
        DataError: at once if there is no pair; later, naming the file, if a frame cannot be read.
    """
    sampler = PairSampler(data, split=split)
    if split == "train":
        return _endless(sampler, size_px, batch_size, rng, cache)
    return _one_pass(sampler, size_px, batch_size, rng, cache)


def make_batch(
    pairs: Sequence[tuple[int, tuple[Shard, int], tuple[Shard, int]]],
    size_px: int,
    cache: FrameCache = PROCESS_CACHE,
) -> ReenactmentBatch:
    """The batch of the given pairs; the two frames of a pair may show different identities.

    Args:
        pairs: N of (identity index, (source shard, row), (driving shard, row)), N >= 1.
        size_px: image side S.
        cache: where decoded frames are kept.

    Raises:
        DataError: if a frame cannot be read; it names the file.
    """
    sources = [cache.get(shard, row, size_px) for _, (shard, row), _ in pairs]
    drivings = [cache.get(shard, row, size_px) for _, _, (shard, row) in pairs]
    return ReenactmentBatch(
        source_NCHW=in_model_range(np.stack([frame.image_CHW for frame in sources])),
        driving_NCHW=in_model_range(np.stack([frame.image_CHW for frame in drivings])),
        source_landmarks_NKC=torch.from_numpy(np.stack([frame.landmarks_KC for frame in sources])),
        driving_landmarks_NKC=torch.from_numpy(np.stack([frame.landmarks_KC for frame in drivings])),
        heatmap_NCHW=torch.from_numpy(np.stack([frame.heatmap_HW for frame in drivings])[:, None]),
        pose_NC=torch.from_numpy(np.stack([shard.pose_FC[row] for _, _, (shard, row) in pairs])),
        au_NA=torch.from_numpy(np.stack([shard.au_presence_FA[row] for _, _, (shard, row) in pairs])),
        au_intensity_NA=torch.from_numpy(
            np.nan_to_num(np.stack([shard.au_intensity_FA[row] for _, _, (shard, row) in pairs]))
        ),
        identity_N=torch.tensor([identity_index for identity_index, _, _ in pairs], dtype=torch.int64),
    )


def load_frame(shard: Shard, row: int, size_px: int) -> ModelFrame:
    """Frame `row` read from disk, resized to size_px, its landmarks scaled along and drawn as a heatmap.

    Raises:
        DataError: if the image file is missing or damaged; it names the file.
    """
    image_HWC = shard.read_frame(row)
    side = image_HWC.shape[0]
    if side != size_px:
        interpolation = cv2.INTER_AREA if size_px < side else cv2.INTER_LINEAR
        image_HWC = cv2.resize(image_HWC, (size_px, size_px), interpolation=interpolation)
    landmarks_KC = rescaled(shard.landmarks_FKC[row], side, size_px).astype(np.float32)
    image_CHW = np.ascontiguousarray(image_HWC.transpose(2, 0, 1))
    return ModelFrame(image_CHW, landmarks_KC, draw_heatmap(landmarks_KC, size_px))


def _endless(
    sampler: PairSampler, size_px: int, batch_size: int, rng: np.random.Generator, cache: FrameCache
) -> Iterator[ReenactmentBatch]:
    while True:
        yield make_batch(sampler.draw(batch_size, rng), size_px, cache)


def _one_pass(
    sampler: PairSampler, size_px: int, batch_size: int, rng: np.random.Generator, cache: FrameCache
) -> Iterator[ReenactmentBatch]:
    for start in range(0, sampler.num_frames, batch_size):
        driving = np.arange(start, min(start + batch_size, sampler.num_frames))
        yield make_batch(sampler.pairs_driven_by(driving, rng), size_px, cache)


def _frame_bytes(frame: ModelFrame) -> int:
    return frame.image_CHW.nbytes + frame.landmarks_KC.nbytes + frame.heatmap_HW.nbytes
