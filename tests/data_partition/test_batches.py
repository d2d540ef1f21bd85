import itertools
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from data_partition.batches import FrameCache, FrameRef, Pair, PairSampler, iter_batches, load_frame, make_batch
from data_partition.partition import ClientData, site_data
from data_partition.shards.shard import Shard, open_shard
from data_partition.shards.writer import ShardWriter
from model.batch import ReenactmentBatch
from model.errors import DataError
from model.landmarks.geometry import draw_heatmap
from tests.support.shards import write_random_shard

SIDE = 128
OPTIONAL = ("further", "driver_NCHW", "meshes")
TENSORS = tuple(name for name in ReenactmentBatch.__dataclass_fields__ if name not in OPTIONAL)


def grey_of(row: int) -> int:
    return 5 * row + 20


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    """Clip p: rows 0-19, clip q: rows 20-39, clip lone: row 40. Grey level, pose and AUs name the row."""
    rng = np.random.default_rng(0)
    out = tmp_path_factory.mktemp("dataset")
    with ShardWriter(out, "a", SIDE, "test") as writer:
        for row in range(41):
            writer.add(
                np.full((SIDE, SIDE, 3), grey_of(row), np.uint8),
                clip=("p", "q", "lone")[row // 20],
                frame_index=row % 20,
                timestamp_s=row / 25,
                landmarks_KC=rng.uniform(10, 110, (68, 2)),
                pose_C=np.array([row, -row, 0.5]),
                au_presence_A=np.arange(18) == row % 18,
                au_intensity_A=np.zeros(18),
                confidence=1.0,
            )
    return open_shard(out / "a")


@pytest.fixture
def data(shard: Shard) -> ClientData:
    return site_data(shard, identity_index=2)


def rows_shown(frames_NCHW: torch.Tensor) -> list[int]:
    grey = (frames_NCHW.mean(dim=(1, 2, 3)) + 1) * 127.5
    return [round((float(level) - 20) / 5) for level in grey]


def take(data: ClientData, num_batches: int, seed: int = 0, cache: FrameCache | None = None) -> list[ReenactmentBatch]:
    batches = iter_batches(
        data,
        size_px=64,
        batch_size=4,
        rng=np.random.default_rng(seed),
        split="train",
        cache=cache or FrameCache(2**26),
    )
    return list(itertools.islice(batches, num_batches))


def test_heatmaps_of_source_and_driving_are_of_their_landmarks(data: ClientData) -> None:
    batch = take(data, 1)[0]
    for drawn_NCHW, landmarks_NKC in (
        (batch.source_heatmap_NCHW, batch.source_landmarks_NKC),
        (batch.heatmap_NCHW, batch.driving_landmarks_NKC),
    ):
        for drawn_CHW, landmarks_KC in zip(drawn_NCHW, landmarks_NKC, strict=True):
            np.testing.assert_array_equal(drawn_CHW[0], draw_heatmap(landmarks_KC.numpy(), 64))


def test_pairs_are_two_different_training_frames_of_one_clip(data: ClientData) -> None:
    seen = set()
    for batch in take(data, 100):
        for source, driving in zip(rows_shown(batch.source_NCHW), rows_shown(batch.driving_NCHW), strict=True):
            assert source != driving and source // 20 == driving // 20
            seen |= {source, driving}
    assert seen == {*range(18), *range(20, 38)}  # rows 18, 19, 38, 39 are test frames; row 40 has no partner


@pytest.mark.integration
def test_all_ordered_pairs_of_a_clip_are_equally_likely(data: ClientData) -> None:
    pairs = PairSampler(data, split="train").draw(60_000, np.random.default_rng(0))
    counts = np.zeros((40, 40))
    for pair in pairs:
        counts[pair.source.row, pair.driving.row] += 1
    drawn = counts[counts > 0]
    assert drawn.size == 2 * 18 * 17
    assert abs(drawn - 60_000 / drawn.size).max() < 5 * np.sqrt(60_000 / drawn.size)


def with_lips(tmp_path: Path, gaps_px: list[int]) -> Shard:
    """One clip of faces that differ in the gap of the lips alone."""
    base_KC = np.random.default_rng(0).uniform(10, 110, (68, 2))
    with ShardWriter(tmp_path, "lips", SIDE, "test") as writer:
        for row, gap_px in enumerate(gaps_px):
            landmarks_KC = base_KC.copy()
            landmarks_KC[61:64], landmarks_KC[65:68] = 60, 60
            landmarks_KC[61:64, 1] -= gap_px / 2
            landmarks_KC[65:68, 1] += gap_px / 2
            writer.add(
                np.full((SIDE, SIDE, 3), grey_of(row), np.uint8),
                clip="p",
                frame_index=row,
                timestamp_s=row / 25,
                landmarks_KC=landmarks_KC,
                pose_C=np.zeros(3),
                au_presence_A=np.zeros(18),
                au_intensity_A=np.zeros(18),
                confidence=1.0,
            )
    return open_shard(tmp_path / "lips")


def test_several_sources_are_those_most_like_the_driving_frame_the_most_alike_first(tmp_path: Path) -> None:
    gaps_px = [0, 10, 1, 9, 2, 8, 3, 7, 40, 40]  # the last is for testing
    sampler = PairSampler(site_data(with_lips(tmp_path, gaps_px), 0), split="train")
    for pair in sampler.draw_from_several(200, 8, np.random.default_rng(0)):  # all the others
        wanted = gaps_px[pair.driving.row]
        apart = [abs(gaps_px[frame.row] - wanted) for frame in (pair.source, *pair.further)]
        assert apart == sorted(apart) and len(apart) == 8
        assert sorted(frame.row for frame in (pair.source, *pair.further, pair.driving)) == list(range(9))


def test_near_and_far_sources_are_met_in_training(data: ClientData) -> None:
    pairs = PairSampler(data, split="train").draw_from_several(3_000, 2, np.random.default_rng(0))
    met = {(pair.driving.row, frame.row) for pair in pairs for frame in (pair.source, *pair.further)}
    assert len(met) > 0.8 * 2 * 18 * 17  # pairs that there are
    for pair in pairs:
        rows = [frame.row for frame in (pair.source, *pair.further, pair.driving)]
        assert len(set(rows)) == 3 and len({row // 20 for row in rows}) == 1


def test_a_batch_has_from_one_to_the_most_sources_and_all_its_pairs_as_many(data: ClientData) -> None:
    batches = iter_batches(data, size_px=64, batch_size=3, rng=np.random.default_rng(0), split="train", num_sources=4)
    counts = []
    for batch in itertools.islice(batches, 60):
        counts.append(1 if batch.further is None else 1 + batch.further.image_NRCHW.shape[1])
        if batch.further is not None:
            assert batch.further.landmarks_NRKC.shape == (3, counts[-1] - 1, 68, 2)
            drawn_HW = draw_heatmap(batch.further.landmarks_NRKC[2, -1].numpy(), 64)
            np.testing.assert_array_equal(batch.further.heatmap_NRCHW[2, -1, 0], drawn_HW)
    assert set(counts) == {1, 2, 3, 4}


def test_a_clip_shorter_than_the_sources_gives_as_many_as_it_has(tmp_path: Path) -> None:
    sampler = PairSampler(site_data(with_lips(tmp_path, [0, 1, 2, 3]), 0), split="train")
    pairs = sampler.draw_from_several(5, 16, np.random.default_rng(0))
    assert all(len(pair.further) == 2 for pair in pairs)


def test_test_split_drives_every_held_out_frame_once_with_held_out_sources(data: ClientData) -> None:
    batches = list(iter_batches(data, size_px=64, batch_size=3, rng=np.random.default_rng(0), split="test"))
    assert [len(batch) for batch in batches] == [3, 1]
    driving = [row for batch in batches for row in rows_shown(batch.driving_NCHW)]
    source = [row for batch in batches for row in rows_shown(batch.source_NCHW)]
    assert driving == [18, 19, 38, 39] and source == [19, 18, 39, 38]


def test_equal_generators_give_equal_batches(data: ClientData) -> None:
    for first, second in zip(take(data, 5, seed=7), take(data, 5, seed=7), strict=True):
        for name in TENSORS:
            assert torch.equal(getattr(first, name), getattr(second, name))
    assert not torch.equal(take(data, 1, seed=7)[0].pose_NC, take(data, 1, seed=8)[0].pose_NC)


def test_batch_carries_the_driving_frames_labels_at_the_models_size(shard: Shard) -> None:
    batch = make_batch(
        [
            Pair(2, FrameRef(shard, 3), FrameRef(shard, 5)),
            Pair(0, FrameRef(shard, 21), FrameRef(shard, 3)),
        ],
        64,
    )
    assert batch.source_NCHW.shape == batch.driving_NCHW.shape == (2, 3, 64, 64)
    torch.testing.assert_close(batch.source_NCHW[0], torch.full((3, 64, 64), grey_of(3) / 127.5 - 1), atol=0.01, rtol=0)
    assert batch.identity_N.tolist() == [2, 0]
    assert batch.pose_NC.tolist() == [[5.0, -5.0, 0.5], [3.0, -3.0, 0.5]]
    assert batch.au_NA.argmax(dim=1).tolist() == [5, 3]
    expected = (shard.landmarks_FKC[[5, 3]] + 0.5) / 2 - 0.5
    np.testing.assert_allclose(batch.driving_landmarks_NKC.numpy(), expected, rtol=1e-6)
    np.testing.assert_array_equal(batch.heatmap_NCHW[1, 0].numpy(), draw_heatmap(expected[1], 64))
    dtypes = {name: getattr(batch, name).dtype for name in TENSORS}
    assert dtypes.pop("identity_N") == torch.int64 and set(dtypes.values()) == {torch.float32}


@pytest.mark.parametrize("size_px", [64, 128, 256])
def test_landmarks_stay_on_their_picture_detail_when_resized(tmp_path: Path, size_px: int) -> None:
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    cv2.rectangle(image, (40, 20), (43, 23), (255, 255, 255), -1)  # a 4 x 4 square centred on (41.5, 21.5)
    with ShardWriter(tmp_path, "a", SIDE, "test") as writer:
        writer.add(
            image,
            clip="c",
            frame_index=0,
            timestamp_s=0,
            landmarks_KC=np.full((68, 2), (41.5, 21.5)),
            pose_C=np.zeros(3),
            au_presence_A=np.zeros(18),
            au_intensity_A=np.zeros(18),
            confidence=1.0,
        )
    frame = load_frame(open_shard(tmp_path / "a"), 0, size_px)
    weight_HW = frame.image_CHW.astype(float).sum(axis=0)
    y, x = np.indices(weight_HW.shape)
    centroid = np.array([(x * weight_HW).sum(), (y * weight_HW).sum()]) / weight_HW.sum()
    np.testing.assert_allclose(frame.landmarks_KC[0], centroid, atol=0.1)


def looking_shard(root: Path, irises_EC: list[list[float]] | None) -> Shard:
    """Two frames of side 64 with open eyes 10 px wide at (15, 20) and (35, 20)."""
    landmarks_KC = np.full((68, 2), 40.0)
    for first, left in ((36, 15), (42, 35)):
        eye = [(0, 0), (3, -2), (7, -2), (10, 0), (7, 2), (3, 2)]
        landmarks_KC[first : first + 6] = [(left + x, 20 + y) for x, y in eye]
    with ShardWriter(root, "a" if irises_EC else "b", 64, "test") as writer:
        for index in range(2):
            writer.add(
                np.zeros((64, 64, 3), np.uint8),
                clip="c",
                frame_index=index,
                timestamp_s=0,
                landmarks_KC=landmarks_KC,
                pose_C=np.zeros(3),
                au_presence_A=np.zeros(18),
                au_intensity_A=np.zeros(18),
                confidence=1.0,
                irises_EC=irises_EC,
            )
    return open_shard(root / ("a" if irises_EC else "b"))


def test_irises_are_a_second_channel_at_the_models_size(tmp_path: Path) -> None:
    shard = looking_shard(tmp_path, [[22, 20], [42, 20]])
    pair = Pair(0, FrameRef(shard, 0), FrameRef(shard, 1))
    heatmap_CHW = make_batch([pair], 32, use_irises=True).heatmap_NCHW[0].numpy()
    assert heatmap_CHW.shape == (2, 32, 32)
    xs, ys = np.arange(32), np.arange(32)[:, None]
    for side, centre_x in ((slice(0, 15), (22 + 0.5) / 2 - 0.5), (slice(15, 32), (42 + 0.5) / 2 - 0.5)):
        disc = heatmap_CHW[1, :, side]
        assert abs((disc * xs[side]).sum() / disc.sum() - centre_x) < 0.1
        assert abs((disc * ys).sum() / disc.sum() - ((20 + 0.5) / 2 - 0.5)) < 0.1
    without = make_batch([pair], 32).heatmap_NCHW[0].numpy()
    np.testing.assert_array_equal(without, heatmap_CHW[:1])


def test_a_shard_without_irises_has_a_black_second_channel_and_else_the_same(tmp_path: Path) -> None:
    batches = []
    for shard in (looking_shard(tmp_path, None), looking_shard(tmp_path, [[22, 20], [42, 20]])):
        batches.append(make_batch([Pair(0, FrameRef(shard, 0), FrameRef(shard, 1))], 32, use_irises=True))
    old, new = batches
    assert torch.equal(old.heatmap_NCHW[:, :1], new.heatmap_NCHW[:, :1])
    assert old.heatmap_NCHW[:, 1].max() == 0 and new.heatmap_NCHW[:, 1].max() == 1


def test_a_shard_prepared_again_with_irises_misses_the_frames_without(tmp_path: Path) -> None:
    cache = FrameCache(2**26)
    old = looking_shard(tmp_path, None)
    assert cache.get(old, 0, 64).irises_EC is None
    new = replace(old, irises_FEC=np.ones((2, 2, 2), np.float32))
    np.testing.assert_array_equal(cache.get(new, 0, 64).irises_EC, np.ones((2, 2)))


def test_a_cached_frame_is_not_decoded_again(shard: Shard) -> None:
    cache = FrameCache(2**26)
    assert cache.get(shard, 4, 64).image_CHW is cache.get(open_shard(shard.path), 4, 64).image_CHW


def test_cache_stays_within_its_bytes_and_drops_the_least_recently_used(shard: Shard) -> None:
    frame_bytes = 3 * 64 * 64 + 4 * 64 * 64 + 68 * 2 * 4
    cache = FrameCache(3 * frame_bytes)
    first, second = cache.get(shard, 0, 64), cache.get(shard, 1, 64)
    cache.get(shard, 2, 64)
    assert cache.get(shard, 0, 64) is first
    cache.get(shard, 3, 64)
    assert cache.num_bytes == 3 * frame_bytes
    assert cache.get(shard, 0, 64) is first and cache.get(shard, 1, 64) is not second


def test_a_batch_of_four_takes_under_three_milliseconds_from_a_warm_cache(data: ClientData) -> None:
    batches = iter_batches(data, size_px=64, batch_size=4, rng=np.random.default_rng(0), split="train")
    list(itertools.islice(batches, 100))
    fastest_s = min(seconds(lambda: next(batches)) for _ in range(50))
    assert fastest_s < 0.003


def seconds(call: object) -> float:
    start = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - start


def test_a_client_without_pairs_is_named_before_training_starts(shard: Shard) -> None:
    only_lone = ClientData([site_data(shard, 0).frames[0]._replace(rows=np.array([40]))])
    with pytest.raises(DataError, match=r"a: no clip has two train frames to pair"):
        iter_batches(only_lone, size_px=64, batch_size=4, rng=np.random.default_rng(0), split="train")


def test_a_truncated_frame_is_named(tmp_path: Path, shard: Shard) -> None:
    with ShardWriter(tmp_path, "b", SIDE, "test") as writer:
        for row in range(2):
            writer.add(
                np.zeros((SIDE, SIDE, 3), np.uint8),
                clip="c",
                frame_index=row,
                timestamp_s=0,
                landmarks_KC=np.zeros((68, 2)),
                pose_C=np.zeros(3),
                au_presence_A=np.zeros(18),
                au_intensity_A=np.zeros(18),
                confidence=1.0,
            )
    broken = tmp_path / "b" / "frames" / "000001.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=r"000001\.jpg"):
        next(
            iter_batches(
                site_data(open_shard(tmp_path / "b"), 0),
                size_px=64,
                batch_size=1,
                rng=np.random.default_rng(0),
                split="train",
            )
        )


def test_meshes_are_in_a_batch_that_needs_them_alone(tmp_path: Path) -> None:
    bare = write_random_shard(tmp_path, "anna", num_frames=3)
    rng = np.random.default_rng(0)
    mesh_FVC, blendshapes_FB = (rng.random(shape).astype(np.float16) for shape in ((3, 468, 3), (3, 52)))
    shard = replace(bare, mesh_FVC=mesh_FVC, blendshapes_FB=blendshapes_FB)
    pairs = [Pair(0, FrameRef(shard, 0), FrameRef(shard, 2)), Pair(0, FrameRef(shard, 1), FrameRef(shard, 0))]
    assert make_batch(pairs, 16).meshes is None
    meshes = make_batch(pairs, 16, needs_mesh=True).meshes
    assert meshes is not None and meshes.source_NVC.dtype == torch.float32
    np.testing.assert_array_equal(meshes.source_NVC.numpy(), mesh_FVC[[0, 1]])
    np.testing.assert_array_equal(meshes.driving_NVC.numpy(), mesh_FVC[[2, 0]])
    np.testing.assert_array_equal(meshes.source_NB.numpy(), blendshapes_FB[[0, 1]])
    np.testing.assert_array_equal(meshes.driving_NB.numpy(), blendshapes_FB[[2, 0]])
    with pytest.raises(DataError, match="anna: there are no face meshes"):
        make_batch([Pair(0, FrameRef(shard, 0), FrameRef(bare, 1))], 16, needs_mesh=True)
