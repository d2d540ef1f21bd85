from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from cli import entry as cli
from evaluation.faces.analysis import Backends
from evaluation.figures.bootstrap import Estimate
from evaluation.figures.summary import EVERYBODY, Faces, SummaryRow
from evaluation.figures.tables import rows_from_plain, rows_to_plain
from evaluation.pairs import Protocol
from experiments.curves import curves_png
from experiments.report import names_of_clients, read_report
from experiments.report_page import Demonstration, headlines, write_report
from federation.settings import Settings
from model.errors import DataError, FedreenactError
from server.training import Mode, train
from tests.support.federated_setup import minimal_settings, write_dataset
from tests.support.rows import round_row

BACKENDS = Backends(embedding="SFace", landmarks="MediaPipe", pose="MediaPipe", action_units="proxy")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("run")
    dataset = write_dataset(root / "dataset", 2)
    return train(Mode.CENTRALIZED, minimal_settings(dataset, root / "<run>", 2))[0]


def _row(method: str, psnr_db: float, identity: str = EVERYBODY) -> SummaryRow:
    keys = (
        "csim",
        "psnr_db",
        "ssim",
        "l1",
        "perceptual",
        "prmse_deg",
        "aucon",
        "aucon_shuffled",
        "landmark_error_percent",
    )
    figures = {key: Estimate(value=0.5, low=0.4, high=0.6, num_pairs=4) for key in keys}
    figures["psnr_db"] = Estimate(value=psnr_db, low=psnr_db - 1, high=psnr_db + 1, num_pairs=4)
    figures["prmse_deg"] = Estimate(value=np.nan, low=np.nan, high=np.nan, num_pairs=0)
    faces = Faces(num_pairs=4, num_without_source=0, num_without_driving=0, num_without_generated=4)
    return SummaryRow(protocol=Protocol.SELF, identity=identity, method=method, faces=faces, figures=figures)


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    rows = [_row("model", 22.5), _row("copy-source", 20.0), _row("model", 23.0, "<ana>")]
    folder = tmp_path / "evaluation"
    folder.mkdir()
    figures = {"backends": {name: getattr(BACKENDS, name) for name in BACKENDS.__slots__}}
    figures["rows"] = rows_to_plain(rows, BACKENDS)
    figures["thirds"] = [
        {"protocol": "self", "third": "largest", "low_percent": 9.0, "high_percent": 31.0, "num_pairs": 1}
        | {"psnr_db": 19.5, "psnr_db_of_copy": 15.25, "csim": None}
    ]
    (folder / "metrics.json").write_text(json.dumps(figures))
    (folder / "mouths-and-eyes.png").write_bytes(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    (folder / "self.png").write_bytes(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    return folder


def test_rows_survive_the_way_through_json() -> None:
    rows = [_row("model", 22.5)]
    (back,) = rows_from_plain(json.loads(json.dumps(rows_to_plain(rows, BACKENDS))))
    assert back.figures["psnr_db"] == rows[0].figures["psnr_db"]
    assert np.isnan(back.figures["prmse_deg"].value)
    assert (back.protocol, back.identity, back.faces) == (Protocol.SELF, EVERYBODY, rows[0].faces)


@pytest.mark.parametrize("step", [1, -1], ids=["everybody first", "everybody last"])
def test_headlines_are_of_everybody_and_not_of_a_person_called_all(run: Path, evaluation: Path, step: int) -> None:
    rows = [
        _row("model", 22.5),
        _row("copy-source", 20.0),
        _row("model", 31.0, "all"),
        _row("copy-source", 30.0, "all"),
    ]
    figures = json.loads((evaluation / "metrics.json").read_text())
    (evaluation / "metrics.json").write_text(json.dumps(figures | {"rows": rows_to_plain(rows[::step], BACKENDS)}))
    psnr = headlines(read_report(run, [evaluation]))[0]
    assert (psnr.value, psnr.text) == ("22.50", "PSNR, dB; copy-source 20.00")


def test_page_needs_no_other_file_and_shows_figures_beside_the_baseline(run, evaluation, tmp_path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"clip")
    demonstration = Demonstration(clip=clip, clip_people=("ana", "ben"), seconds={"Training": 90.0})
    page = write_report(tmp_path / "page.html", read_report(run, [evaluation]), demonstration)["Page"].read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 4 and all(source.startswith("data:") for source in sources)
    assert "http" not in page
    assert "<b>22.50</b><span>PSNR, dB; copy-source 20.00</span>" in page
    assert "1 min 30 s" in page and "nothing picked by hand" in page
    assert "Mouths and eyes" in page and "9.0 to 31.0" in page and "15.25" in page
    assert "<ana>" not in page and "&lt;ana&gt;" in page


def test_report_without_evaluation_says_how_the_run_went(run, tmp_path) -> None:
    files = write_report(tmp_path / "page.html", read_report(run, []))
    figures = json.loads(files["Figures"].read_text())
    assert (figures["round"], figures["num_steps"], figures["num_samples"]) == (2, 4, 8)
    assert figures["ended"].startswith("completed: ")
    assert [row["person"] for row in figures["data"]] == ["person-0", "person-1"]
    assert "| local-steps | 2 |" in files["Tables"].read_text()
    page = files["Page"].read_text()
    assert "Results" not in page and "person-1" in page


def test_wrong_folders_are_one_clear_error(run, tmp_path, capsys) -> None:
    with pytest.raises(FedreenactError, match=str(tmp_path)):
        read_report(tmp_path, [])
    with pytest.raises(DataError, match=r"metrics\.json: cannot be read .*`evaluate --out` wrote"):
        read_report(run, [tmp_path])
    with pytest.raises(SystemExit):
        cli.main(["report", str(run), "--out", "page.txt"])
    assert "ends in .html" in capsys.readouterr().err


def test_curves_cope_with_rounds_without_a_client_and_without_a_variance() -> None:
    history = [
        round_row(
            number,
            loss_generator=5.0 / number,
            loss_discriminator=0.6,
            metrics={"loss_generator": 5.0 / number} | ({"ranking_image": 0.6} if number == 2 else {}),
            clients={0: {"loss_generator": 5.0, "ranking_image": 0.6}} if number == 1 else {},
        )
        for number in (1, 2)
    ]
    picture = cv2.imdecode(np.frombuffer(curves_png(history, ["ana"]), np.uint8), cv2.IMREAD_COLOR)
    assert picture.std() > 0


def test_clients_have_the_names_of_people_only_where_each_holds_the_one_of_its_index() -> None:
    names = [f"person-{index}" for index in range(5)]
    by_person = Settings().replaced({"num-clients": 5})
    assert names_of_clients(by_person, names) == names
    for changes in ({"partitioner": "iid"}, {"partitioner": "dirichlet"}, {"num-clients": 6}):
        assert not names_of_clients(by_person.replaced(changes), names)
    assert not names_of_clients(by_person, [*names, "person-5"])


def test_an_evaluation_from_before_a_metric_shows_those_that_it_has(run, evaluation) -> None:
    figures = json.loads((evaluation / "metrics.json").read_text())
    del figures["thirds"]
    (evaluation / "metrics.json").write_text(json.dumps(figures))
    (table,) = read_report(run, [evaluation]).evaluations[0].tables
    assert table.rows[0][0] == "CSIM (SFace) ↑" and len(table.rows) == 9 + 1
