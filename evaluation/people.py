"""Whom a pair is about: with one source the drawn frame, with several the nearest of the person's training frames."""

from __future__ import annotations

from functools import lru_cache

from data_partition.shards.shard import Shard
from evaluation.pairs import EvaluationPair
from model.frames import Frame
from reenact.face_frame import FaceFrame
from reenact.faces import face_of_shard
from reenact.person import Person, References, references_of_shard

_PEOPLE_HELD = 64


def faces_of_pair(pair: EvaluationPair, size_px: int, num_sources: int) -> tuple[FaceFrame, FaceFrame]:
    """Source and driving frame at a size with their shards' annotation.

    With several sources the source is drawn from others than itself: from frames of its clip (or of another where that
    has none) that were for training, whatever side of the split the drawn one is on.

    Raises:
        DataError: if a frame cannot be read, or there are several sources and the person has no training frame.
    """
    source, driving = (face_of_shard(frame.shard, frame.row, size_px) for frame in (pair.source, pair.driving))
    if num_sources == 1:
        return source, driving
    clip = str(pair.source.shard.clip[pair.source.row])
    return Person.of(source, _references(pair.source.shard, clip, size_px)), driving


def nearest_source(pair: EvaluationPair, size_px: int) -> Frame:
    """The training frame that a result of several sources leans on first, [S, S, 3] uint8 RGB.

    Raises:
        DataError: as `faces_of_pair`.
    """
    source, driving = faces_of_pair(pair, size_px, num_sources=2)
    return source.frames_for(driving.landmarks_KC, driving, 1)[0].image_HWC


@lru_cache(_PEOPLE_HELD)
def _references(shard: Shard, clip: str, size_px: int) -> References:
    return references_of_shard(shard, clip, size_px)
