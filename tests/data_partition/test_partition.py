from pathlib import Path

import numpy as np
import pytest

from data_partition.batches import PairSampler
from data_partition.config import DataConfig
from data_partition.partition import ClientData, make_partitions, site_data
from data_partition.shards.shard import Shard, open_dataset
from data_partition.shards.writer import ShardWriter
from model.errors import ConfigError


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Shard]:
    """Three identities with 60, 40 and 20 frames in two clips each."""
    out = tmp_path_factory.mktemp("dataset")
    for identity, num_frames in (("a", 60), ("b", 40), ("c", 20)):
        write_shard(out, identity, num_frames)
    return open_dataset(out)


def write_shard(out: Path, identity: str, num_frames: int, frames_per_clip: int | None = None) -> None:
    frames_per_clip = frames_per_clip or num_frames // 2
    with ShardWriter(out, identity, 8, "test") as writer:
        for i in range(num_frames):
            writer.add(
                np.full((8, 8, 3), i, np.uint8),
                clip=f"clip-{i // frames_per_clip}",
                frame_index=i,
                timestamp_s=i / 25,
                landmarks_KC=np.zeros((68, 2)),
                pose_C=np.zeros(3),
                au_presence_A=np.zeros(18),
                au_intensity_A=np.zeros(18),
                confidence=1.0,
            )


def rows_of(client: ClientData) -> list[tuple[int, int]]:
    return [(part.identity_index, int(row)) for part in client.frames for row in part.rows]


ALL_ROWS = sorted((i, row) for i, n in enumerate((60, 40, 20)) for row in range(n))


@pytest.mark.parametrize("partitioner", ["identity", "iid", "dirichlet"])
@pytest.mark.parametrize("num_clients", [1, 2, 3, 5])
def test_partitions_are_disjoint_complete_and_reproducible(
    shards: list[Shard], partitioner: str, num_clients: int
) -> None:
    data = DataConfig(partitioner=partitioner)
    clients = make_partitions(shards, data, num_clients, seed=3)
    assert len(clients) == num_clients
    again = make_partitions(shards, data, num_clients, seed=3)
    assert sorted(row for client in clients for row in rows_of(client)) == ALL_ROWS
    assert [rows_of(c) for c in clients] == [rows_of(c) for c in again]
    assert sum(c.identity_counts(3).sum() for c in clients) == 54 + 36 + 18
    assert sum(len(part.split_rows("test")) for c in clients for part in c.frames) == 6 + 4 + 2


@pytest.mark.parametrize("partitioner", ["iid", "dirichlet"])
def test_another_seed_deals_other_frames(shards: list[Shard], partitioner: str) -> None:
    data = DataConfig(partitioner=partitioner)
    first, second = (make_partitions(shards, data, 3, seed) for seed in (0, 1))
    assert rows_of(first[0]) != rows_of(second[0])


def test_more_identities_than_clients_are_dealt_round_robin(shards: list[Shard]) -> None:
    clients = make_partitions(shards, DataConfig(), 2, seed=0)
    assert [[part.identity_index for part in client.frames] for client in clients] == [[0, 2], [1]]
    assert clients[0].identity_counts(3).tolist() == [54, 0, 18]


def test_more_clients_than_identities_share_one_in_contiguous_stretches(shards: list[Shard]) -> None:
    clients = make_partitions(shards, DataConfig(), 4, seed=0)
    assert [c.identity_counts(3).tolist() for c in clients] == [
        [27, 0, 0],
        [0, 36, 0],
        [0, 0, 18],
        [27, 0, 0],
    ]
    early, late = (clients[i].frames[0].split_rows("train") for i in (0, 3))
    assert early.max() < late.min()


def test_iid_gives_every_client_an_equal_share_of_every_identity(shards: list[Shard]) -> None:
    for client in make_partitions(shards, DataConfig(partitioner="iid"), 2, seed=0):
        assert client.identity_counts(3).tolist() == [27, 18, 9]


def test_smaller_dirichlet_alpha_is_more_skewed(shards: list[Shard]) -> None:
    def spread(alpha: float) -> float:
        data = DataConfig(partitioner="dirichlet", dirichlet_alpha=alpha)
        return float(np.std([c.identity_counts(3) for c in make_partitions(shards, data, 2, seed=0)], axis=0).sum())

    assert spread(100.0) < spread(0.3)


def test_train_rows_hold_no_test_frame(shards: list[Shard]) -> None:
    for client in make_partitions(shards, DataConfig(partitioner="iid"), 3, seed=0):
        for part in client.frames:
            assert not part.shard.is_test_F[part.split_rows("train")].any()
            assert part.shard.is_test_F[part.split_rows("test")].all()


def test_a_site_holds_its_whole_shard(shards: list[Shard]) -> None:
    client = site_data(shards[1], identity_index=4)
    assert rows_of(client) == [(4, row) for row in range(40)]
    assert client.identity_counts(5).tolist() == [0, 0, 0, 0, 36]


def test_a_client_without_a_pair_is_refused_with_the_way_out(shards: list[Shard]) -> None:
    with pytest.raises(ConfigError, match=r"client 2 of 60 .* 0 training frames with .* lower num-clients"):
        make_partitions(shards, DataConfig(), 60, seed=0)


@pytest.fixture(scope="module")
def short_clips(tmp_path_factory: pytest.TempPathFactory) -> list[Shard]:
    """Two identities with 30 clips of 4 frames each."""
    out = tmp_path_factory.mktemp("short")
    for identity in ("a", "b"):
        write_shard(out, identity, 120, frames_per_clip=4)
    return open_dataset(out)


@pytest.mark.parametrize("partitioner", ["identity", "iid", "dirichlet"])
@pytest.mark.parametrize("num_clients", [1, 2, 3, 5])
def test_a_client_weighs_the_frames_that_it_can_draw(
    short_clips: list[Shard], partitioner: str, num_clients: int
) -> None:
    clients = make_partitions(short_clips, DataConfig(partitioner=partitioner), num_clients, seed=0)
    weights = [client.num_examples for client in clients]
    assert weights == [PairSampler(client, split="train").num_frames for client in clients]
    assert sum(weights) <= sum(client.identity_counts(2).sum() for client in clients)


def test_a_client_with_frames_of_different_clips_alone_is_refused(short_clips: list[Shard]) -> None:
    with pytest.raises(ConfigError, match=r"would get 0 training frames with another one of their clip"):
        make_partitions(short_clips, DataConfig(partitioner="iid"), 60, seed=0)


def test_dirichlet_deals_anew_until_every_client_has_a_pair(short_clips: list[Shard]) -> None:
    data = DataConfig(partitioner="dirichlet", dirichlet_alpha=0.5)
    for seed in range(20):
        for client in make_partitions(short_clips, data, 6, seed):
            assert PairSampler(client, split="train").num_frames >= 2
