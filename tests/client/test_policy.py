from __future__ import annotations

from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from client.app import FedReenactClient
from client.policy import SitePolicy
from model.config import Scalar, Settings
from model.errors import ConfigError, FederationError
from tests.federated_setup import minimal_settings, write_dataset

GOOD: dict[str, Scalar] = {"local-steps": 100, "batch-size": 4, "learning-rate-generator": 1e-3}


def refusal(changes: dict[str, Scalar], num_frames: int = 400, **limits: Scalar) -> str:
    policy = SitePolicy.from_node_config({key.replace("_", "-"): value for key, value in limits.items()})
    with pytest.raises(ConfigError) as caught:
        policy.check_run(Settings.from_flat(GOOD | changes), num_frames)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"local-steps": 1, "batch-size": 1}, "local-steps x batch-size is 1, this site wants at least"),
        ({"learning-rate-generator": 0.5}, "learning rate is 0.5, this site wants at most max-learning-rate = 0.01"),
        ({"learning-rate-discriminator": 0.5}, "learning rate is 0.5"),
        ({"local-steps": 10**6}, "local-steps is 1e+06, this site wants at most max-local-steps = 10000"),
        ({"image-size-px": 1024, "patch-size-px": 16, "flow-seed-px": 8}, "image-size-px is 1024"),
    ],
)
def test_settings_that_widen_what_an_update_says_are_refused(changes: dict[str, Scalar], words: str) -> None:
    assert words in refusal(changes)


def test_too_few_frames_are_refused() -> None:
    assert "training frames is 29, this site wants at least min-frames = 30" in refusal({}, num_frames=29)


def test_a_site_may_be_stricter_or_laxer() -> None:
    assert "min-samples-per-round = 1000" in refusal({}, min_samples_per_round=1000)
    lax = SitePolicy.from_node_config({"min-samples-per-round": 1, "partition-id": 3, "data-dir": "/data"})
    lax.check_run(Settings.from_flat(GOOD | {"local-steps": 1}), 400)


def test_presets_pass() -> None:
    SitePolicy().check_run(Settings(), 400)


@pytest.mark.parametrize("value", ["many", True, float("nan"), float("inf"), -1])
def test_a_limit_that_is_no_number_is_refused(value: Scalar) -> None:
    with pytest.raises(ConfigError, match="min-frames"):
        SitePolicy.from_node_config({"min-frames": value})


def test_a_deployed_site_answers_a_refused_run_with_the_reason_and_nothing_else(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "secret", 1)
    settings = minimal_settings(dataset, tmp_path / "run", 1)
    node_config = {"partition-id": 0, "data-dir": str(dataset / "person-0"), "state-dir": str(tmp_path / "state")}
    client = FedReenactClient(Context(1, 1, node_config, RecordDict(), settings.to_flat()))
    with pytest.raises(FederationError, match="site policy: training frames is 9") as caught:
        client.fit([], {"phase": "statistics"})
    assert "secret" not in str(caught.value)
