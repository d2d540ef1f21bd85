import csv
import json
from dataclasses import replace

import pytest
import torch

from cli import entry as cli
from data_partition.shards.images import read_image
from evaluation.job import EvaluationReport, EvaluationRequest, run_evaluation
from evaluation.pairs import Protocol, protocols_named
from federation.settings import Settings
from model.checkpoint import save_checkpoint
from model.designs.registry import build_networks
from model.errors import ConfigError, DataError, WeightsError
from model.progress import no_progress
from model.version import own_version
from model.weights import resolve
from reenact.guidance_choice import Guidance
from tests.reenact.test_published import write
from tests.support.shards import write_random_shard
from tests.support.small_face import PART_SIZES, SMALL, small_checkpoint


def request_in(folder) -> EvaluationRequest:
    """Noise for frames: no face is found in any of them."""
    try:
        resolve("sface"), resolve("face-landmarker")
    except WeightsError as error:
        pytest.skip(str(error))
    for seed, name in enumerate(("ana", "ben")):
        write_random_shard(folder / "data", name, seed=seed)
    save_checkpoint(folder / "run", small_checkpoint())
    return EvaluationRequest(
        checkpoint=folder / "run",
        dataset=folder / "data",
        out=folder / "out",
        protocols=protocols_named("all"),
        num_pairs=2,
        seed=0,
        pairs=None,
        landmarks=Guidance.AUTO,
    )


@pytest.fixture
def request_(tmp_path) -> EvaluationRequest:
    return request_in(tmp_path)


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> tuple[EvaluationRequest, EvaluationReport]:
    """All protocols asked for and written, to be looked at."""
    request = request_in(tmp_path_factory.mktemp("everything"))
    return request, run(request)


def run(request):
    return run_evaluation(request, device=torch.device("cpu"), progress=no_progress)


@pytest.mark.integration
def test_everything_is_written_and_faces_that_are_not_found_are_counted(everything):
    request_, report = everything
    assert {path.name for path in request_.out.iterdir()} == {path.name for path in report.files.values()}
    names = {path.name for path in report.files.values()}
    assert {"self.png", "self-any.png", "cross.png", "mouths-and-eyes.png", "per-clip.csv", "table.md"} < names
    metrics = json.loads((request_.out / "metrics.json").read_text())
    assert metrics["version"] == own_version()
    everybody = [row for row in metrics["rows"] if row["identity"] == "all"]
    assert [(row["protocol"], row["method"]) for row in everybody] == [
        ("self", "model"),
        ("self", "copy-source"),
        ("self-any", "model"),
        ("self-any", "copy-source"),
        ("cross", "model"),
        ("cross", "copy-source"),
        ("cross", "copy-driving"),
    ]
    assert everybody[0]["faces"]["num_without_generated"] == everybody[0]["faces"]["num_pairs"] == 4
    assert everybody[0]["metrics"]["csim"]["value"] is None
    assert everybody[0]["metrics"]["ssim"]["num_pairs"] == 4
    assert everybody[0]["metrics"]["temporal_perceptual"]["num_pairs"] == 2  # a clip of each person
    assert everybody[0]["metrics"]["kid"]["sd"] is not None
    assert [row["third"] for row in metrics["thirds"]] == ["smallest", "middle", "largest"] * 3
    assert "| No face found (MediaPipe) | 100.0 % | 100.0 % |" in (request_.out / "table.md").read_text()
    assert read_image(request_.out / "self.png").shape[0] > 4 * 160  # four pairs, so four rows


@pytest.mark.integration
def test_several_sources_are_named_and_measured_beside_the_nearest_of_them(request_, tmp_path, checkpoint):
    config = replace(SMALL, num_sources=2, use_landmark_flow=True)
    tensors = build_networks(config, PART_SIZES, seed=0).travelling_tensors()
    save_checkpoint(
        tmp_path / "several", replace(checkpoint, settings=Settings(model=config).to_flat(), tensors=tensors)
    )
    asked = replace(request_, checkpoint=tmp_path / "several", num_sources=3, protocols=(Protocol.CROSS,), num_pairs=1)
    run(asked)
    metrics = json.loads((asked.out / "metrics.json").read_text())
    assert metrics["num_sources"] == 3
    methods = [row["method"] for row in metrics["rows"] if row["identity"] == "all"]
    assert methods == ["model", "copy-source", "copy-nearest", "copy-driving"]
    assert "(2 pairs), from 3 of 32 sources" in (asked.out / "table.md").read_text()
    with pytest.raises(ConfigError, match="--num-sources: got 3, wanted 1"):
        run(replace(asked, checkpoint=request_.checkpoint))


def test_a_published_file_which_names_nobody_is_for_people_it_has_not_seen(request_, tmp_path):
    asked = replace(request_, checkpoint=write(tmp_path / "vox-cpk.pth.tar"))
    with pytest.raises(DataError, match=r"\(it names none\); evaluate with --protocol self-unseen or cross-unseen$"):
        run(asked)


@pytest.mark.integration
def test_pairs_that_are_handed_in_again_give_the_same_values(everything, tmp_path):
    request_, _ = everything
    again = replace(
        request_, out=tmp_path / "again", pairs=request_.out / "pairs.csv", protocols=(Protocol.CROSS,), seed=9
    )
    run(again)
    with (request_.out / "per-pair.csv").open() as first, (again.out / "per-pair.csv").open() as second:
        cross = [row for row in csv.DictReader(first) if row["protocol"] == "cross"]
        assert list(csv.DictReader(second)) == cross


@pytest.mark.integration
def test_pairs_of_other_protocols_only_are_an_error(everything, tmp_path):
    request_, _ = everything
    pairs = tmp_path / "pairs.csv"
    lines = (request_.out / "pairs.csv").read_text().splitlines(keepends=True)
    pairs.write_text("".join(line for line in lines if line.startswith(("protocol,", "self,"))))
    with pytest.raises(DataError, match="no pair of protocol cross; choose --protocol all"):
        run(replace(request_, out=tmp_path / "out", protocols=(Protocol.CROSS,), pairs=pairs))


def test_people_the_checkpoint_does_not_know_are_an_error(request_):
    write_random_shard(request_.dataset, "eva")
    with pytest.raises(DataError, match=r"eva is not among the trained ones \(ana, ben\)"):
        run(request_)


def test_numbers_out_of_range_are_an_error(request_):
    with pytest.raises(ConfigError, match="--num-pairs 0"):
        run(replace(request_, num_pairs=0))


def test_command_line_wants_a_checkpoint_or_a_self_check(capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["evaluate"])
    assert exit_info.value.code == 2
    assert "wanted CHECKPOINT DATASET --out FOLDER, or --self-check DATASET" in capsys.readouterr().err


@pytest.mark.integration
def test_command_line_prints_the_tables_and_says_where(capsys, request_):
    arguments = ["evaluate", str(request_.checkpoint), str(request_.dataset), "--out", str(request_.out)]
    with pytest.raises(SystemExit) as exit_info:
        cli.main([*arguments, "--protocol", "self", "--num-pairs", "1", "--device", "cpu"])
    text = capsys.readouterr().out
    assert exit_info.value.code in (0, None)
    assert "copy-source" in text and str(request_.out / "metrics.json") in text and "Cross" not in text


@pytest.mark.integration
def test_unseen_people_are_evaluated_by_the_protocol_for_them_alone(request_, tmp_path):
    with pytest.raises(DataError, match=r"ana is among the trained ones \(ana, ben\); evaluate on people it has not"):
        run(replace(request_, protocols=(Protocol.CROSS_UNSEEN,)))
    for seed, name in enumerate(("eve", "zoe")):
        write_random_shard(tmp_path / "strangers", name, seed=seed)
    strangers = replace(request_, dataset=tmp_path / "strangers", protocols=(Protocol.CROSS_UNSEEN,))
    run(replace(strangers, landmarks=Guidance.DRIVING))
    rows = json.loads((request_.out / "metrics.json").read_text())["rows"]
    assert {row["protocol"] for row in rows} == {"cross-unseen"}
    run(replace(strangers, protocols=(Protocol.SELF_UNSEEN,)))
    rows = json.loads((request_.out / "metrics.json").read_text())["rows"]
    assert {(row["protocol"], row["method"]) for row in rows} == {
        ("self-unseen", "model"),
        ("self-unseen", "copy-source"),
    }
    with pytest.raises(ConfigError, match="dataset of its own"):
        run(replace(strangers, protocols=(Protocol.SELF, Protocol.CROSS_UNSEEN)))
