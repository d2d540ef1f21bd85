from pathlib import Path

import numpy as np
import pytest

from data_partition.shards.shard import Shard
from evaluation.attacks.membership import draw_probe, losses, seconds
from model.designs.registry import build_networks
from model.landmarks.geometry import PartSizes
from tests.support.federated_setup import minimal_settings
from tests.support.shards import write_random_shard


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    """Three seconds at 25 frames a second, of which the last eight frames are held out."""
    return write_random_shard(tmp_path_factory.mktemp("data"), "person-0", num_frames=75)


def test_probe_has_as_many_of_each_kind_and_sources_a_second_away(shard: Shard) -> None:
    probe = draw_probe(shard, most=5, seed=0)
    assert probe.is_trained_on_N.tolist() == [True] * 5 + [False] * 5
    assert not shard.is_test_F[probe.source_N].any()
    apart_s = np.abs(shard.timestamp_s[probe.source_N] - shard.timestamp_s[probe.driving_N])
    assert apart_s.min() >= 1


def test_clip_of_less_than_a_second_has_nothing_to_ask_about(tmp_path: Path) -> None:
    short = write_random_shard(tmp_path, "person-0", num_frames=20)
    assert not len(draw_probe(short, most=5, seed=0).driving_N)


def test_blocks_are_whole_seconds(shard: Shard) -> None:
    assert seconds(shard, np.array([0, 24, 25, 74])).tolist() == [0, 0, 1, 2]


def test_error_of_copying_is_that_of_the_frames_themselves(shard: Shard, tmp_path: Path) -> None:
    settings = minimal_settings(tmp_path, tmp_path, 1)
    networks = build_networks(settings.model, PartSizes.from_mean(np.full((4, 2), 8.0), 32), seed=0).eval()
    probe = draw_probe(shard, most=6, seed=0)
    drawn_N, copied_N = losses(networks, probe, 32)
    by_hand = [
        np.abs(shard.read_frame(source).astype(float) - shard.read_frame(driving)).mean() / 127.5
        for source, driving in zip(probe.source_N, probe.driving_N, strict=True)
    ]
    assert copied_N == pytest.approx(by_hand, rel=1e-5)
    assert drawn_N.shape == (12,) and (drawn_N > 0).all()
