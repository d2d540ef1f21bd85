"""Promises of data_partition.doctor.duplicates."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_partition.doctor.duplicates import seen_test_frames, shared_pictures
from data_partition.doctor.numbers import ShardNumbers, measure
from data_partition.shards.images import read_image, write_image
from data_partition.shards.shard import Shard
from tests.support.shards import write_random_shard


def _numbers(shard: Shard) -> ShardNumbers:
    return measure(shard, num_thumbnails=0, on_frame=lambda done: None)


def _copy(source: Shard, row: int, target: Shard, *rows: int) -> None:
    for target_row in rows:
        shutil.copyfile(source.path / source.file_name[row], target.path / target.file_name[target_row])


def test_a_frame_copied_into_another_person_is_named(tmp_path: Path) -> None:
    anna, ben, cleo = (write_random_shard(tmp_path, name, seed=seed) for seed, name in enumerate(("a", "b", "c")))
    _copy(anna, 3, cleo, 7)
    people = [_numbers(shard) for shard in (anna, ben, cleo)]
    (shared,) = shared_pictures(people)
    assert (shared.one, shared.other) == (people[0], people[2])
    assert (shared.num_pictures, shared.rows) == (1, (3, 7))


def test_people_without_a_common_picture_share_none(tmp_path: Path) -> None:
    people = [_numbers(write_random_shard(tmp_path, f"p{seed}", seed=seed)) for seed in range(5)]
    assert shared_pictures(people) == []
    assert shared_pictures(people[:1]) == []


def test_a_video_that_was_encoded_again_is_found(tmp_path: Path) -> None:
    anna = write_random_shard(tmp_path, "anna", size_px=64)
    ben = write_random_shard(tmp_path, "ben", size_px=64, seed=1)
    for one, other in zip(anna.file_name, ben.file_name, strict=True):
        write_image(ben.path / other, read_image(anna.path / one), jpeg_quality=80)
    people = [_numbers(shard) for shard in (anna, ben)]
    assert not set(people[0].digest_F.tolist()) & set(people[1].digest_F.tolist())
    (shared,) = shared_pictures(people)
    assert shared.num_pictures > 4  # noise is the hardest case: every bit of the hash is close to flipping
    assert shared.rows[0] == shared.rows[1]


def test_a_test_frame_that_is_a_training_frame_is_named(tmp_path: Path) -> None:
    anna = write_random_shard(tmp_path, "anna", num_frames=40)
    _copy(anna, 3, anna, 38, 39)
    assert seen_test_frames(_numbers(anna)) == (2, 38, 3)


def test_a_still_camera_across_the_border_is_no_duplicate(tmp_path: Path) -> None:
    anna = write_random_shard(tmp_path, "anna", num_frames=40)  # frames 36 to 39 are for testing
    _copy(anna, 35, anna, 34, 36, 37)
    assert seen_test_frames(_numbers(anna)) is None
    _copy(anna, 35, anna, 20)  # the same picture long before: the video repeats itself
    assert seen_test_frames(_numbers(anna)) == (2, 36, 20)


def test_one_video_under_two_clip_names_is_seen(tmp_path: Path) -> None:
    anna = write_random_shard(tmp_path, "anna", num_frames=40)
    for row in range(20):
        _copy(anna, row, anna, row + 20)
    # The second clip starts where the first ends, so neighbours in the file are no neighbours in time.
    twice = replace(
        anna,
        clip=np.repeat(["one", "two"], 20),
        frame_index=np.tile(np.arange(20), 2),
        is_test_F=np.arange(40) >= 38,
    )
    assert seen_test_frames(_numbers(twice)) == (2, 38, 18)


def test_frames_that_cannot_be_read_are_nobodys_duplicates(tmp_path: Path) -> None:
    shards = [write_random_shard(tmp_path, f"p{seed}", seed=seed) for seed in range(2)]
    for shard in shards:
        for row in (0, 39):
            (shard.path / shard.file_name[row]).write_bytes(b"")
    people = [_numbers(shard) for shard in shards]
    assert shared_pictures(people) == [] and seen_test_frames(people[0]) is None
