"""A deployed site notices when its data change under a run, and tells nobody."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from client.app import app
from client.consent.known_data import check_known_data
from model.errors import DataError
from server.rounds.federation import run_federation
from server.run_folder.history import read_history
from tests.support.federated_setup import deployed_config, minimal_settings, write_dataset
from tests.support.inprocess_grid import InProcessGrid
from tests.support.shards import write_random_shard


def test_the_same_data_are_no_news(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for place in ("here", "here", "there"):
        check_known_data(tmp_path / "state", "run", write_random_shard(tmp_path / place, "anna"))
    assert not caplog.messages


def test_other_frames_are_said_once_at_the_site(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for num_frames in (40, 30, 30):
        check_known_data(tmp_path / "state", "run", write_random_shard(tmp_path, "anna", num_frames=num_frames))
    assert caplog.messages == [f"{tmp_path / 'anna'}: other frames than before in this run: 40 frames, now 30"]


def test_another_person_is_refused_in_that_run_alone_until_the_first_one_is_back(tmp_path: Path) -> None:
    anna, ben = (write_random_shard(tmp_path, name) for name in ("anna", "ben"))
    check_known_data(tmp_path / "state", "run", anna)
    for _ in range(2):
        with pytest.raises(DataError, match="ben: holds ben, this site began the run with anna, .* put the shard of"):
            check_known_data(tmp_path / "state", "run", ben)
    check_known_data(tmp_path / "state", "another run", ben)
    check_known_data(tmp_path / "state", "run", anna)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"identity": 3}'])
def test_a_damaged_memory_is_said_and_made_anew(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    shard = write_random_shard(tmp_path, "anna")
    check_known_data(tmp_path / "state", "run", shard)
    (path,) = (tmp_path / "state").rglob("known-data.json")
    path.write_text(text)
    for _ in range(2):
        check_known_data(tmp_path / "state", "run", shard)
    assert len(caplog.messages) == 1 and "cannot be read" in caplog.messages[0]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_server_learns_nothing_of_the_site_whose_person_is_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = write_dataset(tmp_path / "data", 2)
    settings = minimal_settings(Path(), tmp_path / "run", 2, max_rounds=3, min_fit_clients=1)
    nodes = [deployed_config(dataset, tmp_path, index, settings) for index in range(2)]
    begun = settings.replaced({"max-rounds": 1})
    run_federation(InProcessGrid(app, nodes, begun.to_flat()), begun)
    shutil.rmtree(dataset / "person-1")
    write_random_shard(tmp_path / "other", "zoe").path.rename(dataset / "person-1")
    resumed = settings.replaced({"max-rounds": 2, "resume": True})
    run_federation(InProcessGrid(app, nodes, resumed.to_flat()), resumed)
    row = read_history(tmp_path / "run")[-1]
    assert list(row.clients) == [0] and row.rejected[1].endswith("DataError: the site's own log says more")
    told = [record.exc_text or "" for record in caplog.records]
    assert any("holds zoe, this site began the run with person-1" in text for text in told)
