"""What is in a shard, as two digests: enough to tell whether a run goes on with the data that it began with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from data_partition.shards.shard import Shard
from model.files import json_sha256


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardContent:
    """One person's frames and annotations, without a picture or a number of them.

    A shard that is prepared again from the same files has the same frames, wherever it lies; its annotations may differ
    in their last bits on another machine, and more by another version of the annotator.
    """

    num_frames: int
    """Frames F, training and test together."""
    frames_sha256: str
    """Of the side of the frames, the SHA-256 of the files they were cut from, and which of their frames they are, in
    order; of the annotations too where the shard does not say what it was made from. The pictures are not read."""
    annotations_sha256: str
    """Of all numbers that belong to the frames."""

    @classmethod
    def of(cls, shard: Shard) -> ShardContent:
        """What an open shard holds; milliseconds for ten thousand frames."""
        annotations = _annotations_sha256(shard)
        made_from = [source.get("sha256") or source for source in shard.info["sources"]]
        frames = [
            shard.size_px,
            made_from or annotations,
            shard.clip.tolist(),
            shard.frame_index.tolist(),
            shard.is_test_F.tolist(),
        ]
        return cls(num_frames=shard.num_frames, frames_sha256=json_sha256(frames), annotations_sha256=annotations)

    def changes(self, now: ShardContent) -> str:
        """In words how the frames differ from those of now, for example "354 frames, now 812"; "" if they do not."""
        if self.frames_sha256 == now.frames_sha256:
            return ""
        if self.num_frames == now.num_frames:
            return f"{self.num_frames} frames, now as many others"
        return f"{self.num_frames} frames, now {now.num_frames}"

    def is_annotated_anew(self, now: ShardContent) -> bool:
        """Whether the frames are those of now, and their annotations are not."""
        return self != now and not self.changes(now)


def contents(shards: Iterable[Shard]) -> dict[str, ShardContent]:
    """Person to what the shard holds, in the order of the shards."""
    return {shard.identity: ShardContent.of(shard) for shard in shards}


def _annotations_sha256(shard: Shard) -> str:
    numbers: Sequence[np.ndarray | None] = (
        shard.timestamp_s,
        shard.landmarks_FKC,
        shard.pose_FC,
        shard.au_presence_FA,
        shard.au_intensity_FA,
        shard.confidence_F,
        shard.irises_FEC,
        *(() if shard.mesh_FVC is None else (shard.mesh_FVC, shard.blendshapes_FB)),
    )
    digest = hashlib.sha256()
    for array in numbers:
        digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
