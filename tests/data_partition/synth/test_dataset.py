import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest

from data_partition.shards.shard import Shard, open_dataset
from data_partition.synth.dataset import synthesize
from data_partition.synth.look import draw_look
from model.errors import ConfigError


def digests(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    out = tmp_path_factory.mktemp("dataset")
    synthesize(out, num_identities=1, num_frames=202, size_px=32, num_workers=1)
    return open_dataset(out)[0]


@pytest.mark.integration
def test_shard_opens_with_as_many_frames_as_asked(shard: Shard) -> None:
    assert shard.identity == "person-01" and shard.num_frames == 202 and shard.size_px == 32
    assert shard.read_frame(201).shape == (32, 32, 3)
    np.testing.assert_allclose(np.diff(shard.timestamp_s[:101]), 1 / 25)


@pytest.mark.integration
def test_equal_arguments_give_equal_files_whatever_the_number_of_workers(tmp_path: Path) -> None:
    asked = {"num_identities": 2, "num_frames": 20, "size_px": 32, "seed": 5}
    synthesize(tmp_path / "one", num_workers=1, **asked)
    paths = synthesize(tmp_path / "two", num_workers=2, **asked)
    assert [path.name for path in paths] == ["person-01", "person-02"]
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


@pytest.mark.integration
def test_another_seed_gives_other_people(tmp_path: Path) -> None:
    for seed in (0, 1):
        synthesize(tmp_path / str(seed), num_identities=1, num_frames=20, size_px=32, seed=seed, num_workers=1)
    assert not set(digests(tmp_path / "0").values()) & set(digests(tmp_path / "1").values())


@pytest.mark.integration
def test_long_recordings_are_split_into_clips_of_at_most_200_frames(shard: Shard) -> None:
    clips, counts = np.unique(shard.clip, return_counts=True)
    assert clips.tolist() == ["take-1", "take-2"] and counts.tolist() == [101, 101]
    assert [shard.is_test_F[shard.clip == clip].sum() for clip in clips] == [10, 10]


@pytest.mark.integration
def test_labels_lie_in_their_ranges_and_agree(shard: Shard) -> None:
    assert (np.abs(shard.pose_FC) <= (12, 25, 10)).all()
    assert shard.au_intensity_FA.min() == 0 and shard.au_intensity_FA.max() <= 5
    np.testing.assert_array_equal(shard.au_presence_FA, shard.au_intensity_FA >= 1)
    assert (shard.landmarks_FKC > 0).all() and (shard.landmarks_FKC < 31).all()


def test_people_side_by_side_differ_in_everything_that_is_dealt() -> None:
    cast = [draw_look(index, seed=0) for index in range(6)]
    for first, second in itertools.pairwise(cast):
        assert first.hair_style != second.hair_style and first.clothes != second.clothes
        assert np.abs(np.subtract(first.skin, second.skin)).sum() > 20
        assert first.shape != second.shape


@pytest.mark.parametrize(("name", "wrong"), [("num_identities", 0), ("num_frames", 19), ("size_px", 16), ("seed", -1)])
def test_numbers_out_of_range_are_refused_before_anything_is_written(tmp_path: Path, name: str, wrong: int) -> None:
    with pytest.raises(ConfigError, match=rf"--.*: got {wrong}, wanted "):
        synthesize(tmp_path / "out", **{name: wrong})
    assert not (tmp_path / "out").exists()
