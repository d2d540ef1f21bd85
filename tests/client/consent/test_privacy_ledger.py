from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from client.consent.policy import SitePolicy
from client.consent.privacy_ledger import ReleaseLedger, Steps, clipped, gaussian, noised, noised_answer
from federation.local_training import LocalResult
from federation.privacy_accountant import epsilon_of
from federation.settings import Settings
from model.errors import ConfigError, DataError, NonFiniteLossError
from model.setting import Scalar


def listed(steps: Steps) -> dict[str, object]:
    return {name: step.tolist() for name, step in steps.items()}


def test_clipping_by_hand() -> None:
    """Steps (3, 0) and (0, 4) together have length 5; clipped to 2.5 both are halved. Length 5 or more leaves them."""
    before = {"a": np.ones(2, np.float32), "b": np.zeros((1, 2), np.float32)}
    after = {"b": np.array([[0.0, 4.0]], np.float32), "a": np.array([4.0, 1.0], np.float32)}
    halved = clipped(after, before, 2.5)
    assert listed(halved) == {"a": [1.5, 0.0], "b": [[0.0, 2.0]]}
    assert listed(clipped(after, before, 5.0)) == {"a": [3.0, 0.0], "b": [[0.0, 4.0]]}
    assert listed(clipped(before, before, 1.0)) == {"a": [0.0, 0.0], "b": [[0.0, 0.0]]}


def test_an_update_that_is_not_finite_is_not_sent() -> None:
    with pytest.raises(NonFiniteLossError, match="length of the update is nan"):
        clipped({"a": np.array([np.nan], np.float32)}, {"a": np.zeros(1, np.float32)}, 1.0)


def test_noise_has_the_stated_deviation_and_no_memory() -> None:
    """With n normal values: mean within 5 / sqrt(n), variance within 5 sqrt(2 / n), tails as the normal's."""
    num_values = 1_000_001
    values = gaussian(num_values)
    assert values.shape == (num_values,)
    assert abs(values.mean()) < 5 / np.sqrt(num_values)
    assert abs(values.var() - 1) < 5 * np.sqrt(2 / num_values)
    assert abs(np.mean(values**4) - 3) < 5 * np.sqrt(96 / num_values)
    for lag in (1, num_values // 2):  # pairs of Box and Muller are half a vector apart
        assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < 5 / np.sqrt(num_values - lag)
    assert abs(np.mean(np.abs(values) > 3) - 0.0026998) < 5 * np.sqrt(0.0027 / num_values)
    step = noised({"a": np.full((100, 1000), 7.0)}, 0.25)["a"]
    assert abs(step.mean() - 7) < 5 * 0.25 / np.sqrt(step.size)
    assert abs(step.std() - 0.25) < 0.25 * 5 / np.sqrt(2 * step.size)
    assert not (gaussian(10) == gaussian(10)).any()


BEFORE = {"weights": np.zeros(2, np.float32)}


def trained(values: list[float]) -> LocalResult:
    metrics = {"loss_generator": 12.5, "l1_image": 0.3, "ranking_image": 0.9, "seconds": 4.0, "num_steps": 2.0}
    return LocalResult(tensors={"weights": np.array(values, np.float32)}, num_examples=37, metrics=metrics)


def answer(folder: Path, train: Callable[[], LocalResult], noise_multiplier: float = 1e-6) -> LocalResult:
    ledger = ReleaseLedger(folder, ["person-a"])
    return noised_answer(train, BEFORE, clip_norm=1.0, noise_multiplier=noise_multiplier, ledger=ledger)


def test_what_leaves_has_weight_one_and_says_what_is_spent(tmp_path: Path) -> None:
    sent = answer(tmp_path, lambda: trained([100.0, 100.0]))
    assert sent.num_examples == 1
    assert sent.metrics == {"dp_releases": 1.0, "dp_mu": 2e6}
    assert sent.tensors["weights"].dtype == np.float32
    assert np.linalg.norm(sent.tensors["weights"]) == pytest.approx(1.0, abs=1e-4)


def raising(error: Exception) -> Callable[[], LocalResult]:
    def train() -> LocalResult:
        raise error

    return train


@pytest.mark.parametrize(
    "train",
    [
        raising(NonFiniteLossError("step 0: l1_image is nan")),
        raising(DataError("/secret/frames/000001.jpg: truncated")),
        raising(MemoryError()),
        raising(IndexError("index 7 is out of range")),
        lambda: trained([math.nan, 1.0]),
        lambda: trained([math.inf, 1.0]),
        lambda: trained([1.0, 1.0, 1.0]),
    ],
)
def test_a_failure_is_a_noised_step_of_zero_that_is_counted(
    train: Callable[[], LocalResult], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sent = answer(tmp_path, train)
    assert {name: (array.shape, array.dtype) for name, array in sent.tensors.items()} == {"weights": ((2,), np.float32)}
    assert 0 < np.abs(sent.tensors["weights"]).max() < 1e-4
    assert (sent.num_examples, sent.metrics) == (1, {"dp_releases": 1.0, "dp_mu": 2e6})
    assert "training failed" in caplog.text
    assert answer(tmp_path, lambda: trained([1.0, 0.0])).metrics["dp_releases"] == 2.0


def test_the_release_is_on_disk_before_training_begins(tmp_path: Path) -> None:
    def train() -> LocalResult:
        text = (tmp_path / "privacy-ledger.json").read_text("utf-8")
        assert json.loads(text) == {
            "persons": {"person-a": [{"noise_multiplier": 4.0, "clip_norm": 1.0, "releases": 1}]}
        }
        os._exit(7)  # as a process that the kernel kills

    pid = os.fork()
    if not pid:
        answer(tmp_path, train, noise_multiplier=4.0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert ReleaseLedger(tmp_path, ["person-a"]).count_one(noise_multiplier=4.0, clip_norm=1.0).num_releases == 2


def test_releases_with_different_noise_are_one_persons(tmp_path: Path) -> None:
    """mu^2 = (2/4)^2 + (2/4)^2 + (2/1)^2 = 4.5; another person begins at zero."""
    ledger = ReleaseLedger(tmp_path, ["person-a"])
    for noise in (4.0, 4.0, 1.0):
        spent = ledger.count_one(noise_multiplier=noise, clip_norm=0.5)
    assert (spent.num_releases, spent.mu) == (3, pytest.approx(math.sqrt(4.5), rel=1e-12))
    assert ReleaseLedger(tmp_path, ["person-b"]).count_one(noise_multiplier=4.0, clip_norm=1.0) == (1, 0.5)
    both = ReleaseLedger(tmp_path, ["person-b", "person-a"]).count_one(noise_multiplier=1.0, clip_norm=1.0)
    assert both == (4, pytest.approx(math.sqrt(8.5), rel=1e-12))


def test_of_several_persons_the_one_of_whom_most_is_told_counts(tmp_path: Path) -> None:
    """Not the one with most releases: ten with z = 100 have mu = .063, one with z = 1 has 2."""
    for _ in range(10):
        ReleaseLedger(tmp_path, ["person-a"]).count_one(noise_multiplier=100.0, clip_norm=1.0)
    ReleaseLedger(tmp_path, ["person-b"]).count_one(noise_multiplier=1.0, clip_norm=1.0)
    both = ReleaseLedger(tmp_path, ["person-a", "person-b"]).count_one(noise_multiplier=2.0, clip_norm=1.0)
    assert both == (2, pytest.approx(math.sqrt(5.0), rel=1e-12))


def test_processes_at_the_same_time_lose_no_release(tmp_path: Path) -> None:
    pids = []
    for _ in range(4):
        pids.append(os.fork())
        if not pids[-1]:
            for _ in range(10):
                ReleaseLedger(tmp_path, ["a"]).count_one(noise_multiplier=4.0, clip_norm=1.0)
            os._exit(0)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0, 0]
    assert ReleaseLedger(tmp_path, ["a"]).count_one(noise_multiplier=4.0, clip_norm=1.0).num_releases == 41


def test_the_book_is_for_the_sites_user_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        ReleaseLedger(tmp_path / "state", ["anna"]).count_one(noise_multiplier=4.0, clip_norm=1.0)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()}
    assert modes == {"privacy-ledger.json": 0o600, "privacy-ledger.lock": 0o600}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_a_release_that_would_pass_the_sites_limit_is_refused_before_training(tmp_path: Path) -> None:
    """Three releases with z = 4 have mu = 2 sqrt(3) / 4; a limit just there lets three through and no fourth."""
    limit = epsilon_of(2 * math.sqrt(3) / 4) * (1 + 1e-9)
    ledger = ReleaseLedger(tmp_path, ["person-a"])
    for _ in range(3):
        ledger.count_one(noise_multiplier=4.0, clip_norm=1.0, max_epsilon=limit)
    for noise in (4.0, 1.0):
        with pytest.raises(ConfigError, match=r"one more noised update .* this site wants at most max-epsilon = "):
            ledger.count_one(noise_multiplier=noise, clip_norm=1.0, max_epsilon=limit)
    assert ledger.count_one(noise_multiplier=4.0, clip_norm=1.0).num_releases == 4  # refusals are no releases


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[1]",
        '{"persons": {"a": [{"noise_multiplier": 0.0, "clip_norm": 1.0, "releases": 1}]}}',
        "{}",
        '{"persons": {"a": [{"noise_multiplier": 1.0, "clip_norm": 1.0, "releases": -1}]}}',
        '{"persons": {"a": 3}}',
    ],
)
def test_a_damaged_ledger_stops_the_site(tmp_path: Path, content: str) -> None:
    (tmp_path / "privacy-ledger.json").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"privacy-ledger.json cannot be read .* privacy already spent is unknown"):
        ReleaseLedger(tmp_path, ["a"]).count_one(noise_multiplier=4.0, clip_norm=1.0)


def test_a_ledger_of_an_older_version_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "privacy-ledger.json").write_text('{"run-17": 20, "run-18": 3}', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"older version, which did not note the noise .* docs/privacy.md"):
        ReleaseLedger(tmp_path, ["a"]).count_one(noise_multiplier=4.0, clip_norm=1.0)


@pytest.mark.parametrize(
    ("limit", "settings", "words"),
    [
        ("min-sites-in-sum", {}, "min-fit-clients under secure-aggregation is 0, this site wants at least"),
        ("min-sites-in-sum", {"secure-aggregation": True, "min-fit-clients": 4}, "secure-aggregation is 4"),
        ("min-noise-multiplier", {}, "dp-noise-multiplier is 0, this site wants at least min-noise-multiplier = 5"),
        ("max-epsilon", {}, "epsilon without dp-noise-multiplier is inf, this site wants at most max-epsilon = 5"),
    ],
)
def test_a_site_may_insist(limit: str, settings: dict[str, Scalar], words: str) -> None:
    policy = SitePolicy.from_node_config({limit: 5})
    with pytest.raises(ConfigError, match=words):
        policy.check_run(Settings.from_flat(settings), 400)
    noisy: dict[str, Scalar] = {"tau": 0.0, "dp-clip-norm": 1.0, "dp-noise-multiplier": 5.0}
    policy.check_run(Settings.from_flat({"secure-aggregation": True, **noisy}), 400)
