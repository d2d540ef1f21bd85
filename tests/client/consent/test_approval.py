from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from client.app import FedReenactClient
from client.consent.approval import Approval
from federation.settings import MEANINGS, Settings
from model.designs.registry import build_networks
from model.errors import ConfigError, FederationError
from model.landmarks.geometry import PartSizes
from model.setting import Leeway, Scalar
from tests.support.federated_setup import deployed_config, minimal_settings, write_dataset
from tests.support.packed import fit

PART_SIZES = PartSizes((8, 8, 8, 8), (8, 8, 8, 12))


def another(key: str, value: Scalar) -> Scalar:
    """Some value of a setting's type that is not `value`."""
    if isinstance(value, bool):
        return not value
    return f"{value}x" if isinstance(value, str) else value + 1


@pytest.mark.parametrize("key", sorted(Settings().to_flat()))
def test_a_run_may_differ_in_the_listed_settings_and_in_no_other(key: str) -> None:
    """Asked of the comparison itself: that the asked value makes sense in a run is checked elsewhere."""
    approved = Settings()
    asked = approved.to_flat()
    asked[key] = another(key, asked[key])

    class Asked:
        def to_flat(self) -> dict[str, Scalar]:
            return asked

    lines = Approval(approved).differences(Asked())  # type: ignore[arg-type]
    expected = MEANINGS[key].leeway in (Leeway.SAME, Leeway.AT_MOST)  # a higher value than approved
    assert [line.split(":")[0] for line in lines] == ([key] if expected else [])


def test_the_list_is_short_and_says_nothing_about_what_an_update_says() -> None:
    assert {key for key, meaning in MEANINGS.items() if meaning.leeway not in (Leeway.SAME, Leeway.ANY)} == {
        "max-rounds",
        "keep-checkpoints",
        "min-fit-clients",
    }
    assert {key for key, meaning in MEANINGS.items() if meaning.leeway is Leeway.ANY} == {
        "tau", "variance-window", "round-timeout-s", "quorum-timeout-s", "server-ema-decay", "eval-every",
        "eval-data-dir", "sites-file", "output-dir", "resume", "data-dir", "client-num-cpus", "client-num-gpus",
            "without-consent",
    }  # fmt: skip


def test_fewer_rounds_and_more_sites_are_within_what_was_approved() -> None:
    approval = Approval(Settings.from_flat({"max-rounds": 20, "min-fit-clients": 3}))
    approval.check_run(Settings.from_flat({"max-rounds": 19, "min-fit-clients": 4}))
    with pytest.raises(ConfigError) as caught:
        approval.check_run(Settings.from_flat({"max-rounds": 21, "min-fit-clients": 2, "backbone": "resnet34"}))
    assert str(caught.value).splitlines() == [
        "this site approved other settings:",
        'backbone: the server asks for "resnet34", approved is "vit"',
        "min-fit-clients: the server asks for 2, approved is at least 3",
        "max-rounds: the server asks for 21, approved is at most 20",
    ]


def test_the_file_has_every_setting_and_is_read_back(tmp_path: Path) -> None:
    settings = Settings.from_flat({"local-steps": 7, "data-dir": '/a "quoted" folder', "weight-l1-image": 3})
    Approval(settings).write(tmp_path / "approved.toml")
    assert tomllib.loads((tmp_path / "approved.toml").read_text()).keys() == settings.to_flat().keys()
    assert Approval.read(tmp_path / "approved.toml").settings == settings
    assert [path.name for path in tmp_path.iterdir()] == ["approved.toml"]


def test_the_digest_is_of_what_binds_whatever_the_places() -> None:
    here, there = (Approval(Settings.from_flat({"data-dir": folder, "tau": 1.0})) for folder in ("/here", "/there"))
    assert here.sha256 == there.sha256 == Approval(Settings()).sha256
    assert here.sha256 != Approval(Settings.from_flat({"seed": 1})).sha256
    bound = {key: value for key, value in Settings().to_flat().items() if MEANINGS[key].leeway is not Leeway.ANY}
    assert here.sha256 == hashlib.sha256(json.dumps(bound, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, r"cannot be read \(FileNotFoundError\); run `fedreenact approve"),
        ("tau = ", r"cannot be read \(TOMLDecodeError\)"),
        ("tau = 3.0\n", "lack network, image-size-px, .*another version"),
        (Approval(Settings()).to_toml().replace("seed = 0\n", ""), "lack seed: "),
        (Approval(Settings()).to_toml() + "seat = 1\n", "unknown setting seat; see"),
        (Approval(Settings()).to_toml().replace("batch-size = 8", "batch-size = nan"), "batch-size: got nan"),
    ],
)
def test_a_file_that_approves_nothing_is_refused_without_naming_folders(
    tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "secret-ward.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        Approval.read(path)
    assert "secret-ward" not in str(caught.value)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "dataset", 1)


@pytest.fixture
def settings(dataset: Path, tmp_path: Path) -> Settings:
    return minimal_settings(dataset, tmp_path / "run", 1, data_dir="")


def answer(node_config: dict[str, Scalar], settings: Settings, phase: str = "train") -> tuple[list, int, dict]:
    client = FedReenactClient(Context(1, 1, node_config, RecordDict(), settings.to_flat()))
    config: dict[str, Scalar] = {"phase": phase, "server-round": 1, "run-id": "run", **PART_SIZES.to_flat()}
    tensors = build_networks(settings.model, PART_SIZES, seed=0).travelling_tensors()
    return fit(client, list(tensors.values()), config)


@pytest.mark.parametrize("phase", ["statistics", "train", "secure-keys"])
def test_a_deployed_site_without_approved_settings_answers_nothing(
    dataset: Path, tmp_path: Path, settings: Settings, phase: str
) -> None:
    node_config = deployed_config(dataset, tmp_path, 0, settings)
    del node_config["approved-settings"]
    with pytest.raises(FederationError, match="has approved no settings .* run `fedreenact approve") as caught:
        answer(node_config, settings, phase)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("phase", ["statistics", "train", "secure-keys"])
def test_a_deployed_site_refuses_another_run_before_it_opens_its_frames(
    dataset: Path, tmp_path: Path, settings: Settings, phase: str
) -> None:
    node_config = deployed_config(dataset, tmp_path, 0, settings) | {"data-dir": "/no/such/folder"}
    other = settings.replaced({"local-steps": 3, "learning-rate-generator": 0.01})
    with pytest.raises(FederationError) as caught:
        answer(node_config, other, phase)
    assert "local-steps: the server asks for 3, approved is 2" in str(caught.value)
    assert "learning-rate-generator: the server asks for 0.01, approved is 0.001" in str(caught.value)


def test_a_deployed_site_answers_the_approved_run_in_other_folders(
    dataset: Path, tmp_path: Path, settings: Settings
) -> None:
    node_config = deployed_config(dataset, tmp_path, 0, settings)
    free: dict[str, Scalar] = {"output-dir": "/elsewhere", "eval-data-dir": "/central", "resume": True, "tau": 9.0}
    arrays, num_examples, _ = answer(node_config, settings.replaced(free))
    assert num_examples == 9 and all(np.isfinite(array).all() for array in arrays)


@pytest.mark.integration
def test_steps_that_were_not_made_are_not_sent(dataset: Path, tmp_path: Path, settings: Settings) -> None:
    """The time limit ends the round long before its ten thousand steps."""
    short = settings.replaced({"local-steps": 10_000, "local-time-limit-s": 1.0})
    node_config = deployed_config(dataset, tmp_path, 0, short, min_samples_per_round=20_000)
    with pytest.raises(FederationError, match="steps made x batch-size in round 1 is .* wants at least min-samples"):
        answer(node_config, short)


@pytest.mark.integration
def test_under_noise_steps_that_were_not_made_are_a_step_of_zero(
    dataset: Path, tmp_path: Path, settings: Settings
) -> None:
    """How many are made in a time may depend on the frames. The noise is far below what a step moves."""
    noise: dict[str, Scalar] = {"dp-clip-norm": 1.0, "dp-noise-multiplier": 1e-6, "tau": 0.0}
    short = settings.replaced({"local-steps": 10_000, "local-time-limit-s": 1.0, **noise})
    tensors = build_networks(short.model, PART_SIZES, seed=0).travelling_tensors()
    moved = []
    for least in (20_000, 1):
        node_config = deployed_config(dataset, tmp_path, 0, short, min_samples_per_round=least)
        arrays, _, metrics = answer(node_config, short)
        moved.append(max(np.abs(new - old).max() for new, old in zip(arrays, tensors.values(), strict=True)))
    assert moved[0] < 2e-5 < moved[1]
    assert metrics["dp_releases"] == 2.0


@pytest.mark.parametrize("round_number", [0, -1, 3])
def test_a_round_beyond_the_last_is_not_trained(
    dataset: Path, tmp_path: Path, settings: Settings, round_number: int
) -> None:
    context = Context(1, 1, deployed_config(dataset, tmp_path, 0, settings), RecordDict(), settings.to_flat())
    tensors = build_networks(settings.model, PART_SIZES, seed=0).travelling_tensors()
    config: dict[str, Scalar] = {"phase": "train", "server-round": round_number, "run-id": "r", **PART_SIZES.to_flat()}
    with pytest.raises(FederationError, match=f"asks for round {round_number}, wanted 1 to max-rounds = 2"):
        fit(FedReenactClient(context), list(tensors.values()), config)
