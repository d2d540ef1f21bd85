"""A deployed site trains from weights that its run can have made, and from no others."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Context, RecordDict

from client.app import FedReenactClient, app
from client.consent.known_weights import KnownWeights
from client.node_config import NodeConfig
from client.site import open_site
from evaluation.attacks.inversion import projections, round_batches, set_threshold, set_trap
from federation.reach import initial_networks
from federation.settings import Settings
from model.errors import FederationError, UnknownWeightsError
from model.landmarks.geometry import PartSizes
from model.networks.bundle import NamedArrays, Networks
from model.setting import Scalar
from server.rounds.federation import run_federation
from server.run_folder.history import read_history
from tests.support import packed
from tests.support.federated_setup import GLR, deployed_config, minimal_settings, write_dataset
from tests.support.inprocess_grid import InProcessGrid
from tests.support.node_keys import key_config, write_node_keys

PART_SIZES = PartSizes((8, 8, 8, 8), (8, 8, 8, 12))
Arrays = list[np.ndarray]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"), 3)


@pytest.fixture
def settings(dataset: Path, tmp_path: Path) -> Settings:
    return minimal_settings(dataset, tmp_path / "run", 3, max_rounds=40, **GLR)


@pytest.fixture
def no_frame_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def touch(*_: object, **__: object) -> None:
        raise AssertionError("a frame is read")

    monkeypatch.setattr("client.app.train_locally", touch)


def initial(settings: Settings) -> Networks:
    return initial_networks(settings, PART_SIZES)


def fit(node: dict[str, Scalar], settings: Settings, arrays: Arrays, round_number: int, run_id: str = "run") -> Arrays:
    """A new client for each message, as in a new process."""
    message: dict[str, Scalar] = {
        "phase": "train", "server-round": round_number, "run-id": run_id, **PART_SIZES.to_flat(),
    }  # fmt: skip
    client = FedReenactClient(Context(1, 1, node, RecordDict(), settings.to_flat()))
    return packed.fit(client, arrays, message)[0]


def trapped(settings: Settings, node: dict[str, Scalar]) -> Arrays:
    """The strongest weights of `evaluation.attacks.inversion` for the frames that a site has."""
    networks = initial(settings)
    set_trap(networks, seed=0)
    data = open_site(settings, NodeConfig.from_flat(node)).data
    set_threshold(networks, torch.cat([projections(networks, batch) for batch in round_batches(data, settings, 0)]))
    return list(networks.travelling_tensors().values())


@pytest.mark.usefixtures("no_frame_is_read")
@pytest.mark.parametrize("round_number", [1, 2])
def test_weights_made_for_reading_are_refused_before_a_frame_is_touched(
    dataset: Path, tmp_path: Path, settings: Settings, round_number: int
) -> None:
    node = deployed_config(dataset, tmp_path, 0, settings)
    words = rf"UnknownWeightsError: round {round_number}: generator\..* away from the initial weights, .* Resume the"
    with pytest.raises(FederationError, match=words):
        fit(node, settings, trapped(settings, node), round_number)
    assert not list((tmp_path / "state-0").glob("run-*"))


@pytest.mark.integration
@pytest.mark.usefixtures("any_weights_pass")
def test_an_update_of_one_step_is_not_sent(dataset: Path, tmp_path: Path, settings: Settings) -> None:
    """Were the weights to pass, for example after many rounds each of which moved them a little."""
    longer = settings.replaced({"local-steps": 12, "embed-dim": 64})
    node = deployed_config(dataset, tmp_path, 0, longer)
    with pytest.raises(
        FederationError, match=r"OneSidedUpdateError: round 1: more than 25% of generator.extractor.emb"
    ):
        fit(node, longer, trapped(longer, node), 1)
    assert fit(node, longer, list(initial(longer).travelling_tensors().values()), 1)


@pytest.mark.integration
def test_a_site_goes_on_from_what_it_knows(
    dataset: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds that are repeated, missed, gone back to; every message is a restart."""
    nodes = [deployed_config(dataset, tmp_path, index, settings) for index in range(2)]
    current = list(initial(settings).travelling_tensors().values())
    known = {}
    for round_number in range(1, 7):
        known[round_number] = current
        takes_part = nodes if round_number in (1, 2, 6) else nodes[1:]
        trained = [fit(node, settings, current, round_number) for node in takes_part]
        current = [np.mean(arrays, axis=0, dtype=np.float32) for arrays in zip(*trained, strict=True)]
    for round_number in (6, 3, 4, 6):  # the server came back with an older checkpoint
        fit(nodes[0], settings, known[round_number], round_number)


def grid(settings: Settings, dataset: Path, root: Path) -> InProcessGrid:
    keys = write_node_keys(root / "keys", 3)
    nodes = [deployed_config(dataset, root, index, settings) | key_config(keys, index) for index in range(3)]
    return InProcessGrid(app, nodes, settings.to_flat())


@pytest.mark.parametrize(
    "changes",
    [
        {"aggregation": "krum", "adversarial-from-step": 4},
        {"secure-aggregation": True},
        {"dp-clip-norm": 1.0, "dp-noise-multiplier": 1.0},
        {"update-codec": "int8"},
        {"update-codec": "int8", "dp-clip-norm": 1.0, "dp-noise-multiplier": 1.0},
    ],
    ids=["krum", "secure", "noise", "rounded", "rounded-noise"],
)
@pytest.mark.integration
def test_an_honest_run_is_never_refused(
    dataset: Path, tmp_path: Path, settings: Settings, changes: dict[str, Scalar]
) -> None:
    settings = settings.replaced(changes | {"max-rounds": 4})
    run_federation(grid(settings, dataset, tmp_path), settings)
    rows = read_history(Path(settings.run.output_dir))
    assert [(len(row.clients), row.rejected) for row in rows] == [(3, {})] * 4
    assert len(list(tmp_path.glob("state-*/run-*/known-weights.safetensors"))) == 3


@pytest.mark.integration
def test_a_site_that_refuses_is_left_out_with_its_reason_and_the_run_goes_on(
    dataset: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its initial weights are others, as of another version of PyTorch."""
    settings = settings.replaced({"max-rounds": 2, "min-fit-clients": 2})
    accepted = KnownWeights.accept

    def accept(self: KnownWeights, tensors: NamedArrays, **rest: Any) -> None:
        is_other = self._files.folder.name == "state-2"
        accepted(self, {name: array + 0.1 * is_other for name, array in tensors.items()}, **rest)

    monkeypatch.setattr(KnownWeights, "accept", accept)
    run_federation(grid(settings, dataset, tmp_path), settings)
    rows = read_history(Path(settings.run.output_dir))
    assert [list(row.clients) for row in rows] == [[0, 1]] * 2
    assert all("UnknownWeightsError: round " in row.rejected[2] for row in rows)


@pytest.fixture
def accept(settings: Settings, tmp_path: Path) -> Callable[..., None]:
    """Ask a site's store; by default with the limit of the default policy."""

    def ask(tensors: object, round_number: int, run_id: str = "run", max_missed_rounds: float = 10) -> None:
        known = KnownWeights(tmp_path / "state", run_id, max_missed_rounds=max_missed_rounds)
        known.accept(tensors, settings=settings, part_sizes=PART_SIZES, round_number=round_number)  # type: ignore[arg-type]

    return ask


def moved(settings: Settings, far: float, name: str = "generator.extractor.embed.weight") -> dict[str, np.ndarray]:
    """The initial weights with all values of one tensor moved."""
    tensors = initial(settings).travelling_tensors()
    tensors[name] = (tensors[name] + far).astype(np.float32)
    return tensors


def test_a_late_joiner_is_let_in_by_its_operator(settings: Settings, accept: Callable[..., None]) -> None:
    tensors = moved(settings, 0.02)
    accept(tensors, 11)
    with pytest.raises(UnknownWeightsError, match=r"seen none of it, so 11 rounds .* max-missed-rounds = 10\. Where"):
        accept(tensors, 12, run_id="other")
    accept(tensors, 12, run_id="other", max_missed_rounds=11)
    accept(tensors, 30, run_id="third", max_missed_rounds=0)
    with pytest.raises(UnknownWeightsError, match="took part last in round 11, so 11 rounds lie between"):
        accept(tensors, 23)


def test_each_round_adds_what_it_can_have_moved(settings: Settings, accept: Callable[..., None]) -> None:
    """Two steps of 1e-3 a round: all values of a tensor by 0.006, also twice as far back as known."""
    accept(moved(settings, 0.0), 1)
    with pytest.raises(UnknownWeightsError, match=r"is 0.01 \(root mean square\) away .* by 0.0061 at most"):
        accept(moved(settings, 0.01), 2)
    accept(moved(settings, 0.01), 3)
    with pytest.raises(UnknownWeightsError, match="away from the weights of round 3, which this site knows"):
        accept(moved(settings, -0.01), 3)
    accept(moved(settings, 0.012), 3)
    with pytest.raises(UnknownWeightsError, match="away from the initial weights"):
        accept(moved(settings, 0.014), 3)  # a round that is asked again and again leads no further


def test_weights_of_the_round_before_are_at_most_one_round_away(
    settings: Settings, accept: Callable[..., None]
) -> None:
    """Where the initial weights, six rounds back, would allow more."""
    accept(moved(settings, 0.0), 1)
    accept(moved(settings, 0.02), 5)
    with pytest.raises(UnknownWeightsError, match=r"away from the weights of round 5, .* by 0.0061 at most"):
        accept(moved(settings, 0.029), 6)
    accept(moved(settings, 0.0254), 6)


def test_agreed_landmarks_may_be_any_and_no_others(settings: Settings, accept: Callable[..., None]) -> None:
    name = "landmark_generator.shape.weight"
    accept(moved(settings, 0.7, name), 1)
    with pytest.raises(UnknownWeightsError, match=r"landmark_generator.shape.weight is 1"):
        accept(moved(settings, 3.0, name), 1, run_id="other")


def test_a_damaged_file_and_another_runs_are_not_believed(
    settings: Settings, accept: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The initial weights are known all the same."""
    accept(moved(settings, 0.0), 1)
    (path,) = tmp_path.glob("state/run-*/known-weights.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[:-40] + b"\1" * 40)
    accept(moved(settings, 0.0), 2)
    assert "not known any more" in caplog.text and "is damaged" in caplog.text
    accept(moved(settings, 0.0), 1, run_id="other")
    for other in tmp_path.glob("state/run-*/known-weights.safetensors"):
        if other != path:
            other.write_bytes(path.read_bytes())
    with pytest.raises(UnknownWeightsError, match="seen none of it"):
        accept(moved(settings, 0.0), 13, run_id="other")
    assert "belongs to another run" in caplog.text


def test_what_is_known_is_for_the_site_alone(settings: Settings, accept: Callable[..., None], tmp_path: Path) -> None:
    for run in range(6):
        accept(moved(settings, 0.0), 1, run_id=f"run {run}")
    paths = list((tmp_path / "state").glob("run-*/*"))
    assert [path.name for path in paths] == ["known-weights.safetensors"] * 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in paths} == {0o700}


def test_simulated_clients_keep_nothing(dataset: Path, tmp_path: Path, settings: Settings) -> None:
    node: dict[str, Scalar] = {"partition-id": 0, "num-partitions": 3}
    fit(node, settings, trapped(settings, node), 30)
    assert not list(tmp_path.glob("run/clients/0/run-*/known-weights*"))
