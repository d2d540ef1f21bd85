from collections import Counter

import numpy as np
import pytest

from data_partition.shards.shard import open_shard
from data_partition.shards.writer import ShardWriter
from evaluation.pairs import Protocol, draw_pairs, protocols_named, read_pairs, write_pairs
from model.errors import ConfigError, DataError
from tests.support.shards import write_random_shard

NAMES = ("ana", "ben", "cleo")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("dataset")
    return [write_random_shard(root, name, seed=seed) for seed, name in enumerate(NAMES)]  # 36 train, 4 test frames


def held_out(frame) -> bool:
    return bool(frame.shard.is_test_F[frame.row])


def test_self_pairs_are_two_held_out_frames_of_one_person(shards):
    for pair in draw_pairs(Protocol.SELF, shards, num_pairs=8, seed=0):
        assert pair.source.shard is pair.driving.shard and pair.source.row != pair.driving.row
        assert held_out(pair.source) and held_out(pair.driving)


def test_self_any_pairs_take_the_source_from_the_training_part(shards):
    for pair in draw_pairs(Protocol.SELF_ANY, shards, num_pairs=8, seed=0):
        assert pair.source.shard is pair.driving.shard
        assert not held_out(pair.source) and held_out(pair.driving)


def test_cross_pairs_are_held_out_frames_of_two_people(shards):
    pairs = draw_pairs(Protocol.CROSS, shards, num_pairs=8, seed=0)
    assert all(pair.source.shard is not pair.driving.shard for pair in pairs)
    assert all(held_out(pair.source) and held_out(pair.driving) for pair in pairs)
    assert Counter(pair.source.shard.identity for pair in pairs) == dict.fromkeys(NAMES, 8)
    assert Counter(pair.driving.row for pair in pairs[:8]) == dict.fromkeys(range(36, 40), 2)


def test_any_frame_of_people_whom_no_model_knows_drives_and_is_driven(shards):
    pairs = draw_pairs(Protocol.CROSS_UNSEEN, shards, num_pairs=80, seed=0)
    assert all(pair.source.shard is not pair.driving.shard for pair in pairs)
    assert Counter((pair.driving.shard.identity, pair.driving.row) for pair in pairs[:80]) == dict.fromkeys(
        [(name, row) for name in NAMES[1:] for row in range(40)], 1
    )
    assert {held_out(pair.source) for pair in pairs} == {True, False}


def test_no_pair_comes_twice_and_there_are_no_more_than_possible(shards):
    pairs = draw_pairs(Protocol.SELF, shards[:1], num_pairs=2000, seed=0)
    assert len(pairs) == len({pair.cells() for pair in pairs}) == 4 * 3


def test_seed_fixes_the_pairs_and_neither_order_nor_other_people_change_self_pairs(shards):
    pairs = draw_pairs(Protocol.SELF_ANY, shards, num_pairs=5, seed=1)
    assert draw_pairs(Protocol.SELF_ANY, shards[::-1], num_pairs=5, seed=1) == pairs
    assert draw_pairs(Protocol.SELF_ANY, shards[1:2], num_pairs=5, seed=1) == pairs[5:10]
    assert draw_pairs(Protocol.SELF_ANY, shards, num_pairs=5, seed=2) != pairs


def test_a_lone_person_cannot_be_crossed(shards):
    with pytest.raises(DataError, match=r"ana: no cross pair can be formed; wanted two people"):
        draw_pairs(Protocol.CROSS, shards[:1], num_pairs=1, seed=0)


def test_written_pairs_come_back_in_order(shards, tmp_path):
    pairs = [pair for protocol in Protocol for pair in draw_pairs(protocol, shards, num_pairs=3, seed=0)]
    write_pairs(tmp_path / "pairs.csv", pairs[::-1])
    assert read_pairs(tmp_path / "pairs.csv", shards) == pairs[::-1]
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.csv"]


HEADER = "protocol,source_identity,source_file,driving_identity,driving_file\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "missing column"),
        ("protocol,source_identity\n", "missing column driving_file, driving_identity, source_file"),
        (HEADER, "no pairs in it"),
        (
            HEADER + "swap,ana,frames/000036.jpg,ana,frames/000037.jpg\n",
            "line 2: protocol is 'swap', wanted one of self",
        ),
        (
            HEADER + "self,ana,frames/000036.jpg,ana,frames/999999.jpg\n",
            "line 2: driving frame frames/999999.jpg of ana",
        ),
        (HEADER + "self,ana,frames/000036.jpg\n", "line 2: driving frame None of None is not in the dataset"),
        (HEADER + "self,ana,frames/000036.jpg,ana,frames/000000.jpg\n", "line 2: this is no self pair"),
        (HEADER + "self,ana,frames/000036.jpg,ben,frames/000037.jpg\n", "line 2: this is no self pair"),
        (HEADER + "self,ana,frames/000036.jpg,ana,frames/000036.jpg\n", "line 2: this is no self pair"),
        (HEADER + "cross,ana,frames/000001.jpg,ben,frames/000037.jpg\n", "line 2: this is no cross pair"),
    ],
)
def test_unusable_pairs_name_file_and_line(shards, tmp_path, text, words):
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_pairs(path, shards)
    assert str(path) in str(error.value) and words in str(error.value)


def test_missing_pairs_file_is_a_data_error(shards, tmp_path):
    with pytest.raises(DataError, match="cannot read pairs"):
        read_pairs(tmp_path / "none.csv", shards)


def test_protocols_by_name():
    assert protocols_named("all") == (Protocol.SELF, Protocol.SELF_ANY, Protocol.CROSS)
    assert protocols_named("self-any") == (Protocol.SELF_ANY,)
    with pytest.raises(
        ConfigError, match="got 'other', wanted self, self-any, cross, cross-unseen, self-unseen or all"
    ):
        protocols_named("other")


def test_pairs_for_all_people_together_are_divided_evenly(shards):
    pairs = draw_pairs(Protocol.SELF, shards, num_pairs=20, seed=0, is_total=True)
    assert Counter(pair.source.shard.identity for pair in pairs) == {"ana": 7, "ben": 7, "cleo": 6}
    alone = draw_pairs(Protocol.SELF, shards, num_pairs=6, seed=0)
    assert [pair for pair in pairs if pair.source.shard.identity == "cleo"] == alone[-6:]


def test_pairs_keep_to_their_clip_in_a_shard_of_many_clips(tmp_path):
    with ShardWriter(tmp_path, "ana", 8, "test") as writer:
        for index in range(90):  # three clips in turns, so that rows of a clip are never neighbours
            writer.add(
                np.zeros((8, 8, 3), np.uint8),
                clip=f"clip-{index % 3}",
                frame_index=index // 3,
                timestamp_s=index / 25,
                landmarks_KC=np.zeros((68, 2)),
                pose_C=np.zeros(3),
                au_presence_A=np.zeros(18),
                au_intensity_A=np.zeros(18),
                confidence=1.0,
            )
    shard = open_shard(tmp_path / "ana")
    pairs = draw_pairs(Protocol.SELF, [shard], num_pairs=2000, seed=0)
    assert {(pair.source.row, pair.driving.row) for pair in pairs} == {
        (a, b) for a in range(81, 90) for b in range(81, 90) if a != b and a % 3 == b % 3
    }
    any_time = draw_pairs(Protocol.SELF_ANY, [shard], num_pairs=2000, seed=0)
    assert len(any_time) == 9 * 27
    assert all(pair.source.row % 3 == pair.driving.row % 3 and pair.source.row < 81 for pair in any_time)
