"""What a model card says of measurements: an evaluation's main figures, and an audit's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evaluation.faces.analysis import Backends
from evaluation.figures.summary import EVERYBODY, SummaryRow
from evaluation.figures.tables import PROTOCOL_TITLES, TextTable, method_tables, rows_from_plain, titled
from evaluation.measurement import MODEL
from evaluation.metrics.catalogue import AUCON, CSIM, LIP_GAP_SLOPE, PRMSE, PSNR, SSIM
from experiments.audit.files import read_audit
from experiments.audit.section import Section
from experiments.report import read_evaluation
from model.errors import ConfigError

SHOWN = (PSNR, SSIM, PRMSE, AUCON, CSIM, LIP_GAP_SLOPE)
"""The main figures; the evaluation has the others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexMetric:
    """A figure in the hub's model-index."""

    type: str
    name: str
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CardResults:
    """One evaluation's protocols."""

    tables: tuple[TextTable, ...]
    """One a protocol, the model beside copy-source and other baselines, with intervals."""
    index: Mapping[str, tuple[IndexMetric, ...]]
    """Title of a protocol to the model's own figures."""
    is_of_strangers: bool
    """Whether people are measured whom the model never saw."""


def read_results(folder: Path, *, round_number: int, weights_sha256: str) -> CardResults:
    """The main figures in the folder of an evaluation.

    Args:
        folder: as `evaluate --out` writes it.
        round_number: of the checkpoint that the card is about.
        weights_sha256: of all that it draws with.

    Raises:
        ConfigError: if the evaluation is of another model.
        DataError: if it cannot be read.
    """
    figures = read_evaluation(folder).figures
    measured = figures.get("weights_sha256", weights_sha256)  # absent in evaluations of before it was written down
    if measured != weights_sha256 or figures.get("round") != round_number:
        raise ConfigError(
            f"--evaluation {folder}: is of round {figures.get('round')}, weights {measured[:12]}, and the card of "
            f"round {round_number}, weights {weights_sha256[:12]}; evaluate this checkpoint"
        )
    rows, backends = _main_rows(figures), Backends(**figures["backends"])
    return CardResults(
        tables=tuple(titled(method_tables(rows, backends), int(figures.get("num_sources", 1)))),
        index={
            PROTOCOL_TITLES[row.protocol]: tuple(_index_metrics(row, backends))
            for row in rows
            if row.method == MODEL and row.identity == EVERYBODY
        },
        is_of_strangers=any(row.protocol.is_unseen for row in rows),
    )


def read_audit_table(folder: Path, weights_sha256: str) -> TextTable | None:
    """What an audit measured beside what knowing nothing gives, without its parts by person; None where there is none.

    Args:
        folder: as `audit --out` writes it.
        weights_sha256: of all that the card's checkpoint draws with.

    Raises:
        ConfigError: if the audit is of another model, or does not say of which.
        DataError: if it cannot be read.
    """
    audit = read_audit(folder)
    if audit is None:
        return None
    if audit.weights_sha256 != weights_sha256:
        raise ConfigError(
            f"--audit {folder}: is of weights {audit.weights_sha256[:12] or 'that it does not name'}, and the card of "
            f"{weights_sha256[:12]}; audit this checkpoint"
        )
    rows = tuple(row for section in audit.sections for row in _audit_rows(section))
    return TextTable(title="Audit", header=("asked", "measured", "knowing nothing"), rows=rows)


def _main_rows(figures: Mapping[str, Any]) -> list[SummaryRow]:
    keys = [metric.key for metric in SHOWN]
    return [
        replace(row, figures={key: row.figures[key] for key in keys if key in row.figures})
        for row in rows_from_plain(figures["rows"])
    ]


def _index_metrics(row: SummaryRow, backends: Backends) -> Iterator[IndexMetric]:
    for metric in SHOWN:
        figure = row.figures.get(metric.key)
        if figure is not None and not math.isnan(figure.value):
            yield IndexMetric(type=metric.key, name=metric.name(backends), value=float(metric.text(figure.value)))


def _audit_rows(section: Section) -> list[tuple[str, str, str]]:
    """Of pictures that were read, how far above a guess: likeness by itself is no leak."""
    measured = [
        (name, figure.to_text(2), f"{figure.chance:.2f}")
        for name, figure in section.figures.items()
        if figure.chance > 0 or name.endswith("above the guess")
    ]
    return measured or [(section.title, "not measurable", "")]


def metric_types(results: Sequence[CardResults]) -> list[str]:
    """Keys of the metrics that a model-index has, each once."""
    found = (metric.type for one in results for metrics in one.index.values() for metric in metrics)
    return list(dict.fromkeys(found))
