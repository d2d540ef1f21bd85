"""Any name that a file system holds goes unchanged through shards, federation, checkpoints, evaluation and pages."""

import json
from pathlib import Path

import pytest
import torch
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from data_partition.doctor.diagnosis import diagnose
from data_partition.doctor.page import write_page
from data_partition.shards.shard import open_dataset
from evaluation.faces.analysis import Backends
from evaluation.figures.bootstrap import Estimate
from evaluation.figures.summary import EVERYBODY, Faces, SummaryRow
from evaluation.figures.tables import TextTable, rows_from_plain, rows_to_plain
from evaluation.metrics.catalogue import METRICS
from evaluation.pairs import Protocol, draw_pairs, read_pairs, write_pairs
from model.checkpoint import load_checkpoint
from reenact.reenactor import Reenactor
from server.monitoring.exporter import RunCollector
from server.rounds.federation import run_federation
from tests.support.federated_setup import minimal_settings, simulated_grid
from tests.support.shards import write_random_shard

NAMES = sorted(
    ["O'Brien", 'a "b" c', "Doe, Jane", "<b>&amp;|", "Zoe\u0308", "\u674e \u96f7", "\u0645\u06cc\u200c\u0646", "all"]
)
"""A quote, quotes, a comma, markup, an accent by itself, Han, a joiner that Persian needs, a word of the tables."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard a name."""
    root = tmp_path_factory.mktemp("names")
    for seed, name in enumerate(NAMES):
        write_random_shard(root, name, seed=seed)
    return root


def test_shards_have_their_names(dataset: Path) -> None:
    assert [shard.identity for shard in open_dataset(dataset)] == NAMES
    assert [shard.path.name for shard in open_dataset(dataset)] == NAMES


def test_a_federations_checkpoint_and_metrics_have_them_too(dataset: Path, tmp_path: Path) -> None:
    settings = minimal_settings(dataset, tmp_path / "run", len(NAMES), max_rounds=1)
    run_federation(simulated_grid(settings), settings)
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.identities == NAMES
    reenactor = Reenactor(checkpoint, torch.device("cpu"))
    assert [reenactor.known_identity(name) for name in NAMES] == NAMES


def test_metrics_labels_are_escaped(tmp_path: Path) -> None:
    """The name of a run's folder is all of a user's text that is a label."""
    for name in NAMES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"run-id": name}))
        registry = CollectorRegistry()
        registry.register(RunCollector(tmp_path / name, None, {}))
        text = generate_latest(registry).decode()
        labels = {
            v for family in text_string_to_metric_families(text) for s in family.samples for v in s.labels.values()
        }
        assert name in labels


def test_pairs_come_back_from_their_file(dataset: Path, tmp_path: Path) -> None:
    shards = open_dataset(dataset)
    pairs = [
        *draw_pairs(Protocol.CROSS, shards, num_pairs=2, seed=0),
        *draw_pairs(Protocol.SELF, shards, num_pairs=2, seed=0),
    ]
    write_pairs(tmp_path / "pairs.csv", pairs)
    assert [pair.cells() for pair in read_pairs(tmp_path / "pairs.csv", shards)] == [pair.cells() for pair in pairs]
    assert {pair.source.shard.identity for pair in pairs} == set(NAMES)


def test_figures_come_back_by_name_and_nobody_is_taken_for_everybody() -> None:
    backends = Backends(embedding="e", landmarks="l", pose="p", action_units="a")
    figure = Estimate(value=1.0, low=0.5, high=1.5, num_pairs=3)
    faces = Faces(num_pairs=3, num_without_source=0, num_without_driving=0, num_without_generated=0)
    rows = [
        SummaryRow(protocol=Protocol.SELF, identity=name, method="model", faces=faces, figures={METRICS[0].key: figure})
        for name in (EVERYBODY, *NAMES)
    ]
    plain = json.loads(json.dumps(rows_to_plain(rows, backends)))
    assert [row.identity for row in rows_from_plain(plain)] == [EVERYBODY, *NAMES]


def test_a_table_has_as_many_columns_whoever_is_in_it() -> None:
    table = TextTable(title="t", header=("who", "what"), rows=tuple((name, "1") for name in NAMES))
    lines = table.to_markdown().splitlines()[2:]
    assert all(line.replace("\\|", "").count("|") == 3 for line in lines)
    assert [line.split(" | ")[0][2:].replace("\\|", "|") for line in lines[2:]] == NAMES


def test_a_page_shows_them_as_text(dataset: Path, tmp_path: Path) -> None:
    page = write_page(tmp_path / "page.html", diagnose(dataset)).read_text(encoding="utf-8")
    assert "<b>&amp;|" not in page and "&lt;b&gt;&amp;amp;|" in page
    assert all(name in page for name in ("Zoe\u0308", "\u674e \u96f7", "Doe, Jane"))
