import numpy as np
import pytest
import torch

from data_partition.batches import make_batch
from evaluation.comparison import compare_with_copy_source, draw_test_pairs
from evaluation.frames import to_frames, to_tensor
from evaluation.image_metrics import l1, psnr_db, ssim
from model.errors import DataError
from model.networks import build_networks
from tests.reenact.conftest import PART_SIZES, SMALL
from tests.shards import write_random_shard

IDENTITIES = ["ana", "ben"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("dataset")
    return [write_random_shard(root, name, seed=seed) for seed, name in enumerate(IDENTITIES)]


@pytest.fixture(scope="module")
def networks():
    return build_networks(SMALL, PART_SIZES, seed=0).eval()


def compare(networks, shards, batch_size=4, seed=1):
    return compare_with_copy_source(
        networks, shards, IDENTITIES, num_pairs=6, seed=seed, batch_size=batch_size, device=CPU
    )


def test_pairs_are_different_test_frames_and_repeat_with_the_seed(shards):
    pairs = draw_test_pairs(shards[0], IDENTITIES, num_pairs=30, seed=5)
    assert all(pair.source.row != pair.driving.row for pair in pairs)
    assert all(shards[0].is_test_F[[pair.source.row, pair.driving.row]].all() for pair in pairs)
    assert pairs == draw_test_pairs(shards[0], IDENTITIES, num_pairs=30, seed=5)
    assert pairs != draw_test_pairs(shards[0], IDENTITIES, num_pairs=30, seed=6)


def test_values_do_not_depend_on_the_batch_size(networks, shards):
    one, many = compare(networks, shards, batch_size=1), compare(networks, shards, batch_size=5)
    for name in ("psnr_db", "ssim", "l1"):
        assert getattr(one.overall.model, name) == pytest.approx(getattr(many.overall.model, name), rel=1e-3)
    assert one.overall.copy_source == many.overall.copy_source


def test_copy_source_is_measured_on_the_same_pairs(networks, shards):
    row = compare(networks, shards).rows[0]
    pairs = draw_test_pairs(shards[0], IDENTITIES, num_pairs=6, seed=1)
    frames = [(shards[0].read_frame(p.driving.row), shards[0].read_frame(p.source.row)) for p in pairs]
    assert row.num_pairs == 6
    assert row.copy_source.psnr_db == pytest.approx(np.mean([psnr_db(*pair) for pair in frames]))
    assert row.copy_source.ssim == pytest.approx(np.mean([ssim(*pair) for pair in frames]))
    assert row.copy_source.l1 == pytest.approx(np.mean([l1(*pair) for pair in frames]))


def test_overall_row_is_the_mean_over_all_pairs(networks, shards):
    comparison = compare(networks, shards)
    assert comparison.overall.num_pairs == 12
    expected = np.mean([row.model.l1 for row in comparison.rows])
    assert comparison.overall.model.l1 == pytest.approx(expected)


def test_an_identity_keeps_its_values_whoever_is_evaluated_with_it(networks, shards):
    assert compare(networks, shards[1:]).rows[0] == compare(networks, shards).rows[1]


def test_unknown_identity_names_the_trained_ones(networks, shards):
    with pytest.raises(DataError, match=r"ana is not among the trained ones \(cleo, ben\)"):
        compare_with_copy_source(networks, shards[:1], ["cleo", "ben"], num_pairs=1, seed=0, batch_size=1, device=CPU)


def test_frames_survive_the_way_into_the_model_and_back(shards):
    pairs = draw_test_pairs(shards[0], IDENTITIES, num_pairs=3, seed=0)
    batch = make_batch(pairs, 32)
    frames = [shards[0].read_frame(pair.source.row) for pair in pairs]
    np.testing.assert_array_equal(np.stack(to_frames(batch.source_NCHW)), np.stack(frames))
    torch.testing.assert_close(to_tensor(frames), batch.source_NCHW, rtol=0, atol=0)
