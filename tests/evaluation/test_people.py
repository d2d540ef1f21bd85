import numpy as np
import pytest

from data_partition.batches import FrameRef
from evaluation.measurement import COPY_NEAREST, baselines, frame_at
from evaluation.pairs import EvaluationPair, Protocol
from evaluation.people import faces_of_pair
from tests.support.shards import write_random_shard


@pytest.fixture
def pair(tmp_path):
    ana, ben = (
        write_random_shard(tmp_path, name, num_frames=20, seed=seed) for seed, name in enumerate(("ana", "ben"))
    )
    return EvaluationPair(Protocol.CROSS, FrameRef(ana, 19), FrameRef(ben, 18))


def test_with_one_source_a_pair_is_drawn_from_its_own_frame(pair):
    source, driving = faces_of_pair(pair, 32, num_sources=1)
    assert list(source.frames_for(driving.landmarks_KC, driving, 1)) == [source]
    np.testing.assert_array_equal(source.image_HWC, pair.source.shard.read_frame(19))


def test_with_several_they_are_training_frames_of_the_source_person_whatever_its_own_frame(pair):
    source, driving = faces_of_pair(pair, 32, num_sources=3)
    shard = pair.source.shard
    np.testing.assert_array_equal(source.image_HWC, shard.read_frame(19))
    for frame in source.frames_for(driving.landmarks_KC, driving, 3):
        rows = [row for row in range(20) if np.array_equal(shard.read_frame(row), frame.image_HWC)]
        assert len(rows) == 1 and not shard.is_test_F[rows[0]] and frame.identity == "ana"


def test_of_a_person_of_test_frames_alone_they_are_a_second_from_the_driving_frame_or_it_is_the_pairs_own(tmp_path):
    ana, ben = (write_random_shard(tmp_path, name, num_frames=60, is_test=True) for name in ("ana", "ben"))

    def rows(driving, num_sources=32):
        pair = EvaluationPair(Protocol.SELF_UNSEEN, FrameRef(ana, 2), driving)
        source, face = faces_of_pair(pair, 32, num_sources)
        return {frame.row for frame in source.frames_for(face.landmarks_KC, face, num_sources)}

    assert rows(FrameRef(ana, 8)) <= set(range(33, 60)) and len(rows(FrameRef(ana, 8))) > 8
    of_another = rows(FrameRef(ben, 8))
    assert len(of_another) == 32 and min(of_another) < 33
    short = write_random_shard(tmp_path, "eva", num_frames=20, is_test=True)
    pair = EvaluationPair(Protocol.SELF_UNSEEN, FrameRef(short, 2), FrameRef(short, 15))
    source, driving = faces_of_pair(pair, 32, num_sources=8)
    assert list(source.frames_for(driving.landmarks_KC, driving, 8)) == [source]


def test_copy_nearest_hands_back_the_first_of_them_and_is_there_for_several_sources_alone(pair):
    copied = baselines(32, num_sources=3)[COPY_NEAREST](pair).frame
    assert any(np.array_equal(copied, frame_at(FrameRef(pair.source.shard, row), 32)) for row in range(18))
    assert COPY_NEAREST not in baselines(32)
