"""Promises of data_partition.doctor.numbers."""

from pathlib import Path

import cv2
import numpy as np

from data_partition.doctor.numbers import difference_hash, measure, sharpness
from data_partition.shards.shard import Shard
from tests.support.shards import write_random_shard


def _grey(shard: Shard, row: int) -> np.ndarray:
    return cv2.cvtColor(shard.read_frame(row), cv2.COLOR_RGB2GRAY)


def test_rows_stay_in_order_although_threads_read_them(tmp_path: Path) -> None:
    shard = write_random_shard(tmp_path, "anna", num_frames=60)
    done: list[int] = []
    numbers = measure(shard, num_thumbnails=3, on_frame=done.append)
    assert done == list(range(1, 61))
    assert numbers.hash_F.tolist() == [difference_hash(_grey(shard, row)) for row in range(60)]
    np.testing.assert_allclose(
        numbers.sharpness_F, [sharpness(_grey(shard, row), shard.landmarks_FKC[row]) for row in range(60)], rtol=1e-6
    )
    assert len(set(numbers.digest_F.tolist())) == 60
    assert len(numbers.thumbnails) == 3 and numbers.thumbnails[0].shape == (96, 96, 3)


def test_the_hash_says_where_it_gets_brighter() -> None:
    ramp = np.tile(np.linspace(0, 255, 90, dtype=np.uint8), (80, 1))
    assert difference_hash(ramp) == 2**64 - 1
    assert difference_hash(ramp[:, ::-1]) == 0
    assert difference_hash(np.concatenate([ramp[:40], ramp[40:, ::-1]])) == (2**32 - 1) << 32


def test_blur_lowers_the_sharpness(tmp_path: Path) -> None:
    shard = write_random_shard(tmp_path, "anna", num_frames=1, size_px=64)
    grey, landmarks = _grey(shard, 0), shard.landmarks_FKC[0]
    assert sharpness(cv2.GaussianBlur(grey, (9, 9), 3), landmarks) < 0.1 * sharpness(grey, landmarks)


def test_frames_that_cannot_be_read_leave_gaps(tmp_path: Path) -> None:
    shard = write_random_shard(tmp_path, "anna", num_frames=10)
    (shard.path / shard.file_name[4]).write_bytes(b"")
    numbers = measure(shard, num_thumbnails=10, on_frame=lambda done: None)
    assert numbers.num_unread == 1 and not numbers.is_read_F[4] and "000004.jpg" in numbers.problem
    assert len(numbers.thumbnails) == 9
    assert np.isfinite(numbers.sharpness_quantiles(0.0, 1.0)).all()
