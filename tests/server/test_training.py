from __future__ import annotations

from pathlib import Path

import pytest

from model.checkpoint import load_checkpoint
from server.run_folder.history import read_history, spent
from server.training import Mode, train
from tests.federated_setup import GLR, minimal_settings, write_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "dataset", 2)


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
