from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from data_partition.batches import FrameRef
from evaluation.clips import clips_of, measure_clips, rows_about, temporal_distance
from evaluation.measurement import COPY_SOURCE, Drawn, baselines, frame_at
from evaluation.metrics.pixels import l1
from evaluation.pairs import Protocol, draw_pairs
from model.progress import no_progress
from tests.evaluation.conftest import half_of_l1, instruments_with
from tests.support.shards import write_random_shard

SIZE = 32


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("dataset")
    return [write_random_shard(root, name, seed=seed, num_frames=400) for seed, name in enumerate(("ana", "ben"))]


def measured(pairs, analyser, **methods):
    return measure_clips(
        clips_of(pairs),
        methods or baselines(SIZE),
        instruments_with(analyser),
        size_px=SIZE,
        progress=no_progress,
    )


def test_one_clip_a_protocol_and_source_person_of_successive_frames_that_may_drive(shards):
    pairs = [pair for protocol in Protocol for pair in draw_pairs(protocol, shards, num_pairs=3, seed=0)]
    clips = clips_of(pairs)
    assert {(clip[0].protocol, clip[0].source.shard.identity) for clip in clips} == {
        (protocol, name) for protocol in Protocol for name in ("ana", "ben")
    }
    for clip in clips:
        rows = [pair.driving.row for pair in clip]
        assert rows == list(range(rows[0], rows[0] + 32))
        assert rows[0] >= 360 or clip[0].protocol is Protocol.CROSS_UNSEEN
        first = next(p for p in pairs if (p.protocol, p.source.shard) == (clip[0].protocol, clip[0].source.shard))
        assert {pair.source for pair in clip} == {first.source} and first.driving.row in rows


def test_a_clip_ends_where_frames_are_missing_or_another_recording_begins(shards):
    shard = shards[0]
    gap = replace(shard, timestamp_s=shard.timestamp_s + (np.arange(400) >= 375) * 0.5)
    assert rows_about(gap, 370, gap.is_test_F) == list(range(360, 375))
    other = replace(shard, clip=np.where(np.arange(400) < 390, "one", "two"))
    assert rows_about(other, 395, other.is_test_F) == list(range(390, 400))


def test_too_few_successive_frames_are_no_clip(shards):
    shard = replace(shards[0], timestamp_s=np.arange(400.0))
    pair = draw_pairs(Protocol.SELF, shards, num_pairs=1, seed=0)[0]
    assert clips_of([pair._replace(driving=FrameRef(shard, 370))]) == []


def test_copies_of_the_driving_clip_move_alike_and_a_held_source_not_at_all(shards, analyser):
    for found in measured(draw_pairs(Protocol.CROSS, shards, num_pairs=1, seed=0), analyser):
        moves = found.method != COPY_SOURCE
        assert found.values == {"lip_dynamics": moves, "head_dynamics": moves, "brow_dynamics": moves}


def test_temporal_distance_is_what_successive_frames_differ_by_and_wants_the_truth(shards, analyser):
    pairs = draw_pairs(Protocol.SELF, shards, num_pairs=1, seed=0)
    found = measured(pairs, analyser, held=lambda pair: Drawn(frame_at(pair.source, SIZE)))[0]
    frames = [frame_at(pair.driving, SIZE) for pair in found.clip]
    steps = [l1(after, before) / 2 for before, after in pairwise(frames)]
    assert found.values["temporal_perceptual"] == pytest.approx(np.mean(steps))
    assert temporal_distance(frames, frames, half_of_l1) == 0


def test_clips_without_faces_have_no_movement_to_compare(shards, analyser):
    pairs = draw_pairs(Protocol.SELF, shards, num_pairs=1, seed=0)
    found = measured(pairs, analyser, black=lambda pair: Drawn(frame_at(pair.source, SIZE) * 0))[0]
    assert np.isnan([found.values[f"{part}_dynamics"] for part in ("lip", "head", "brow")]).all()
