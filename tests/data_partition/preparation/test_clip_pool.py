"""Promises of data_partition.preparation.clip_pool: whatever a clip does to its process, the others go on."""

import multiprocessing
import os
from pathlib import Path

import pytest

from data_partition.preparation.clip import ClipJob
from data_partition.preparation.clip_pool import PREPARING, run_clips
from data_partition.shards.shard import Shard
from data_partition.sources.records import ClipSource
from model.progress import no_progress
from tests.data_partition.conftest import write_video


def _job(tmp_path: Path, path: Path) -> ClipJob:
    return ClipJob(
        source=ClipSource(path=path), identity=path.stem, sha256=path.stem, part_dir=tmp_path / "parts", size_px=64
    )


@pytest.fixture
def anna(tmp_path: Path, drawn_people: list[Shard], face_landmarker: Path) -> ClipJob:
    """A good clip of ten frames."""
    shard = drawn_people[0]
    return _job(tmp_path, write_video(tmp_path / "anna.mp4", [shard.read_frame(row) for row in range(10)]))


@pytest.mark.integration
def test_a_clip_that_gives_no_frame_is_ended_and_left_out_and_the_others_are_prepared(
    tmp_path: Path, anna: ClipJob
) -> None:
    silent = tmp_path / "ben.mp4"
    os.mkfifo(silent)  # to open it waits for somebody who writes
    stuck = _job(tmp_path, silent)
    done = run_clips([stuck, anna], 1, no_progress, stalled_s=1.0)
    (problem,) = done[stuck].problems
    assert problem.path == str(silent) and "its process ended twice" in problem.reason and "for 1 s" in problem.reason
    assert done[stuck].num_kept == 0 and done[anna].num_kept >= 9


@pytest.mark.integration
def test_a_clip_whose_process_was_killed_is_tried_once_more(anna: ClipJob) -> None:
    killed = set[int]()

    def kill_the_first(text: str, done: int, total: int) -> None:
        if text == PREPARING and done and not killed:
            for process in multiprocessing.active_children():
                killed.add(process.pid or 0)
                process.kill()

    done = run_clips([anna], 1, kill_the_first)
    assert killed and done[anna].num_kept >= 9 and not done[anna].problems
