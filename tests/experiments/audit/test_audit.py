from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cli import entry as cli
from evaluation.attacks.membership import draw_probe
from experiments.audit.files import read_audit
from experiments.audit.identification import identification_section
from experiments.audit.membership import (
    CONTROL,
    DIFFICULTY,
    LOSS,
    REFERENCE,
    Person,
    frame_section,
    look_at,
    person_section,
)
from experiments.audit.section import Figure, Section
from experiments.report import read_report
from experiments.report_page import write_report
from model.checkpoint import Checkpoint
from model.designs.registry import build_networks
from model.errors import DataError
from model.landmarks.geometry import PartSizes
from server.training import Mode, train
from tests.support.federated_setup import GLR, minimal_settings
from tests.support.shards import write_random_shard


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run that knows two of three people, and a reference that knows the third."""
    root = tmp_path_factory.mktemp("audit")
    for index, folder in enumerate(("known", "known", "other")):
        write_random_shard(root / folder, f"person-{index}", num_frames=60, seed=index)
    for index in range(3):
        write_random_shard(root / "everybody", f"person-{index}", num_frames=60, seed=index)
    for name, dataset, num_people in (("run", "known", 2), ("reference", "other", 1)):
        train(Mode.CENTRALIZED, minimal_settings(root / dataset, root / name, num_people, **GLR))
    return {path.name: path for path in root.iterdir()}


def _person(name: str, *, is_member: bool, trained: list[float], held_out: list[float], **more: list[float]) -> Person:
    values = np.array(trained + held_out)
    figures = {LOSS: values, DIFFICULTY: values} | {key: np.array(figure) for key, figure in more.items()}
    is_trained_on = np.arange(len(values)) < len(trained)
    seconds = np.arange(len(values))
    return Person(name=name, is_member=is_member, is_trained_on_N=is_trained_on, second_N=seconds, figures=figures)


def test_frames_are_compared_within_a_person_however_easy_the_person_is() -> None:
    people = [
        _person("ana", is_member=True, trained=[2.0, 4.0], held_out=[1.0, 3.0]),
        _person("ben", is_member=True, trained=[102.0, 104.0], held_out=[101.0, 103.0]),
        _person("eve", is_member=False, trained=[0.0, 0.0], held_out=[9.0, 9.0]),
    ]
    section = frame_section(people, seed=0)
    # centred: 4 members at -0.5, 1.5 (twice), 4 others at -1.5, 0.5 (twice): 12 of 16 pairs
    assert section.figures[f"Frames, {LOSS}: area under the curve"].value == pytest.approx(12 / 16)
    assert f"Frames, {REFERENCE}: area under the curve" not in section.figures
    reasons = " ".join(section.not_measured)
    assert "--reference" in reasons and "needs 20 held-out frames, got 4" in reasons


def test_few_people_are_said_to_be_too_few() -> None:
    people = [
        _person(name, is_member=name in "ab", trained=[0.0], held_out=[value])
        for name, value in zip("abcde", (5.0, 4.0, 3.0, 2.0, 1.0), strict=True)
    ]
    section = person_section(people, seed=0)
    row = section.tables[0].rows[0]
    assert row[:3] == (LOSS, "1.000", "0.10 (least possible 0.10)")
    assert any("even a perfect order has p = 0.10" in reason for reason in section.not_measured)
    assert "knows every person" in person_section(people[:2], seed=0).not_measured[0]
    assert "does not know any" in person_section(people[2:], seed=0).not_measured[0]


def test_section_survives_the_way_through_json() -> None:
    figures = {
        "a": Figure(value=np.nan, low=np.nan, high=np.nan, chance=0.05),
        "b": Figure(value=1, low=0, high=2, chance=0),
    }
    section = Section(title="title", text=("one", "two"), figures=figures, not_measured=("reason",))
    plain = json.loads(json.dumps(section.to_plain(), allow_nan=False))
    back = Section.from_plain(plain)
    assert back.figures["b"] == figures["b"] and np.isnan(back.figures["a"].value)
    assert back.to_markdown() == section.to_markdown()
    assert figures["a"].to_text(2) == "-" and figures["b"].to_text(1) == "1.0 [0.0, 2.0]"
    assert Figure(value=1, low=np.nan, high=np.nan, chance=0).to_text(1) == "1.0"  # of one second alone


def _checkpoint(seed: int, averaged: int | None = None) -> Checkpoint:
    """Of two people, untrained weights of the one seed, and of the other as their average."""
    settings = minimal_settings(Path(), Path(), 2, **GLR)
    part_sizes = PartSizes.from_mean(np.full((4, 2), 8.0), 32)
    shapes_IKC = np.random.default_rng(0).uniform(8, 24, (2, 68, 2)).astype(np.float32)

    def tensors(seed: int) -> dict[str, np.ndarray]:
        networks = build_networks(settings.model, part_sizes, seed=seed)
        networks.start_from(shapes_IKC)
        noise = np.random.default_rng(seed)
        found = networks.travelling_tensors()
        return {name: (array + noise.normal(0, 0.05, array.shape)).astype(np.float32) for name, array in found.items()}

    return Checkpoint(
        round=1,
        settings=settings.to_flat(),
        identities=["person-0", "person-1"],
        part_sizes=part_sizes,
        landmark_mean_IKC=shapes_IKC,
        landmark_std_IKC=shapes_IKC,
        tensors=tensors(seed),
        ema_tensors={} if averaged is None else tensors(averaged),
    )


def test_membership_and_identification_are_measured_on_the_weights_that_an_audit_names(tmp_path: Path) -> None:
    shards = [write_random_shard(tmp_path, f"person-{index}", num_frames=60, seed=index) for index in range(3)]
    averaged, same = _checkpoint(1, averaged=2), _checkpoint(2)
    assert averaged.networks().weights_sha256() == same.networks().weights_sha256()
    probe = draw_probe(shards[0], most=4, seed=0)
    reference, theirs = (replace(found, identities=["person-2"]) for found in (averaged, same))
    found, expected = look_at(probe, averaged, [reference], 32), look_at(probe, same, [theirs], 32)
    assert found.figures.keys() == {LOSS, DIFFICULTY, REFERENCE, CONTROL}
    for attack, figures in found.figures.items():
        assert np.array_equal(figures, expected.figures[attack])
    assert not np.array_equal(found.figures[LOSS], look_at(probe, _checkpoint(1), [], 32).figures[LOSS])
    sections = [identification_section(shards, run, 32, seed=0) for run in (averaged, same, _checkpoint(1))]
    assert sections[0].tables == sections[1].tables != sections[2].tables


@pytest.mark.integration
def test_audit_of_a_run_is_a_page_and_part_of_the_report(runs: dict[str, Path], tmp_path: Path) -> None:
    run = runs["run"]
    with pytest.raises(SystemExit) as ended:
        cli.main(["audit", str(run), str(runs["everybody"]), "--reference", str(runs["reference"])])
    assert ended.value.code == 0
    audit = read_audit(run)
    assert audit is not None
    frames, people, templates, inversion = audit.sections
    assert {f"Frames, {attack}: area under the curve" for attack in (LOSS, DIFFICULTY, REFERENCE, CONTROL)} <= set(
        frames.figures
    )
    # the reference knows the only stranger, so people cannot be calibrated by it
    assert any(reason.startswith(REFERENCE) for reason in people.not_measured)
    assert templates.tables[0].title == "12 held-out frames of 2 people"
    rows = [row[0] for row in inversion.tables[0].rows]
    assert len(rows) == 6 and any("sum of all sites, weights chosen" in row for row in rows)
    assert [row[-1] for row in inversion.tables[0].rows if "weights chosen" in row[0]][:2] == ["does not train"] * 2
    page = (run / "audit.html").read_text()
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert "http" not in page and "secure sum" in page
    report = write_report(tmp_path / "page.html", read_report(run, []))
    assert "Which frames were trained on" in report["Page"].read_text()
    assert "## Which frames were trained on" in report["Tables"].read_text()
    assert json.loads(report["Figures"].read_text())["audit"]["sections"]
    (run / "audit.json").write_text("{")
    with pytest.raises(DataError, match=r"audit\.json: cannot be read .*run `fedreenact audit` again"):
        read_report(run, [])
    (run / "audit.json").unlink()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "other"), "give the dataset that it was trained on"),
        (("run", "everybody", "--seed", "-1"), "'--seed': -1 is not in the range"),
        (("everybody", "everybody"), "no usable checkpoint"),
    ],
)
def test_wrong_arguments_are_one_clear_error(runs, arguments, message, capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["audit", *(str(runs[word]) if word in runs else word for word in arguments)])
    assert message in capsys.readouterr().err.replace("\n", " ")
