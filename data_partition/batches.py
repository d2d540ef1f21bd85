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
from model.batch import FurtherSources, ReenactmentBatch
from model.errors import DataError
from model.frames import in_model_range
from model.landmarks.geometry import draw_heatmap, rescaled
from model.landmarks.irises import draw_irises
from model.landmarks.likeness import likeness_features, nearest

MAX_REFERENCES = 16
"""Frames of a clip of which the sources of a training pair are the nearest, at most."""


class FrameRef(NamedTuple):
    """One frame of a shard."""

    shard: Shard
    row: int


class Pair(NamedTuple):
    """Who (source) and how (driving)."""

    identity_index: int
    """Of the source, among the federation's identities."""
    source: FrameRef
    """Of several sources the one most like the driving frame."""
    driving: FrameRef
    further: tuple[FrameRef, ...] = ()
    """More sources, those that are more like the driving frame first."""


class ModelFrame(NamedTuple):
    """A frame at the model's size."""

    image_CHW: npt.NDArray[np.uint8]
    landmarks_KC: npt.NDArray[np.float32]
    heatmap_HW: npt.NDArray[np.float32]
    """Of the landmarks alone."""
    irises_EC: npt.NDArray[np.float32] | None
    """None where the shard has none."""


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
        # The annotation in the key makes a shard that was prepared again at the same path miss the old frames.
        irises = None if shard.irises_FEC is None else shard.irises_FEC[row].tobytes()
        key = (shard.path, shard.file_name[row], shard.landmarks_FKC[row].tobytes(), irises, size_px)
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


class _Clip(NamedTuple):
    """Frames of one clip on one side of the split."""

    identity_index: int
    shard: Shard
    rows: npt.NDArray[np.int64]
    """[R] of the shard, ascending."""


class PairSampler:
    """Pairs of two different frames of one clip, from one side of a client's split."""

    def __init__(self, data: ClientData, *, split: Split) -> None:
        """Group the frames by clip; a clip with a single frame gives no pair.

        Raises:
            DataError: if no clip has two frames on this side of the split.
        """
        self._clips: list[_Clip] = []
        self._features: dict[int, npt.NDArray[np.float32]] = {}
        for part in data.frames:
            rows = part.split_rows(split)
            _, first, clip_R, num_rows = np.unique(
                part.shard.clip[rows], return_index=True, return_inverse=True, return_counts=True
            )
            rows_of_clip = np.split(rows[np.argsort(clip_R, kind="stable")], np.cumsum(num_rows)[:-1])
            for clip in np.argsort(first):  # in the order in which the clips come
                if num_rows[clip] >= 2:
                    self._clips.append(_Clip(part.identity_index, part.shard, rows_of_clip[clip]))
        if not self._clips:
            where = ", ".join(str(part.shard.path) for part in data.frames) or "a client without frames"
            raise DataError(f"{where}: no clip has two {split} frames to pair; add frames or lower num-clients")
        self._ends = np.cumsum([len(clip.rows) for clip in self._clips])

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
            _, (identity_index, shard, rows), driving_at = self._at(int(position))
            source_at = int(rng.integers(len(rows) - 1))
            source_at += source_at >= driving_at
            source, driver = FrameRef(shard, int(rows[source_at])), FrameRef(shard, int(rows[driving_at]))
            pairs.append(Pair(identity_index, source, driver))
        return pairs

    def draw_from_several(self, num_pairs: int, num_sources: int, rng: np.random.Generator) -> list[Pair]:
        """Random pairs with several sources each, all of the driving frame's clip.

        Driving is uniform over all frames. The sources are those most like it of a random reference set of the clip's
        other frames, which has between `num_sources` and 16: from whatever there is to the near ones of many, so that
        far sources are met too, and lose to near ones.

        Args:
            num_pairs: wanted.
            num_sources: of each, 2 to 16; fewer for all of them if one's clip has no more.
            rng: the only source of randomness.
        """
        at = [self._at(int(position)) for position in rng.integers(self.num_frames, size=num_pairs)]
        num_each = min(num_sources, *(len(clip.rows) - 1 for _, clip, _ in at))
        return [self._with_nearest(*place, num_each, rng) for place in at]

    def _with_nearest(
        self, index: int, clip: _Clip, driving_at: int, num_sources: int, rng: np.random.Generator
    ) -> Pair:
        num_others = len(clip.rows) - 1
        num_references = min(int(rng.integers(num_sources, MAX_REFERENCES + 1)), num_others)
        references = rng.choice(num_others, num_references, replace=False)
        references += references >= driving_at
        features_RD = self._features_of(index)
        order = nearest(features_RD[references], features_RD[driving_at], num_sources)
        source, *further = (FrameRef(clip.shard, int(row)) for row in clip.rows[references[order]])
        driver = FrameRef(clip.shard, int(clip.rows[driving_at]))
        return Pair(clip.identity_index, source, driver, tuple(further))

    def _at(self, position: int) -> tuple[int, _Clip, int]:
        """Number of the clip, the clip, and the place in it, of a frame's position in [0, num_frames)."""
        index = int(np.searchsorted(self._ends, position, side="right"))
        clip = self._clips[index]
        return index, clip, position - (int(self._ends[index]) - len(clip.rows))

    def _features_of(self, index: int) -> npt.NDArray[np.float32]:
        """[R, D] of a clip's frames, made when first asked for."""
        if index not in self._features:
            _, shard, rows = self._clips[index]
            irises_FEC = None if shard.irises_FEC is None else shard.irises_FEC[rows]
            self._features[index] = likeness_features(
                shard.landmarks_FKC[rows], shard.pose_FC[rows], shard.size_px, irises_FEC
            )
        return self._features[index]


def iter_batches(
    data: ClientData,
    *,
    size_px: int,
    batch_size: int,
    rng: np.random.Generator,
    split: Split,
    num_sources: int = 1,
    use_irises: bool = False,
    cache: FrameCache = PROCESS_CACHE,
) -> Iterator[ReenactmentBatch]:
    """Endless random batches for `train`; for `test` one pass in which every frame drives once, in order.

    Args:
        data: a client's frames.
        size_px: image side S of the batches.
        batch_size: pairs in a batch; the last test batch may be smaller.
        rng: the only source of randomness: an equal generator gives equal batches.
        split: which side of the shards' split all frames of every pair come from.
        num_sources: most sources of a pair in `train`: each batch has a random number of them from 1 on, so that the
            network learns to draw from any number. In `test` there is one.
        use_irises: whether the heatmaps have the irises as a second channel.
        cache: where decoded frames are kept.

    Raises:
        DataError: at once if there is no pair; later, naming the file, if a frame cannot be read.
    """
    sampler = PairSampler(data, split=split)
    if split == "train":
        drawn = _drawn_pairs(sampler, batch_size, num_sources, rng)
        return (make_batch(pairs, size_px, cache, use_irises=use_irises) for pairs in drawn)
    return _one_pass(sampler, size_px, batch_size, rng, cache, use_irises=use_irises)


def make_batch(
    pairs: Sequence[Pair], size_px: int, cache: FrameCache = PROCESS_CACHE, *, use_irises: bool = False
) -> ReenactmentBatch:
    """The batch of the given pairs; source and driving frame of a pair may show different identities.

    Args:
        pairs: N >= 1, all with equally many sources.
        size_px: image side S.
        cache: where decoded frames are kept.
        use_irises: whether the heatmap has the irises as a second channel, black where the shard has none.

    Raises:
        DataError: if a frame cannot be read; it names the file.
    """
    sources = [cache.get(*pair.source, size_px) for pair in pairs]
    drivings = [cache.get(*pair.driving, size_px) for pair in pairs]
    further = [[cache.get(*frame, size_px) for frame in pair.further] for pair in pairs]
    return ReenactmentBatch(
        source_NCHW=in_model_range(np.stack([frame.image_CHW for frame in sources])),
        driving_NCHW=in_model_range(np.stack([frame.image_CHW for frame in drivings])),
        source_landmarks_NKC=torch.from_numpy(np.stack([frame.landmarks_KC for frame in sources])),
        source_heatmap_NCHW=torch.from_numpy(np.stack([frame.heatmap_HW for frame in sources])[:, None]),
        driving_landmarks_NKC=torch.from_numpy(np.stack([frame.landmarks_KC for frame in drivings])),
        heatmap_NCHW=torch.from_numpy(np.stack([_heatmap(frame, use_irises=use_irises) for frame in drivings])),
        pose_NC=torch.from_numpy(np.stack([pair.driving.shard.pose_FC[pair.driving.row] for pair in pairs])),
        au_NA=torch.from_numpy(np.stack([pair.driving.shard.au_presence_FA[pair.driving.row] for pair in pairs])),
        au_intensity_NA=torch.from_numpy(
            np.nan_to_num(np.stack([pair.driving.shard.au_intensity_FA[pair.driving.row] for pair in pairs]))
        ),
        identity_N=torch.tensor([pair.identity_index for pair in pairs], dtype=torch.int64),
        further=_further(further) if further[0] else None,
    )


def _heatmap(frame: ModelFrame, *, use_irises: bool) -> npt.NDArray[np.float32]:
    """[1 or 2, S, S]."""
    if not use_irises:
        return frame.heatmap_HW[None]
    return np.stack([frame.heatmap_HW, draw_irises(frame.landmarks_KC, frame.irises_EC, len(frame.heatmap_HW))])


def _further(frames: Sequence[Sequence[ModelFrame]]) -> FurtherSources:
    """[N][R] frames."""
    return FurtherSources(
        image_NRCHW=in_model_range(np.array([[frame.image_CHW for frame in pair] for pair in frames])),
        landmarks_NRKC=torch.from_numpy(np.array([[frame.landmarks_KC for frame in pair] for pair in frames])),
        heatmap_NRCHW=torch.from_numpy(np.array([[frame.heatmap_HW[None] for frame in pair] for pair in frames])),
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
    irises_EC = None
    if shard.irises_FEC is not None:
        irises_EC = rescaled(shard.irises_FEC[row], side, size_px).astype(np.float32)
    image_CHW = np.ascontiguousarray(image_HWC.transpose(2, 0, 1))
    return ModelFrame(image_CHW, landmarks_KC, draw_heatmap(landmarks_KC, size_px), irises_EC)


def _drawn_pairs(
    sampler: PairSampler, batch_size: int, most_sources: int, rng: np.random.Generator
) -> Iterator[list[Pair]]:
    while True:
        num_sources = int(rng.integers(1, most_sources + 1)) if most_sources > 1 else 1
        if num_sources == 1:
            yield sampler.draw(batch_size, rng)
        else:
            yield sampler.draw_from_several(batch_size, num_sources, rng)


def _one_pass(
    sampler: PairSampler,
    size_px: int,
    batch_size: int,
    rng: np.random.Generator,
    cache: FrameCache,
    *,
    use_irises: bool,
) -> Iterator[ReenactmentBatch]:
    for start in range(0, sampler.num_frames, batch_size):
        driving = np.arange(start, min(start + batch_size, sampler.num_frames))
        yield make_batch(sampler.pairs_driven_by(driving, rng), size_px, cache, use_irises=use_irises)


def _frame_bytes(frame: ModelFrame) -> int:
    return frame.image_CHW.nbytes + frame.landmarks_KC.nbytes + frame.heatmap_HW.nbytes
