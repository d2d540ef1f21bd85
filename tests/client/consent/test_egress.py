"""What crosses a deployed site's border in a run, captured from its replies."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message

from client.app import app
from client.consent.egress import inventory, training_scalars
from data_partition.partition import site_data
from data_partition.shards.shard import open_shard
from data_partition.statistics import local_statistics, pooled_statistics
from federation.secure_sum.statistics import pack_statistics
from federation.settings import Settings
from server.rounds.federation import run_federation
from tests.support.federated_setup import GLR, deployed_config, minimal_settings, simulated_grid, write_dataset
from tests.support.inprocess_grid import InProcessGrid


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, list[Message], Path]:
    """Two rounds of two deployed sites; settings, every reply of site 0, the sites' folder."""
    root = tmp_path_factory.mktemp("egress")
    dataset = write_dataset(root / "secret-hospital", 2)
    settings = minimal_settings(dataset, root / "run", 2, min_fit_clients=1, data_dir="", **GLR)
    configs = [deployed_config(dataset, root, index, settings) for index in range(2)]
    replies: list[Message] = []

    def capture(reply: Message, index: int) -> Message:
        if index == 0:
            replies.append(reply)
        return reply

    run_federation(InProcessGrid(app, configs, settings.to_flat(), tamper=capture), settings)
    return settings, replies, dataset


def arrays(reply: Message) -> list[np.ndarray]:
    return [array.numpy() for array in reply.content.array_records["fitres.parameters"].values()]


def test_the_inventory_is_exactly_what_leaves(captured: tuple[Settings, list[Message], Path]) -> None:
    settings, (statistics, *rounds), _ = captured
    items = inventory(settings)
    listed = [(item.shape, item.dtype) for item in items if item.when == "once" and item.shape]
    assert [(array.shape, str(array.dtype)) for array in arrays(statistics)] == listed
    tensors = [item for item in items if item.when == "every round" and item.shape]
    scalar_tensors = [item for item in items if item.when == "every round" and item.dtype == "float32"]
    assert len(rounds) == 2
    for reply in rounds:
        (vector_L,) = arrays(reply)
        assert vector_L.dtype == np.float32 and {item.dtype for item in scalar_tensors} == {"float32"}
        assert vector_L.nbytes == sum(item.num_bytes for item in scalar_tensors)
    assert {item.name for item in tensors} <= {item.name for item in scalar_tensors}


@pytest.mark.parametrize("codec", ["bfloat16", "int8"])
def test_the_inventory_of_rounded_steps_is_what_leaves_before_it_is_deflated(tmp_path: Path, codec: str) -> None:
    dataset = write_dataset(tmp_path, 2)
    settings = minimal_settings(dataset, tmp_path / "run", 2, max_rounds=1, update_codec=codec)
    codes: list[np.ndarray] = []

    def capture(reply: Message, index: int) -> Message:
        if reply.metadata.group_id == "1":
            codes.extend(arrays(reply))
        return reply

    run_federation(simulated_grid(settings, tamper=capture), settings)
    numbers = {*training_scalars(settings), "num_examples"}
    items = [item for item in inventory(settings) if item.when == "every round" and item.name not in numbers]
    assert [len(zlib.decompress(code.tobytes())) for code in codes] == [sum(item.num_bytes for item in items)] * 2


def test_only_numbers_of_the_list_leave(captured: tuple[Settings, list[Message], Path]) -> None:
    settings, (statistics, *rounds), _ = captured
    assert dict(statistics.content.config_records["fitres.metrics"]) == {"partition-id": 0, "num-simulated": 0}
    for reply in rounds:
        metrics = dict(reply.content.config_records["fitres.metrics"])
        assert metrics.keys() <= training_scalars(settings)
        assert {type(value) for value in metrics.values()} == {float}


def test_a_reply_has_no_other_record_and_no_path(captured: tuple[Settings, list[Message], Path]) -> None:
    _, replies, dataset = captured
    for reply in replies:
        assert set(reply.content) == {"fitres.parameters", "fitres.num_examples", "fitres.metrics", "fitres.status"}
        status = dict(reply.content.config_records["fitres.status"])
        assert set(status) == {"code", "message"} and status["message"] == "Success"
        assert dataset.name not in repr(reply.content.config_records)


def test_pixels_cannot_be_among_the_statistics(captured: tuple[Settings, list[Message], Path]) -> None:
    """Means over frames leave, and no row of them is a frame's own landmarks."""
    _, (statistics, *_), dataset = captured
    sums, counts = arrays(statistics)[1], arrays(statistics)[3]
    shard = open_shard(dataset / "person-0")
    assert counts[0] == (~shard.is_test_F).sum() > 1
    assert not any(np.allclose(sums[0], landmarks) for landmarks in shard.landmarks_FKC)


def test_sums_for_a_base_are_in_the_inventory(captured: tuple[Settings, list[Message], Path]) -> None:
    settings, _, dataset = captured
    settings = settings.replaced({"lgan-base": "closed"})
    model = settings.model
    data = site_data(open_shard(dataset / "person-0"), 0)
    leaving = local_statistics(data, num_identities=model.num_identities, size_px=model.image_size_px, has_base=True)
    listed = [item for item in inventory(settings) if item.when == "once" and item.shape]
    assert [item.shape for item in listed] == [array.shape for array in leaving]
    assert [item.name for item in listed if "base" in item.name] == [
        f"statistics.base_{form}_{part}" for form in ("rotated", "linear") for part in ("own", "shared", "totals")
    ]


def test_in_a_secure_run_a_base_makes_the_masked_statistics_longer(
    captured: tuple[Settings, list[Message], Path],
) -> None:
    settings, _, dataset = captured
    secure = settings.replaced({"secure-aggregation": True, "num-clients": 3, "min-fit-clients": 3})
    data = site_data(open_shard(dataset / "person-0"), 0)
    for base in ("none", "closed"):
        items = {item.name: item for item in inventory(secure.replaced({"lgan-base": base}))}
        leaving = pack_statistics(pooled_statistics(data, size_px=32, secret=b"", has_base=base == "closed"))
        assert items["secure.masked_statistics"].shape == leaving.shape
        assert "statistics.base_linear_own" not in items
