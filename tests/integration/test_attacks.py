"""One hostile site of five against each defence, with real clients and a minimal network."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest

from model.checkpoint import Checkpoint, load_checkpoint
from model.designs.registry import IDENTITY_ROWS
from model.setting import Scalar
from server.rounds.federation import run_federation
from server.run_folder.history import read_history
from tests.support.attacks import HostileGrid, write_swapped
from tests.support.federated_setup import minimal_settings, write_dataset

pytestmark = pytest.mark.integration

ATTACKER = 1
SCREENING: dict[str, Scalar] = {"max_norm_ratio": 3.0, "min_cosine": -0.1, "quarantine_after": 2}

UNDEFENDED: dict[str, Scalar] = {
    "max_norm_ratio": 0.0,
    "max_weight_ratio": 0.0,
    "quarantine_after": 0,
    "max_rounds": 2,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"), 5)


def attacked(dataset: Path, folder: Path, attack: str, **changes: Scalar) -> Checkpoint:
    """The end of a run of three rounds."""
    usual: dict[str, Scalar] = {"max_rounds": 3, "min_fit_clients": 3, "adversarial_from_step": 0}
    settings = minimal_settings(dataset, folder, 5, **(usual | changes))
    run_federation(HostileGrid(settings, attack, attacker=ATTACKER), settings)
    return load_checkpoint(folder)


def kinds(folder: Path) -> list[str]:
    """Why the attacker was left out in each round; nobody else was."""
    rows = read_history(folder)
    assert {site for row in rows for site in row.rejected_kinds} <= {ATTACKER}
    return [row.rejected_kinds.get(ATTACKER, "") for row in rows]


def distance(left: Checkpoint, right: Checkpoint) -> float:
    """Between the tensors that all sites share; those of the attacker's identity are its own affair."""
    shared = [name for name in left.tensors if name not in IDENTITY_ROWS]
    return float(np.sqrt(sum(np.square(left.tensors[n].astype(np.float64) - right.tensors[n]).sum() for n in shared)))


@pytest.mark.parametrize(
    ("attack", "changes", "expected"),
    [
        ("nan", {}, ["not-finite"] * 3),
        ("scaled", {}, ["too-long"] * 3),
        ("replay", {}, ["", "replayed", "replayed"]),
        ("scaled", SCREENING, ["too-long", "too-long", "quarantined"]),
        ("flipped-and-stretched", SCREENING, ["too-long", "too-long", "quarantined"]),
        ("noise", SCREENING, ["too-long", "too-long", "quarantined"]),
    ],
)
def test_the_attacker_is_left_out_by_name(
    dataset: Path, tmp_path: Path, attack: str, changes: dict[str, Scalar], expected: list[str]
) -> None:
    attacked(dataset, tmp_path / "run", attack, **changes)
    assert kinds(tmp_path / "run") == expected


def test_a_flipped_step_is_opposed_while_the_others_agree(dataset: Path, tmp_path: Path) -> None:
    attacked(dataset, tmp_path / "run", "sign-flipped", **SCREENING)
    assert kinds(tmp_path / "run")[0] == "opposed"


def test_nobody_is_left_out_of_an_honest_run(dataset: Path, tmp_path: Path) -> None:
    attacked(dataset, tmp_path / "run", "none", **SCREENING, max_loss_deviation=10.0)
    assert kinds(tmp_path / "run") == [""] * 3


def test_a_run_without_the_attacker_is_what_screening_leaves(dataset: Path, tmp_path: Path) -> None:
    """Two attacks that are found in every round end in the same bits: nothing of them is left."""
    scaled = attacked(dataset, tmp_path / "scaled", "scaled")
    poisoned = attacked(dataset, tmp_path / "nan", "nan")
    assert distance(scaled, poisoned) == 0


@pytest.fixture(scope="module")
def steered(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, float]:
    """An undefended honest run, and how far the scaled attack takes the mean from it."""
    root = tmp_path_factory.mktemp("mean")
    honest = attacked(dataset, root / "honest", "none", **UNDEFENDED)
    return honest, distance(attacked(dataset, root / "scaled", "scaled", **UNDEFENDED), honest)


def test_a_boast_steers_no_further_than_its_limit(
    dataset: Path, tmp_path: Path, steered: tuple[Checkpoint, float]
) -> None:
    """A flipped step takes a mean of five equals 2 / 5 of an honest step away; as the whole mean, two steps."""
    honest, _ = steered
    far = distance(attacked(dataset, tmp_path / "off", "boast", **UNDEFENDED), honest)
    near = distance(attacked(dataset, tmp_path / "on", "boast", **(UNDEFENDED | {"max_weight_ratio": 1.0})), honest)
    assert near < far / 2
    for row in read_history(tmp_path / "on"):
        weights = [row.measured[site]["weight"] for site in range(5)]
        num_frames = [row.clients[site]["num_examples"] for site in range(5)]
        assert weights[ATTACKER] == max(weights) == statistics.median(num_frames)


@pytest.mark.parametrize("rule", ["median", "trimmed-mean", "krum"])
def test_a_robust_rule_stays_near_the_honest_run(
    dataset: Path, tmp_path: Path, rule: str, steered: tuple[Checkpoint, float]
) -> None:
    honest, far = steered
    robust = attacked(dataset, tmp_path / rule, "scaled", **UNDEFENDED, aggregation=rule)
    assert kinds(tmp_path / rule) == ["", ""]
    assert distance(robust, honest) < far / 5


def test_a_site_with_two_people_in_one_is_a_dataset_like_any_other(dataset: Path, tmp_path: Path) -> None:
    """Data that lie are not seen in the update's form; what they do to the model is measured in docs/attacks.md."""
    six = write_dataset(tmp_path / "six", 6)
    swapped = write_swapped(tmp_path / "swapped", six, attacker=ATTACKER)
    attacked(swapped, tmp_path / "run", "identity-swap", **SCREENING)
    assert kinds(tmp_path / "run") == [""] * 3
