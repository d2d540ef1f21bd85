from __future__ import annotations

from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from client.app import FedReenactClient
from client.consent.policy import SitePolicy
from data_partition.config import MIN_FRAMES_OF_BASE
from deploy import files
from federation.settings import Settings, read_preset
from model.errors import ConfigError, FederationError
from model.landmarks.closed_form import FORMS
from model.setting import Scalar
from tests.support.federated_setup import deployed_config, minimal_settings, write_dataset

PRESETS = sorted(files.PRESETS.glob("*.toml"))
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
        ({"learning-rate-generator": 0.05}, "learning rate is 0.05, this site wants at most max-learning-rate = 0.01"),
        ({"learning-rate-discriminator": 0.05}, "learning rate is 0.05"),
        ({"local-steps": 50_000}, "local-steps is 50000, this site wants at most max-local-steps = 10000"),
        ({"image-size-px": 1024, "patch-size-px": 16, "flow-seed-px": 8}, "image-size-px is 1024"),
    ],
)
def test_settings_that_widen_what_an_update_says_are_refused(changes: dict[str, Scalar], words: str) -> None:
    assert words in refusal(changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        # Steps 0 to 98 train the flow alone; the images' first gradient is of one batch.
        ({"flow-warmup-steps": 99, "perceptual-backbone": "none"}, "steps with l1-image x batch-size in round 1 is 4,"),
        (
            {"flow-warmup-steps": 290, "perceptual-backbone": "none"},
            "steps with l1-image x batch-size in round 3 is 40",
        ),
        ({"adversarial-from-step": 199}, "steps with discriminator-image x batch-size in round 2 is 4,"),
        ({"perceptual-every": 100}, "steps with perceptual x batch-size in round 1 is 4,"),
        # Of steps 0 to 99 34 are multiples of 3, of the next hundred 33.
        ({"perceptual-every": 3, "batch-size": 3}, "steps with perceptual x batch-size in round 2 is 99,"),
    ],
)
def test_schedules_that_leave_a_term_few_samples_are_refused(changes: dict[str, Scalar], words: str) -> None:
    assert words in refusal(changes)


def test_schedules_that_begin_with_a_round_and_terms_without_weight_pass() -> None:
    SitePolicy().check_settings(Settings.from_flat(GOOD | {"flow-warmup-steps": 300, "adversarial-from-step": 75}))
    SitePolicy().check_settings(Settings.from_flat(GOOD | {"perceptual-every": 50, "weight-perceptual": 0}))


def test_an_update_larger_than_the_site_allows_is_refused_before_it_is_built() -> None:
    huge = {"flow-channels": 1024, "flow-seed-px": 56}  # Linear(512, 1024 * 56 * 56) alone has 6.1 GiB
    assert "MiB of an update is 6" in refusal(huge) and "max-update-mib = 512" in refusal(huge)
    assert "MiB of an update is 294.359" in refusal({"secure-aggregation": True}, max_update_mib=200)
    SitePolicy(max_update_mib=295).check_settings(Settings.from_flat(GOOD | {"secure-aggregation": True}))
    coded = {"secure-aggregation": True, "update-codec": "int8"}  # 32 bits a value
    SitePolicy(max_update_mib=148).check_settings(Settings.from_flat(GOOD | coded))
    assert "MiB of an update is 147.18" in refusal(coded, max_update_mib=147)


def test_too_few_frames_are_refused() -> None:
    text = refusal({}, num_frames=29)
    assert "fewer training frames than its min-frames = 30" in text
    assert "29" not in text  # the server is told what the site asks for, not what it has


def test_sums_for_a_base_need_more_frames() -> None:
    closed = {"lgan-base": "closed"}
    assert "lgan-base = closed needs 60 training frames" in refusal(closed, num_frames=59)
    SitePolicy().check_run(Settings.from_flat(GOOD | closed), 60)
    SitePolicy().check_run(Settings.from_flat(GOOD | closed | {"network": "x2face"}), 59)  # agrees on none


def test_in_a_secure_run_the_half_that_is_summed_counts() -> None:
    """From 60 frames 30 would be drawn, of which the sums for a base would say all."""
    secure: dict[str, Scalar] = {"secure-aggregation": True}
    closed = secure | {"lgan-base": "closed"}
    words = "lgan-base = closed needs 60 training frames in the half that secure-aggregation sums, this site has fewer"
    assert words in refusal(closed, num_frames=118)
    SitePolicy().check_run(Settings.from_flat(GOOD | closed), 119)
    text = refusal(secure, num_frames=58)
    assert "fewer training frames in the half that secure-aggregation sums than its min-frames = 30" in text
    SitePolicy().check_run(Settings.from_flat(GOOD | secure), 59)


def test_fewer_numbers_leave_for_a_base_than_the_frames_have() -> None:
    """Symmetric products count once; centred landmarks have 134 coordinates, and pose and action units 21."""
    num_sums = sum(
        size * (size + 1) // 2 + size * form.num_targets for form in FORMS for size in (form.num_own + form.num_shared,)
    )
    assert num_sums < MIN_FRAMES_OF_BASE * (134 + 21)


def test_a_site_may_be_stricter_or_laxer() -> None:
    assert "min-samples-per-round = 1000" in refusal({}, min_samples_per_round=1000)
    lax = SitePolicy.from_node_config({"min-samples-per-round": 1, "partition-id": 3, "data-dir": "/data"})
    lax.check_run(Settings.from_flat(GOOD | {"local-steps": 1}), 400)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_pass(path: Path) -> None:
    SitePolicy().check_run(Settings.from_flat(read_preset(path)), 400)


@pytest.mark.parametrize("value", ["many", True, float("nan"), float("inf"), -1])
def test_a_limit_that_is_no_number_is_refused(value: Scalar) -> None:
    with pytest.raises(ConfigError, match="min-frames"):
        SitePolicy.from_node_config({"min-frames": value})


def test_a_deployed_site_answers_a_refused_run_with_the_reason_and_nothing_else(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "secret", 1)
    settings = minimal_settings(dataset, tmp_path / "run", 1)
    node_config = deployed_config(dataset, tmp_path, 0, settings, min_frames=30)
    client = FedReenactClient(Context(1, 1, node_config, RecordDict(), settings.to_flat()))
    with pytest.raises(FederationError, match="site policy: this site has fewer training frames") as caught:
        client.fit([], {"phase": "statistics"})
    assert "secret" not in str(caught.value)
