"""Small real shards for tests."""

from pathlib import Path

import numpy as np

from data_partition.consent.record import ConsentRecord, synthetic_record
from data_partition.shards.shard import Shard, open_shard
from data_partition.shards.writer import ShardWriter
from model.landmarks.canonical_face import vertices_cm
from model.landmarks.face_mesh import FaceMesh


def write_random_shard(
    root: Path,
    identity: str,
    *,
    num_frames: int = 40,
    size_px: int = 32,
    seed: int = 0,
    max_pose_deg: float = 20,
    grey: int | None = None,
    consent: ConsentRecord | None = None,
    has_mesh: bool = False,
    is_test: bool | None = None,
) -> Shard:
    """A shard of one clip with noise, or one grey level, for frames and landmarks well inside of them.

    Nobody is shown, as its record says unless another one is given.
    """
    rng, mesh_rng = np.random.default_rng(seed), np.random.default_rng(seed)
    with ShardWriter(root, identity, size_px, "test", consent=consent or synthetic_record(identity)) as writer:
        for index in range(num_frames):
            writer.add(
                rng.integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)
                if grey is None
                else np.full((size_px, size_px, 3), grey, np.uint8),
                clip="clip-0",
                frame_index=index,
                timestamp_s=index / 25,
                landmarks_KC=rng.uniform(size_px / 4, size_px * 3 / 4, (68, 2)),
                pose_C=rng.uniform(-1, 1, 3) * max_pose_deg,
                au_presence_A=rng.integers(0, 2, 18),
                au_intensity_A=rng.uniform(0, 5, 18),
                confidence=1.0,
                mesh=_random_mesh(mesh_rng) if has_mesh else None,
                is_test=is_test,
            )
    return open_shard(root / identity)


def _random_mesh(rng: np.random.Generator) -> FaceMesh:
    """The canonical face in the middle of the frame, a little changed, with any expression."""
    vertices_VC = vertices_cm() * [0.08, -0.08, -0.08] + rng.normal(0, 0.01, (468, 3))
    return FaceMesh(vertices_VC=vertices_VC.astype(np.float32), blendshapes_B=rng.random(52, np.float32))
