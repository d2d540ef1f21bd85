"""The agreed base in a run: the same at all sites, in the checkpoint, and out of reach of training and of sites."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message

from data_partition.partition import site_data
from data_partition.shards.shard import open_dataset
from data_partition.statistics import local_statistics
from model.checkpoint import Checkpoint, load_checkpoint
from model.designs.registry import DESIGNS, travelling_shapes
from model.setting import Scalar
from server.rounds.centralized import train_centralized
from server.rounds.federation import run_federation
from server.sites.agreement import SiteStatistics, agree
from tests.support.federated_setup import GLR, minimal_settings, simulated_grid, write_dataset

pytestmark = pytest.mark.integration
NUM_SITES = 3
BASE = DESIGNS["glr"].untrained


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"), NUM_SITES)


def agreed(dataset: Path) -> dict[str, np.ndarray]:
    """By the names of the tensors."""
    shape = {"num_identities": NUM_SITES, "size_px": 32}
    sites = [
        SiteStatistics.from_arrays(
            local_statistics(site_data(shard, index), has_base=True, **shape), has_base=True, **shape
        )
        for index, shard in enumerate(open_dataset(dataset))
    ]
    base = agree(sites, size_px=32).base
    assert base is not None
    return {f"landmark_generator.base.{name}": values for name, values in base.items()}


def federated(dataset: Path, out: Path, tamper: object = None, **changes: Scalar) -> Checkpoint:
    settings = minimal_settings(dataset, out, NUM_SITES, lgan_base="closed", **GLR, **changes)
    run_federation(simulated_grid(settings, **({"tamper": tamper} if tamper else {})), settings)
    return load_checkpoint(out)


def assert_base(checkpoint: Checkpoint, wanted: dict[str, np.ndarray]) -> None:
    assert set(wanted) == set(BASE)
    for name, values in wanted.items():
        np.testing.assert_array_equal(checkpoint.tensors[name], values, err_msg=name)


def test_federated_and_pooled_have_the_same_base_to_the_last_bit(dataset: Path, tmp_path: Path) -> None:
    wanted = agreed(dataset)
    assert any(values.any() for values in wanted.values())
    assert_base(federated(dataset, tmp_path / "federated"), wanted)
    settings = minimal_settings(dataset, tmp_path / "pooled", NUM_SITES, lgan_base="closed", **GLR)
    assert_base(load_checkpoint(train_centralized(settings)), wanted)


def test_a_site_that_sends_another_base_moves_nothing(dataset: Path, tmp_path: Path) -> None:
    def tamper(reply: Message, index: int) -> Message:
        """Add 1 to the base in the update of site 0."""
        arrays = list(reply.content.array_records["fitres.parameters"].values())
        if index == 0 and len(arrays) == 1:
            vector_L = arrays[0].numpy().copy()
            vector_L[begin:end] += 1
            reply.content["fitres.parameters"] = ArrayRecord({"0": Array(vector_L)})
            tampered.append(index)
        return reply

    tampered: list[int] = []
    settings = minimal_settings(dataset, tmp_path, NUM_SITES, lgan_base="closed", **GLR)
    shapes = travelling_shapes(settings.model)
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    first = list(shapes).index(BASE[0])
    assert list(shapes)[first : first + len(BASE)] == list(BASE)
    begin, end = ends[first - 1], ends[first + len(BASE) - 1]
    attacked = federated(dataset, tmp_path / "attacked", tamper, max_norm_ratio=0.0)
    assert tampered == [0, 0]
    assert_base(attacked, agreed(dataset))


def test_a_secure_run_agrees_on_one_shape_for_all(dataset: Path, tmp_path: Path) -> None:
    checkpoint = federated(dataset, tmp_path, secure_aggregation=True)
    own = [checkpoint.tensors[name] for name in BASE if name.endswith("_own")]
    assert any(values.any() for values in own)
    for values in own:
        np.testing.assert_allclose(values, np.repeat(values[:1], NUM_SITES + 1, axis=0), atol=1e-6)
    assert any(checkpoint.tensors[name].any() for name in BASE if name.endswith("_shared"))


def test_under_noise_the_base_stays_as_it_was_agreed(dataset: Path, tmp_path: Path) -> None:
    noised = federated(dataset, tmp_path, dp_clip_norm=1.0, dp_noise_multiplier=1.0)
    assert_base(noised, agreed(dataset))
