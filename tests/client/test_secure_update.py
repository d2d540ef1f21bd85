"""A site's four phases as a server would drive them, and what is in its state folder meanwhile."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from client.app import FedReenactClient
from client.secure_update import STATE_NAME
from model.config import Scalar, Settings
from model.errors import FederationError
from model.landmarks import PartSizes
from model.networks import build_networks
from model.secure_sum import Phase
from model.secure_unmask import ServerSum
from tests.federated_setup import minimal_settings, write_dataset

PART_SIZES = PartSizes((8, 8, 8, 8), (8, 8, 8, 12))
SITES = (0, 1, 2)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"), 3)


@pytest.fixture
def settings(dataset: Path, tmp_path: Path) -> Settings:
    return minimal_settings(dataset, tmp_path, 3, secure_aggregation=True)


def ask(
    settings: Settings, site: int, phase: str, arrays: list[np.ndarray], session: str = "s"
) -> tuple[list[np.ndarray], int, dict[str, Scalar]]:
    """A new client for each message, as in a new process."""
    client = FedReenactClient(
        Context(1, 1, {"partition-id": site, "num-partitions": 3}, RecordDict(), settings.to_flat())
    )
    scalars = {"phase": phase, "server-round": 1, "run-id": "run", "session": session, **PART_SIZES.to_flat()}
    return client.fit(arrays, scalars)


def state_file(tmp_path: Path, site: int) -> Path:
    return tmp_path / "clients" / str(site) / STATE_NAME


def masked(settings: Settings) -> tuple[ServerSum, list[np.ndarray], dict[str, Scalar]]:
    """Three sites until their masked updates are in."""
    tensors = list(build_networks(settings.model, PART_SIZES, seed=0).travelling_tensors().values())
    server = ServerSum("s", 1)
    for site in SITES:
        server.take_keys(site, *ask(settings, site, Phase.KEYS.value, [])[0])
    sites = np.array(SITES, np.int64)
    for site in SITES:
        server.take_shares(site, *ask(settings, site, Phase.SHARES.value, [sites, server.keys_S2B()])[0])
    vectors, metrics = [], {}
    for site in SITES:
        (vector,), num_examples, metrics = ask(
            settings, site, Phase.TRAIN.value, [*tensors, sites, server.sealed_for(site)]
        )
        assert num_examples == 0
        vectors.append(vector)
    return server, vectors, metrics


def test_secrets_are_for_the_site_alone_and_gone_after_the_round(settings: Settings, tmp_path: Path) -> None:
    server, vectors, metrics = masked(settings)
    path = state_file(tmp_path, 0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text(encoding="utf-8")
    assert '"seed": ""' in text and '"mask_private": ""' in text  # own secrets are gone when the update is masked
    assert vectors[0].dtype == np.uint64
    assert {"seconds", "num_steps"} <= metrics.keys()
    assert not {"loss_generator", "l1_image", "accuracy_real"} & metrics.keys()
    survivors = np.array(SITES, np.int64)
    (shares,), _, _ = ask(settings, 0, Phase.UNMASK.value, [survivors])
    server.take_revealed(0, shares)
    assert not path.exists()
    assert not list(path.parent.glob("*.partial"))


def test_shares_are_given_out_once(settings: Settings) -> None:
    masked(settings)
    survivors = np.array(SITES, np.int64)
    ask(settings, 0, Phase.UNMASK.value, [survivors])
    with pytest.raises(FederationError, match="SecureSumError: site 0: no secure sum is under way"):
        ask(settings, 0, Phase.UNMASK.value, [survivors])


def test_a_sum_over_fewer_than_min_fit_clients_is_not_unmasked(settings: Settings) -> None:
    masked(settings)
    with pytest.raises(FederationError, match="a sum of 2 of 3 sites is not unmasked"):
        ask(settings, 0, Phase.UNMASK.value, [np.array([0, 1], np.int64)])


def test_another_session_and_a_phase_out_of_order_are_refused(settings: Settings) -> None:
    masked(settings)
    survivors = np.array(SITES, np.int64)
    with pytest.raises(FederationError, match="another secure sum is under way"):
        ask(settings, 0, Phase.UNMASK.value, [survivors], session="other")
    ask(settings, 0, Phase.KEYS.value, [])
    with pytest.raises(FederationError, match="at step 'advertised'"):
        ask(settings, 0, Phase.UNMASK.value, [survivors])


def test_a_round_that_begins_anew_has_new_keys(settings: Settings) -> None:
    first, second = (ask(settings, 0, Phase.KEYS.value, [])[0][0] for _ in range(2))
    assert not (first == second).all(axis=1).any()


def test_an_update_in_clear_is_not_sent_in_a_secure_run(settings: Settings) -> None:
    tensors = list(build_networks(settings.model, PART_SIZES, seed=0).travelling_tensors().values())
    with pytest.raises(
        FederationError, match="ConfigError: secure-aggregation is True, the server asks for phase 'tra"
    ):
        ask(settings, 0, "train", tensors)
    plain = settings.replaced({"secure-aggregation": False})
    with pytest.raises(FederationError, match="secure-aggregation is False"):
        ask(plain, 0, Phase.KEYS.value, [])
