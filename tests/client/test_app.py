from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from client.app import FedReenactClient
from client.node_config import SUPERNODE_VARIABLE, NodeConfig
from client.supernode.refused_tasks import RefusedTasks
from data_partition.shards.writer import record_consent
from federation.settings import Settings
from model.designs.registry import build_networks
from model.errors import ConfigError, FederationError
from model.landmarks.geometry import PartSizes
from model.setting import Scalar
from tests.support.consents import NO_CONSENT, consent_of
from tests.support.federated_setup import GLR, deployed_config, minimal_settings, write_dataset
from tests.support.packed import fit
from tests.support.shards import write_random_shard

PART_SIZES = PartSizes((8, 8, 8, 8), (8, 8, 8, 12))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"), 2)


@pytest.fixture
def settings(dataset: Path, tmp_path: Path) -> Settings:
    return minimal_settings(dataset, tmp_path, 2, **GLR)


def client(settings: Settings, **node_config: Scalar) -> FedReenactClient:
    config = {name.replace("_", "-"): value for name, value in node_config.items()}
    return FedReenactClient(Context(1, 1, config, RecordDict(), settings.to_flat()))


def train_config(round_number: int = 1) -> dict[str, Scalar]:
    return {"phase": "train", "server-round": round_number, "run-id": "run", **PART_SIZES.to_flat()}


def arrays(settings: Settings) -> list[np.ndarray]:
    return list(build_networks(settings.model, PART_SIZES, seed=0).travelling_tensors().values())


def test_metrics_are_floats_from_the_list(settings: Settings) -> None:
    got, num_examples, metrics = fit(
        client(settings, partition_id=1, num_partitions=2), arrays(settings), train_config()
    )
    assert [array.shape for array in got] == [array.shape for array in arrays(settings)]
    assert num_examples == 11  # 12 frames, the last tenth of them held out
    assert {"loss_generator", "loss_discriminator", "ranking_image", "seconds", "has_moments"} <= metrics.keys()
    assert {type(value) for value in metrics.values()} == {float}


def test_the_same_round_gives_the_same_bits(settings: Settings) -> None:
    results = [
        fit(client(settings, partition_id=0, num_partitions=2), arrays(settings), train_config())[0] for _ in range(2)
    ]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*results, strict=True))


def test_clients_and_rounds_draw_different_pairs(settings: Settings) -> None:
    def loss(partition_id: int, round_number: int) -> Scalar:
        site = client(settings, partition_id=partition_id, num_partitions=2)
        return fit(site, arrays(settings), train_config(round_number))[2]["loss_generator"]

    assert len({loss(0, 1), loss(0, 2), loss(1, 1)}) == 3


def test_tensors_of_another_network_are_refused(settings: Settings) -> None:
    other = settings.replaced({"style-dim": 12})
    with pytest.raises(FederationError, match=r"TensorMismatchError: got weights of shape .* expected \["):
        fit(client(settings, partition_id=0, num_partitions=2), arrays(other), train_config())


def test_a_simulated_client_says_what_is_wrong_with_the_dataset(settings: Settings) -> None:
    lost = settings.replaced({"data-dir": "/no/such/folder"})
    with pytest.raises(FederationError, match="DataError: /no/such/folder"):
        client(lost, partition_id=0, num_partitions=2).fit([], {"phase": "statistics"})


def test_a_deployed_site_keeps_its_paths_to_itself(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node_config = deployed_config(tmp_path, tmp_path, 0, settings) | {"data-dir": "/secret/patient"}
    site = FedReenactClient(Context(1, 1, node_config, RecordDict(), settings.to_flat()))
    with pytest.raises(FederationError) as caught:
        site.fit([], {"phase": "statistics"})
    assert str(caught.value) == "DataError: the site's own log says more"
    assert "/secret/patient" in caplog.text


def test_a_site_that_the_supernode_of_sites_did_not_start_says_so_and_does_nothing(
    settings: Settings, tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SUPERNODE_VARIABLE)
    site = client(settings, partition_id=0, data_dir=str(dataset / "person-0"), state_dir=str(tmp_path / "state"))
    with pytest.raises(FederationError, match="not started by fedreenact-supernode"):
        site.fit([], {"phase": "statistics"})
    client(settings, partition_id=0, num_partitions=2).fit([], {"phase": "statistics"})  # a simulation has none


def test_a_reply_tells_how_many_tasks_the_site_refused(settings: Settings, tmp_path: Path, dataset: Path) -> None:
    node_config = deployed_config(dataset, tmp_path, 0, settings)
    state = Path(str(node_config["state-dir"]))
    site = FedReenactClient(Context(1, 1, node_config, RecordDict(), settings.to_flat()))
    told = [fit(site, arrays(settings), train_config())[2]["refused_tasks"]]
    for _ in range(2):
        state.mkdir(exist_ok=True)
        RefusedTasks(state).count_one()
    told.append(fit(site, arrays(settings), train_config())[2]["refused_tasks"])
    assert told == [0.0, 2.0]


@pytest.mark.parametrize("phase", ["statistics", "train"])
def test_a_site_answers_nothing_about_a_person_who_withdrew_and_does_not_say_why(
    settings: Settings, tmp_path: Path, phase: str, caplog: pytest.LogCaptureFixture
) -> None:
    shard = write_random_shard(tmp_path, "person-0", num_frames=10)
    site = client(settings, **snake(deployed_config(tmp_path, tmp_path, 0, settings)))
    site.fit([], {"phase": "statistics"})
    record_consent(shard.path, consent_of("person-0", **NO_CONSENT["revoked"]))
    with pytest.raises(FederationError) as caught:
        site.fit([], train_config() | {"phase": phase})
    assert str(caught.value) == "DataError: the site's own log says more"
    assert "person-0: consent 2026-014 was revoked" in caplog.text


def test_a_site_trains_on_a_person_without_a_record_only_by_its_own_operators_word(
    settings: Settings, tmp_path: Path
) -> None:
    record_consent(write_random_shard(tmp_path, "person-0", num_frames=10).path, None)
    asked = settings.replaced({"without-consent": "public"})  # by the server
    config = deployed_config(tmp_path, tmp_path, 0, settings)
    with pytest.raises(FederationError, match="DataError: the site's own log says more"):
        client(asked, **snake(config)).fit([], {"phase": "statistics"})
    assert client(settings, **snake(config), without_consent="public").fit([], {"phase": "statistics"})[1] == 9


def test_a_word_that_is_none_of_the_two_is_refused() -> None:
    with pytest.raises(ConfigError, match="got without-consent 'yes', wanted synthetic or public, or no such key"):
        NodeConfig.from_flat({"partition-id": 0, "num-partitions": 2, "without-consent": "yes"})


def snake(config: dict[str, Scalar]) -> dict[str, Scalar]:
    return {name.replace("-", "_"): value for name, value in config.items()}
