from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_partition.partition import make_partitions
from data_partition.shards.shard import open_shard
from federation.local_training import local_batches
from tests.support.federated_setup import minimal_settings, write_dataset


@pytest.mark.parametrize(("network", "most"), [("glr", 3), ("marionette", 3), ("x2face", 1)])
def test_a_design_that_takes_one_source_is_trained_with_one(tmp_path: Path, network: str, most: int) -> None:
    """Otherwise it would see the nearest of several, which is an easier task than its own."""
    settings = minimal_settings(
        tmp_path, tmp_path / "run", 1, network=network, num_sources=3, use_flow=True, use_landmark_flow=True
    )
    shard = open_shard(write_dataset(tmp_path / "data", 1) / "person-0")
    (data,) = make_partitions([shard], settings.data, num_clients=1, seed=0)
    batches = local_batches(data, settings, np.random.default_rng(0))
    sources_of_each = {len(next(batches).generator_inputs().all_sources()[0]) // 2 for _ in range(12)}
    assert max(sources_of_each) == most
