from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.local_training import LocalResult
from client.policy import SitePolicy
from client.privacy import ReleaseLedger, clipped, gaussian, noised, privatised
from model.config import Scalar, Settings
from model.errors import ConfigError, NonFiniteLossError


def test_clipping_by_hand() -> None:
    """Steps (3, 0) and (0, 4) together have length 5; clipped to 2.5 both are halved. Length 5 or more leaves them."""
    before = [np.ones(2, np.float32), np.zeros((1, 2), np.float32)]
    after = [np.array([4.0, 1.0], np.float32), np.array([[0.0, 4.0]], np.float32)]
    halved = clipped(after, before, 2.5)
    assert [step.tolist() for step in halved] == [[1.5, 0.0], [[0.0, 2.0]]]
    assert [step.tolist() for step in clipped(after, before, 5.0)] == [[3.0, 0.0], [[0.0, 4.0]]]
    assert [step.tolist() for step in clipped(before, before, 1.0)] == [[0.0, 0.0], [[0.0, 0.0]]]


def test_an_update_that_is_not_finite_is_not_sent() -> None:
    with pytest.raises(NonFiniteLossError, match="length of the update is nan"):
        clipped([np.array([np.nan], np.float32)], [np.zeros(1, np.float32)], 1.0)


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
    step = noised([np.full((100, 1000), 7.0)], 0.25)[0]
    assert abs(step.mean() - 7) < 5 * 0.25 / np.sqrt(step.size)
    assert abs(step.std() - 0.25) < 0.25 * 5 / np.sqrt(2 * step.size)
    assert not (gaussian(10) == gaussian(10)).any()


def test_what_leaves_has_weight_one_and_no_losses(tmp_path: Path) -> None:
    result = LocalResult(
        arrays=[np.full(2, 100.0, np.float32)],
        num_examples=37,
        metrics={"loss_generator": 12.5, "l1_image": 0.3, "accuracy_real": 0.9, "seconds": 4.0, "num_steps": 2.0},
    )
    before = [np.zeros(2, np.float32)]
    ledger = ReleaseLedger(tmp_path, "run")
    sent = privatised(result, before, clip_norm=1.0, noise_multiplier=1e-6, ledger=ledger)
    assert sent.num_examples == 1
    assert sent.metrics == {"seconds": 4.0, "num_steps": 2.0, "dp_releases": 1.0}
    assert sent.arrays[0].dtype == np.float32
    assert np.linalg.norm(sent.arrays[0]) == pytest.approx(1.0, abs=1e-4)


def test_releases_are_counted_by_run_and_across_processes(tmp_path: Path) -> None:
    assert [ReleaseLedger(tmp_path, "a").count_one() for _ in range(3)] == [1, 2, 3]
    assert ReleaseLedger(tmp_path, "b").count_one() == 1
    assert ReleaseLedger(tmp_path, "a").count_one() == 4


def test_a_damaged_ledger_stops_the_site(tmp_path: Path) -> None:
    (tmp_path / "privacy-ledger.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"privacy-ledger.json cannot be read .* privacy already spent is unknown"):
        ReleaseLedger(tmp_path, "a").count_one()


@pytest.mark.parametrize(
    ("limit", "settings", "words"),
    [
        ("min-sites-in-sum", {}, "min-fit-clients under secure-aggregation is 0, this site wants at least"),
        ("min-sites-in-sum", {"secure-aggregation": True, "min-fit-clients": 4}, "secure-aggregation is 4"),
        ("min-noise-multiplier", {}, "dp-noise-multiplier is 0, this site wants at least min-noise-multiplier = 5"),
    ],
)
def test_a_site_may_insist(limit: str, settings: dict[str, Scalar], words: str) -> None:
    policy = SitePolicy.from_node_config({limit: 5})
    with pytest.raises(ConfigError, match=words):
        policy.check_run(Settings.from_flat(settings), 400)
    noisy: dict[str, Scalar] = {"tau": 0.0, "dp-clip-norm": 1.0, "dp-noise-multiplier": 5.0}
    policy.check_run(Settings.from_flat({"secure-aggregation": True, **noisy}), 400)
