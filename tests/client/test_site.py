from __future__ import annotations

from pathlib import Path

import pytest

from client.node_config import NodeConfig
from client.site import open_site
from federation.settings import Settings
from model.errors import ConfigError, DataError
from tests.support.federated_setup import minimal_settings, write_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"), 3)


@pytest.fixture
def settings(dataset: Path, tmp_path: Path) -> Settings:
    return minimal_settings(dataset, tmp_path, 3)


def test_a_simulated_client_holds_its_identity_and_names_it(settings: Settings, tmp_path: Path) -> None:
    site = open_site(settings, NodeConfig.from_flat({"partition-id": 1, "num-partitions": 3}))
    assert [part.shard.identity for part in site.data.frames] == ["person-1"]
    assert site.labels == {1: "person-1"}
    assert site.state_dir == tmp_path / "clients" / "1"
    assert site.num_simulated == 3


def test_a_deployed_site_holds_its_shard_alone_and_keeps_its_name(
    settings: Settings, dataset: Path, tmp_path: Path
) -> None:
    node_config = {"partition-id": 2, "data-dir": str(dataset / "person-0"), "state-dir": str(tmp_path / "state")}
    site = open_site(settings, NodeConfig.from_flat(node_config))
    assert [(part.identity_index, part.shard.identity) for part in site.data.frames] == [(2, "person-0")]
    assert site.labels == {}
    assert site.state_dir == tmp_path / "state"
    assert site.num_simulated == 0
    assert open_site(settings, NodeConfig.from_flat({**node_config, "identity-label": "Ada"})).labels == {2: "Ada"}


@pytest.mark.parametrize(
    ("node_config", "words"),
    [
        ({}, "partition-id None"),
        ({"partition-id": -1}, "partition-id -1"),
        ({"partition-id": 3, "num-partitions": 4}, "less than num-clients = 3"),
        ({"partition-id": 0, "data-dir": "/nowhere"}, "state-dir is missing"),
        ({"partition-id": 3, "data-dir": "/nowhere", "state-dir": "/tmp"}, "less than num-identities = 3"),
        (
            {"partition-id": 0, "data_dir": "/nowhere", "state-dir": "/tmp"},
            "unknown key 'data_dir'; did you mean data-dir",
        ),
        ({"partition-id": 0, "state-dir": "/tmp"}, "data-dir is missing"),
        ({"partition-id": 0, "data-dir": 7, "state-dir": "/tmp"}, "got data-dir 7, wanted text"),
    ],
)
def test_a_node_config_that_does_not_fit_is_refused(
    settings: Settings, node_config: dict[str, str | int], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        open_site(settings, NodeConfig.from_flat(node_config))


def test_a_site_with_several_shards_is_refused(settings: Settings, dataset: Path) -> None:
    with pytest.raises(ConfigError, match="data-dir has more or fewer shards than the site's one"):
        open_site(settings, NodeConfig.from_flat({"partition-id": 0, "data-dir": str(dataset), "state-dir": "/tmp"}))


def test_more_identities_than_the_network_has_rows_are_refused(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="has 3 identities, num-identities is 2"):
        open_site(
            settings.replaced({"num-identities": 2}), NodeConfig.from_flat({"partition-id": 0, "num-partitions": 3})
        )


def test_data_without_meshes_are_refused_for_a_network_that_is_driven_by_them(
    settings: Settings, dataset: Path, tmp_path: Path
) -> None:
    driven = settings.replaced({"network": "meshgcn"})
    deployed = {"partition-id": 2, "data-dir": str(dataset / "person-0"), "state-dir": str(tmp_path / "state")}
    for node_config in ({"partition-id": 1, "num-partitions": 3}, deployed):
        with pytest.raises(DataError, match="there are no face meshes, which this network is driven by"):
            open_site(driven, NodeConfig.from_flat(node_config))
