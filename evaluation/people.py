"""Whom a pair is about: with one source the drawn frame, with several the nearest of the person's training frames."""

from __future__ import annotations

from functools import lru_cache

from data_partition.batches import FrameRef
from data_partition.shards.shard import Shard
from evaluation.pairs import EvaluationPair
from model.frames import Frame
from reenact.face_frame import FaceFrame
from reenact.faces import ShardFace, face_of_shard
from reenact.person import Person, References, references_of_shard

_PEOPLE_HELD = 64
_APART_S = 1.0
"""From which on two frames of a clip are no longer much alike."""


def faces_of_pair(pair: EvaluationPair, size_px: int, num_sources: int) -> tuple[FaceFrame, FaceFrame]:
    """Source and driving frame at a size with their shards' annotation.

    With several sources the source is drawn from others than itself: from frames of its clip (or of another where that
    has none) that were for training, whatever side of the split the drawn one is on. Of a person of whom all are test
    frames, it is drawn from these, but for those less than a second from the driving frame, which would be next to the
    answer; from itself where no other is left.

    Raises:
        DataError: if a frame cannot be read.
    """
    source, driving = (face_of_shard(frame.shard, frame.row, size_px) for frame in (pair.source, pair.driving))
    if num_sources == 1:
        return source, driving
    clip = str(pair.source.shard.clip[pair.source.row])
    references = _references(pair.source.shard, clip, size_px).where(lambda face: _is_fair(face, pair.driving))
    return source if references is None else Person.of(source, references), driving


def nearest_source(pair: EvaluationPair, size_px: int) -> Frame:
    """The frame that a result of several sources leans on first, [S, S, 3] uint8 RGB.

    Raises:
        DataError: as `faces_of_pair`.
    """
    source, driving = faces_of_pair(pair, size_px, num_sources=2)
    return source.frames_for(driving.landmarks_KC, driving, 1)[0].image_HWC


def _is_fair(face: FaceFrame, driving: FrameRef) -> bool:
    """Whether a frame of a shard is for training, of another clip than the driving frame, or apart from it in time."""
    assert isinstance(face, ShardFace)
    shard, row = face.shard, face.row
    is_of_clip = shard.identity == driving.shard.identity and shard.clip[row] == driving.shard.clip[driving.row]
    apart_s = abs(shard.timestamp_s[row] - driving.shard.timestamp_s[driving.row])
    return bool(not shard.is_test_F[row] or not is_of_clip or apart_s >= _APART_S)


@lru_cache(_PEOPLE_HELD)
def _references(shard: Shard, clip: str, size_px: int) -> References:
    return references_of_shard(shard, clip, size_px)
