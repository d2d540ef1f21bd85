from __future__ import annotations

from pathlib import Path

import pytest

from data_partition.shards.writer import record_consent
from model.checkpoint import load_checkpoint
from model.errors import DataError
from server.run_folder.history import read_history, spent
from server.training import Mode, train
from tests.support.consents import NO_CONSENT, consent_of
from tests.support.federated_setup import GLR, minimal_settings, write_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "dataset", 2)


@pytest.mark.integration
def test_local_mode_trains_every_person_alone_in_a_folder_of_their_own(dataset: Path, tmp_path: Path) -> None:
    runs = train(Mode.LOCAL, minimal_settings(dataset, tmp_path / "runs", 2, **GLR))
    assert [run.name for run in runs] == ["person-0", "person-1"]
    checkpoints = [load_checkpoint(run) for run in runs]
    assert [checkpoint.identities for checkpoint in checkpoints] == [["person-0"], ["person-1"]]
    assert all(checkpoint.round == 2 for checkpoint in checkpoints)
    one, other = (checkpoint.tensors["generator.image_generator.to_rgb.weight"] for checkpoint in checkpoints)
    assert (one != other).any()


def test_history_counts_steps_and_samples(dataset: Path, tmp_path: Path) -> None:
    settings = minimal_settings(dataset, tmp_path / "run", 2, local_steps=3, batch_size=2)
    (run,) = train(Mode.CENTRALIZED, settings)
    assert spent(read_history(run), settings) == (6, 12)


@pytest.mark.parametrize("mode", Mode)
def test_no_mode_begins_with_somebody_who_may_not_be_trained_on(dataset: Path, tmp_path: Path, mode: Mode) -> None:
    record_consent(dataset / "person-1", consent_of("person-1", **NO_CONSENT["revoked"]))
    with pytest.raises(DataError, match="not trained: person-1: consent 2026-014 was revoked"):
        train(mode, minimal_settings(dataset, tmp_path / "run", 2))
    assert not (tmp_path / "run").exists()


def test_people_without_a_record_are_trained_on_when_the_settings_say_what_they_are(
    dataset: Path, tmp_path: Path
) -> None:
    record_consent(dataset / "person-1", None)
    with pytest.raises(DataError, match="not trained: person-1: no record of consent"):
        train(Mode.CENTRALIZED, minimal_settings(dataset, tmp_path / "run", 2))
    (run,) = train(Mode.CENTRALIZED, minimal_settings(dataset, tmp_path / "run", 2, without_consent="public"))
    assert load_checkpoint(run).settings["without-consent"] == "public"


@pytest.mark.parametrize("mode", Mode)
def test_no_mode_begins_a_training_by_meshes_without_any(dataset: Path, tmp_path: Path, mode: Mode) -> None:
    with pytest.raises(DataError, match="person-0: there are no face meshes, which this network is driven by"):
        train(mode, minimal_settings(dataset, tmp_path / "run", 2, network="meshgcn"))
    assert not (tmp_path / "run").exists()


def test_a_network_that_is_driven_by_meshes_is_trained_on_data_that_have_them(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", 2, has_mesh=True)
    settings = minimal_settings(dataset, tmp_path / "run", 2, network="meshgcn", motion_jitter=0.5)
    (run,) = train(Mode.CENTRALIZED, settings)
    assert load_checkpoint(run).tensors["generator.basis.linear.weight"].any()
