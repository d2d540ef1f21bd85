"""Equal data have equal digests wherever they lie, and other data have others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_partition.shards.content import ShardContent
from data_partition.shards.shard import INFO_NAME, Shard, open_shard
from data_partition.synth.dataset import synthesize
from tests.support.shards import write_random_shard


def from_clips(shard: Shard, *sha256: str) -> Shard:
    """The shard as if it had been cut from these files."""
    path = shard.path / INFO_NAME
    info = json.loads(path.read_text())
    info["sources"] = [{"name": f"{index}.mp4", "sha256": digest} for index, digest in enumerate(sha256)]
    path.write_text(json.dumps(info))
    return open_shard(shard.path)


def test_the_same_frames_elsewhere_with_another_consent_are_the_same(tmp_path: Path) -> None:
    here, there = (write_random_shard(tmp_path / place, "anna") for place in ("here", "there"))
    there.info["consent"], there.info["prepared_from"] = "form 7", "/elsewhere"
    assert ShardContent.of(here) == ShardContent.of(there)


def test_frames_are_told_by_the_files_they_were_cut_from(tmp_path: Path) -> None:
    shard = write_random_shard(tmp_path, "anna")
    one, again, other, more = (from_clips(shard, *files) for files in (["a"], ["a"], ["b"], ["a", "b"]))
    digests = [ShardContent.of(each).frames_sha256 for each in (one, again, other, more)]
    assert digests[0] == digests[1] and len(set(digests)) == 3


def test_a_frame_less_another_size_and_another_side_of_the_split_are_other_frames(tmp_path: Path) -> None:
    shard = from_clips(write_random_shard(tmp_path, "anna"), "a")
    moved = replace(shard, frame_index=shard.frame_index + 1)
    sides = replace(shard, is_test_F=~shard.is_test_F)
    digests = {ShardContent.of(each).frames_sha256 for each in (shard, moved, sides, replace(shard, size_px=64))}
    assert len(digests) == 4


def test_annotations_of_known_files_count_apart_from_their_frames(tmp_path: Path) -> None:
    shard = from_clips(write_random_shard(tmp_path, "anna"), "a")
    before = ShardContent.of(shard)
    for changed in (
        replace(shard, landmarks_FKC=np.nextafter(shard.landmarks_FKC, np.float32(np.inf))),
        replace(shard, irises_FEC=np.zeros((shard.num_frames, 2, 2), np.float32)),
    ):
        now = ShardContent.of(changed)
        assert now.frames_sha256 == before.frames_sha256 and now.annotations_sha256 != before.annotations_sha256


def test_annotations_tell_frames_apart_that_come_from_nowhere(tmp_path: Path) -> None:
    one, other = (write_random_shard(tmp_path / str(seed), "anna", seed=seed) for seed in (0, 1))
    assert ShardContent.of(one).frames_sha256 != ShardContent.of(other).frames_sha256


def drawn(folder: Path, seed: int) -> ShardContent:
    (path,) = synthesize(folder / str(seed), num_identities=1, num_frames=20, size_px=32, seed=seed, num_workers=1)
    return ShardContent.of(open_shard(path))


def test_people_drawn_from_another_seed_are_others(tmp_path: Path) -> None:
    assert drawn(tmp_path, 0).changes(drawn(tmp_path, 1)) == "20 frames, now as many others"


def test_a_change_is_told_in_numbers() -> None:
    one = ShardContent(num_frames=354, frames_sha256="a", annotations_sha256="x")
    assert one.changes(replace(one, annotations_sha256="y")) == ""
    assert one.changes(replace(one, num_frames=812, frames_sha256="b")) == "354 frames, now 812"


def test_meshes_are_annotations_and_a_shard_without_has_the_digest_that_it_had(tmp_path: Path) -> None:
    shard = from_clips(write_random_shard(tmp_path, "anna"), "a")
    meshes = np.zeros((shard.num_frames, 468, 3), np.float16), np.zeros((shard.num_frames, 52), np.float16)
    before, now = ShardContent.of(shard), ShardContent.of(replace(shard, mesh_FVC=meshes[0], blendshapes_FB=meshes[1]))
    assert now.frames_sha256 == before.frames_sha256 and now.annotations_sha256 != before.annotations_sha256
