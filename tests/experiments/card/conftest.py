"""A run of people whose names, like its folders', are found if they are anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evaluation.faces.analysis import Backends
from evaluation.figures.bootstrap import Estimate
from evaluation.figures.summary import EVERYBODY, Faces, SummaryRow
from evaluation.figures.tables import rows_to_plain
from evaluation.pairs import Protocol
from server.training import Mode, train
from tests.support.consents import DAY, TODAY, consent_of
from tests.support.federated_setup import GLR, minimal_settings
from tests.support.shards import write_random_shard

PEOPLE = ("Quendolin", "Xaverine")
PLACES = ("videosofourclinic", "runofourclinic")
"""Folders of dataset and run."""
BACKENDS = Backends(embedding="SFace", landmarks="MediaPipe", pose="MediaPipe", action_units="proxy")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pooled run of two rounds with an averaged model."""
    root = tmp_path_factory.mktemp("card")
    for index, person in enumerate(PEOPLE):
        record = consent_of(
            person,
            purpose=f"a portrait of {person.upper()} <b>for</b> a | museum\nin Bath",
            audience="visitors",
            forbidden="advertising",
            expires=TODAY + (1 + index) * 365 * DAY,
            evidence="drawer 17 of ward C",
            controller="Clinic of Bath",
        )
        write_random_shard(root / PLACES[0], person, num_frames=30, seed=index, consent=record)
    settings = minimal_settings(root / PLACES[0], root / PLACES[1], 2, server_ema_decay=0.5)
    return train(Mode.CENTRALIZED, settings.replaced(GLR))[0]


def _row(method: str, psnr_db: float, identity: str = EVERYBODY) -> SummaryRow:
    figures = {
        "csim": Estimate(value=0.5, low=0.4, high=0.6, num_pairs=4),
        "psnr_db": Estimate(value=psnr_db, low=psnr_db - 1, high=psnr_db + 1, num_pairs=4),
        "prmse_deg": Estimate(value=np.nan, low=np.nan, high=np.nan, num_pairs=0),
        "l1": Estimate(value=0.123, low=0.1, high=0.2, num_pairs=4),
    }
    faces = Faces(num_pairs=4, num_without_source=0, num_without_driving=0, num_without_generated=4)
    return SummaryRow(protocol=Protocol.SELF, identity=identity, method=method, faces=faces, figures=figures)


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """Results of round 2, of everybody and by person."""
    rows = [_row("model", 22.5), _row("copy-source", 20.0), _row("model", 23.0, PEOPLE[0])]
    folder = tmp_path / "evaluation"
    folder.mkdir()
    figures = {
        "round": 2,
        "backends": {name: getattr(BACKENDS, name) for name in BACKENDS.__slots__},
        "rows": rows_to_plain(rows, BACKENDS),
    }
    (folder / "metrics.json").write_text(json.dumps(figures))
    return folder
