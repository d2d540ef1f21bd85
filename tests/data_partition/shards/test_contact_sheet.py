"""Promises of data_partition.shards.contact_sheet."""

from pathlib import Path

import numpy as np

from data_partition.shards.contact_sheet import write_contact_sheet
from data_partition.shards.images import read_image
from tests.support.shards import write_random_shard


def test_every_50th_crop_is_shown_below_the_name(tmp_path: Path) -> None:
    shards = [
        write_random_shard(tmp_path, "anna", num_frames=101, size_px=96),
        write_random_shard(tmp_path, "ben", num_frames=20, size_px=96),
    ]
    sheet = read_image(write_contact_sheet(shards, tmp_path / "sheet.png"))
    assert sheet.shape == (2 * (22 + 96), 3 * 96, 3)
    np.testing.assert_array_equal(sheet[22:118, 96:192], shards[0].read_frame(50))
    np.testing.assert_array_equal(sheet[140:, :96], shards[1].read_frame(0))
    assert (sheet[140:, 192:] == 255).all()


def test_a_long_shard_fills_several_lines(tmp_path: Path) -> None:
    shard = write_random_shard(tmp_path, "anna", num_frames=851, size_px=8)
    sheet = read_image(write_contact_sheet([shard], tmp_path / "sheet.png"))
    assert sheet.shape == (22 + 2 * 96, 16 * 96, 3)  # 18 crops, 16 in a line


def test_a_frame_that_cannot_be_read_is_grey(tmp_path: Path) -> None:
    shard = write_random_shard(tmp_path, "anna", num_frames=101, size_px=96)
    (shard.path / shard.file_name[50]).write_bytes(b"")
    sheet = read_image(write_contact_sheet([shard], tmp_path / "sheet.png"))
    assert (sheet[22:, 96:192] == 160).all()
    np.testing.assert_array_equal(sheet[22:, 192:], shard.read_frame(100))


def test_a_sheet_of_many_people_shows_fewer_crops_each_and_then_fewer_people(tmp_path: Path) -> None:
    shards = [write_random_shard(tmp_path, name, num_frames=1601, size_px=8) for name in ("anna", "ben", "cleo")]
    heights = {}
    for max_height_px in (1000, 900, 450, 236, 100):
        path = write_contact_sheet(shards, tmp_path / "sheet.png", max_height_px=max_height_px)
        heights[max_height_px] = read_image(path).shape[:2]
    three_lines, two_lines, one_line = 3 * (22 + 3 * 96), 3 * (22 + 2 * 96), 3 * (22 + 96)
    assert heights[1000] == (three_lines, 16 * 96)  # 33 crops
    assert heights[900] == (two_lines, 16 * 96)
    assert heights[450] == (one_line, 9 * 96)
    assert heights[236] == (2 * (22 + 96) + 22, 9 * 96)
    assert heights[100][0] == 22
