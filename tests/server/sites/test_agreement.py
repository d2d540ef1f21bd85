from __future__ import annotations

import hashlib
import hmac
import struct
from pathlib import Path

import numpy as np
import pytest

from data_partition.config import DataConfig
from data_partition.partition import ClientData, make_partitions, site_data
from data_partition.statistics import _half, local_statistics, pooled_statistics
from model.landmarks.geometry import PartSizes, mean_part_sizes_px
from server.sites.agreement import SiteStatistics, agree, statistics_forms
from server.updates.reply import RejectedUpdateError
from tests.support.shards import write_random_shard

SIZE_PX = 64
SECRET = bytes(range(32))


@pytest.fixture
def sites(tmp_path: Path) -> list[ClientData]:
    """Identities 0 and 2 of three, with 20 and 40 frames of 32 px."""
    return [
        site_data(write_random_shard(tmp_path, name, num_frames=num, seed=num), index)
        for name, num, index in (("a", 20, 0), ("c", 40, 2))
    ]


def statistics(data: ClientData) -> SiteStatistics:
    return read(local_statistics(data, num_identities=3, size_px=SIZE_PX))


def read(arrays: list[np.ndarray]) -> SiteStatistics:
    return SiteStatistics.from_arrays(arrays, num_identities=3, size_px=SIZE_PX)


def train_landmarks(data: ClientData) -> np.ndarray:
    """[F, 68, 2] at the model's size."""
    part = data.frames[0]
    return (part.shard.landmarks_FKC[part.split_rows("train")].astype(np.float64) + 0.5) * 2 - 0.5


def test_agreed_values_equal_those_of_the_pooled_training_frames(sites: list[ClientData]) -> None:
    agreement = agree([statistics(site) for site in sites], size_px=SIZE_PX)
    first, third = (train_landmarks(site) for site in sites)
    np.testing.assert_allclose(agreement.landmark_mean_IKC[0], first.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(agreement.landmark_std_IKC[2], third.std(axis=0), rtol=1e-4)
    assert not agreement.landmark_mean_IKC[1].any()
    pooled = mean_part_sizes_px(np.concatenate([first, third]))
    assert agreement.part_sizes == PartSizes.from_mean(pooled, SIZE_PX)


def test_test_frames_do_not_enter(sites: list[ClientData]) -> None:
    assert statistics(sites[0]).counts_I.tolist() == [18, 0, 0]
    assert statistics(sites[1]).counts_I.tolist() == [0, 0, 36]


def test_pooled_statistics_are_of_a_random_half_of_the_training_frames(sites: list[ClientData]) -> None:
    landmarks = train_landmarks(sites[0])
    content = hashlib.sha256(sites[0].frames[0].shard.landmarks_FKC[:18].tobytes()).digest()
    hashes = [hmac.new(SECRET, content + struct.pack(">Q", place), "sha256").digest() for place in range(18)]
    half = landmarks[[place for place in range(18) if hashes[place] < sorted(hashes)[9]]]
    got = pooled_statistics(sites[0], size_px=SIZE_PX, secret=SECRET) * SIZE_PX
    np.testing.assert_allclose(got[:8], mean_part_sizes_px(half).reshape(-1), rtol=1e-12)
    np.testing.assert_allclose(got[8:144], half.mean(axis=0).reshape(-1), rtol=1e-12)
    np.testing.assert_allclose(got[144:] * SIZE_PX, half.var(axis=0).reshape(-1), rtol=1e-9)


def test_pooled_statistics_that_are_asked_for_again_tell_nothing_more(sites: list[ClientData]) -> None:
    first, again = (pooled_statistics(sites[1], size_px=SIZE_PX, secret=SECRET) for _ in range(2))
    assert first.tobytes() == again.tobytes()
    assert (pooled_statistics(sites[1], size_px=SIZE_PX, secret=bytes(32)) != first).any()


def test_without_a_frame_another_half_of_the_others_counts(sites: list[ClientData]) -> None:
    shard = sites[1].frames[0].shard
    rows = sites[1].frames[0].split_rows("train")
    halves = [
        set(rows[_half(shard.landmarks_FKC[rows], SECRET)]),
        set(rows[1:][_half(shard.landmarks_FKC[rows[1:]], SECRET)]),
    ]
    assert len(halves[0] ^ halves[1]) > 4


def test_pooled_statistics_of_a_client_with_two_identities_count_them_alike(sites: list[ClientData]) -> None:
    both = ClientData([*sites[0].frames, *sites[1].frames])
    got = (
        np.mean(
            [pooled_statistics(both, size_px=SIZE_PX, secret=bytes([i % 256, i // 256])) for i in range(400)], axis=0
        )[8:144]
        * SIZE_PX
    )
    means = [train_landmarks(site).mean(axis=0).reshape(-1) for site in sites]
    wanted, by_frames = np.mean(means, axis=0), np.average(means, axis=0, weights=[18, 36])
    assert np.abs(got - wanted).mean() < np.abs(got - by_frames).mean() / 3


def test_statistics_of_another_shape_are_rejected(sites: list[ClientData]) -> None:
    arrays = local_statistics(sites[0], num_identities=2, size_px=SIZE_PX)
    with pytest.raises(RejectedUpdateError, match="sent statistics of shapes"):
        read(arrays)


def test_statistics_that_are_not_finite_are_rejected(sites: list[ClientData]) -> None:
    arrays = local_statistics(sites[0], num_identities=3, size_px=SIZE_PX)
    arrays[1][0, 0, 0] = np.nan
    with pytest.raises(RejectedUpdateError, match="not finite"):
        read(arrays)


def test_statistics_without_frames_are_rejected() -> None:
    arrays = local_statistics(ClientData([]), num_identities=3, size_px=SIZE_PX)
    with pytest.raises(RejectedUpdateError, match="no training frames"):
        read(arrays)


@pytest.mark.parametrize(
    ("index", "factor", "words"),
    [
        (0, -1.0, "its mean landmark"),
        (0, 100.0, "its largest part [0-9.]+ px, wanted up to 128 px"),
        (1, 100.0, "its mean landmark is [0-9.e+]+ px from the corner"),
        (2, 1e4, "are its landmarks in pixels of its frames"),
        (3, 0.3, "says it has 5.4 training frames"),
        (3, 1e9, "says it has 1.8e.10 training frames, wanted a number up to 2147483648"),
    ],
)
def test_statistics_that_no_frames_can_have_are_rejected(
    sites: list[ClientData], index: int, factor: float, words: str
) -> None:
    arrays = local_statistics(sites[0], num_identities=3, size_px=SIZE_PX)
    arrays[index] = arrays[index] * factor
    with pytest.raises(RejectedUpdateError, match=words):
        read(arrays)


def site(identity: int, num_frames: float, *, part_px: float = 8.0, landmark_px: float = 20.0) -> SiteStatistics:
    """Frames of one identity of three, all parts and landmarks alike."""
    counts, landmarks = np.zeros(3), np.zeros((3, 68, 2))
    counts[identity], landmarks[identity] = num_frames, num_frames * landmark_px
    squares = landmarks * landmark_px
    return read([np.full((4, 2), num_frames * part_px), landmarks, squares, counts])


@pytest.mark.parametrize(("num_frames", "part_px"), [(2.0**31, 128.0), (2.0**31, 0.0), (1.0, 128.0)])
def test_one_site_sets_no_part_sizes(num_frames: float, part_px: float) -> None:
    """Medians of 8, 8 and whatever: 8 px, enlarged by half to 12."""
    honest = [site(0, 100), site(1, 100)]
    agreement = agree([*honest, site(2, num_frames, part_px=part_px)], size_px=SIZE_PX, max_weight_ratio=2.0)
    assert agreement.part_sizes == PartSizes((12, 12, 12, 12), (12, 12, 12, 12))


def test_a_boast_of_frames_moves_a_shared_identity_within_the_limit() -> None:
    """100 and 100 frames at 20 px, and a billion at 60 px that count as 200: (2 * 100 * 20 + 200 * 60) / 400 = 40."""
    sites = [site(0, 100), site(0, 100), site(0, 1e9, landmark_px=60.0)]
    mean = agree(sites, size_px=SIZE_PX, max_weight_ratio=2.0).landmark_mean_IKC
    assert mean[0] == pytest.approx(np.full((68, 2), 40.0), rel=1e-6)
    assert agree(sites, size_px=SIZE_PX).landmark_mean_IKC[0, 0, 0] == pytest.approx(60.0, rel=1e-5)


def test_one_site_agrees_with_itself_bit_for_bit(sites: list[ClientData]) -> None:
    alone = statistics(sites[0])
    agreement = agree([alone], size_px=SIZE_PX, max_weight_ratio=2.0)
    mean = (alone.sums_IKC / np.maximum(alone.counts_I, 1)[:, None, None]).astype(np.float32)
    assert agreement.landmark_mean_IKC.tobytes() == mean.tobytes()
    assert agreement.part_sizes == PartSizes.from_mean(alone.part_sums_P2 / alone.counts_I.sum(), SIZE_PX)


def based(data: ClientData) -> SiteStatistics:
    arrays = local_statistics(data, num_identities=3, size_px=SIZE_PX, has_base=True)
    return SiteStatistics.from_arrays(arrays, num_identities=3, size_px=SIZE_PX, has_base=True)


@pytest.mark.parametrize("num_sites", [1, 2, 5])
def test_a_base_is_the_same_for_any_way_to_deal_the_frames(tmp_path: Path, num_sites: int) -> None:
    """Three people with frames in held-out seconds; bit for bit, whatever the order of the sites."""
    shards = [write_random_shard(tmp_path, name, num_frames=140 + 40 * n, seed=n) for n, name in enumerate("abc")]
    (whole,) = make_partitions(shards, DataConfig(), 1, 0)
    wanted = agree([based(whole)], size_px=SIZE_PX).base
    dealt = [based(site) for site in make_partitions(shards, DataConfig(partitioner="iid"), num_sites, seed=num_sites)]
    assert wanted is not None and any(values.any() for values in wanted.values())
    for sites in (dealt, dealt[::-1]):
        got = agree(sites, size_px=SIZE_PX).base
        assert got is not None
        assert {name: values.tobytes() for name, values in got.items()} == {
            name: values.tobytes() for name, values in wanted.items()
        }


def test_a_boast_of_frames_moves_a_base_within_the_limit(tmp_path: Path) -> None:
    """A site that says it has its frames a hundred times counts as if it had them twice."""
    honest = [based(site_data(write_random_shard(tmp_path, f"p{n}", num_frames=60, seed=n), n)) for n in range(2)]
    third = based(site_data(write_random_shard(tmp_path, "p2", num_frames=60, seed=2), 2))

    def times(factor: float) -> SiteStatistics:
        base = {form: moments.scaled(factor) for form, moments in third.base.items()}
        sums = {name: factor * getattr(third, name) for name in ("part_sums_P2", "sums_IKC", "squares_IKC", "counts_I")}
        return SiteStatistics(base=base, **sums)

    boast, twice = (agree([*honest, times(n)], size_px=SIZE_PX, max_weight_ratio=2.0).base for n in (100.0, 2.0))
    assert boast is not None and twice is not None
    for name, values in twice.items():
        np.testing.assert_allclose(boast[name], values, atol=1e-6)


def test_sums_for_a_base_that_no_frames_can_have_are_rejected(sites: list[ClientData]) -> None:
    arrays = local_statistics(sites[0], num_identities=3, size_px=SIZE_PX, has_base=True)
    arrays[4] = arrays[4] * 100
    with pytest.raises(RejectedUpdateError, match="its sums for the rotated base of landmarks are more than 8 a frame"):
        SiteStatistics.from_arrays(arrays, num_identities=3, size_px=SIZE_PX, has_base=True)


def test_sums_for_a_base_are_those_that_the_server_waits_for(sites: list[ClientData]) -> None:
    arrays = local_statistics(sites[0], num_identities=3, size_px=SIZE_PX, has_base=True)
    assert [array.shape for array in arrays] == [form.shape for form in statistics_forms(3, has_base=True)]
