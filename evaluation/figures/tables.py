"""Figures as tables: for people (Markdown, terminal) and for programs (JSON, CSV)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from evaluation.clips import ClipMeasurement
from evaluation.faces.analysis import Backends
from evaluation.figures.bootstrap import Estimate
from evaluation.figures.summary import EVERYBODY, Faces, SummaryRow
from evaluation.measurement import Measurement
from evaluation.metrics.catalogue import METRICS, Metric, Scope, metrics_of
from evaluation.pairs import PAIR_COLUMNS, Protocol
from model.batch import AU_ORDER
from model.files import csv_text
from reenact.face_frame import MAX_REFERENCES

SECOND_COLUMNS = ("driving_clip", "driving_second")
"""Of every pair's values: which pairs are resampled together."""

PROTOCOL_TITLES = {
    Protocol.SELF: "Self: source and driving frame of one clip, both held out",
    Protocol.SELF_ANY: "Self, any time: source from the training part of the clip, driving frame held out",
    Protocol.CROSS: "Cross: source and driving frame of two known people, both held out",
    Protocol.SELF_UNSEEN: "Self, unseen: both frames held out, of a person the model has never seen",
    Protocol.CROSS_UNSEEN: "Cross, unseen: source and driving frame of two people the model has never seen",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTable:
    """A table whose first column names the rows."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_markdown(self) -> str:
        """The table with its title as a heading."""
        return f"## {self.title}\n\n{self.body_markdown()}"

    def body_markdown(self) -> str:
        """The table without its title."""
        lines = [self.header, ("---",) * len(self.header), *self.rows]
        body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        return f"{body}\n"


def titled(tables: Sequence[TextTable], num_sources: int) -> list[TextTable]:
    """The tables with the number of sources in their titles."""
    words = "one source" if num_sources == 1 else f"{num_sources} of {MAX_REFERENCES} sources"
    return [replace(table, title=f"{table.title}, from {words}") for table in tables]


def method_tables(rows: Sequence[SummaryRow], backends: Backends) -> list[TextTable]:
    """One table a protocol over all pairs: a metric a row, a method a column, intervals beside the figures."""
    tables = []
    for protocol in dict.fromkeys(row.protocol for row in rows):
        columns = [row for row in rows if row.protocol is protocol and row.identity == EVERYBODY]
        body = [
            (f"{metric.name(backends)} {metric.better}", *(_with_spread(row, metric) for row in columns))
            for metric in _known_metrics(columns)
        ]
        body.append((f"No face found ({backends.landmarks})", *(_failures(row) for row in columns)))
        title = f"{PROTOCOL_TITLES[protocol]} ({columns[0].faces.num_pairs} pairs)"
        tables.append(TextTable(title=title, header=("metric", *(row.method for row in columns)), rows=tuple(body)))
    return tables


def identity_tables(rows: Sequence[SummaryRow], backends: Backends) -> list[TextTable]:
    """One table a protocol: a source identity and method a row, a metric a column."""
    tables = []
    for protocol in dict.fromkeys(row.protocol for row in rows):
        chosen = [row for row in rows if row.protocol is protocol and row.identity != EVERYBODY]
        metrics = _known_metrics(chosen)
        body = tuple(
            (
                row.identity,
                row.method,
                str(row.faces.num_pairs),
                *(metric.text(row.figures[metric.key].value) for metric in metrics),
                _failures(row),
            )
            for row in chosen
        )
        header = ("source", "method", "pairs", *(metric.name(backends) for metric in metrics), "no face found")
        tables.append(TextTable(title=f"{PROTOCOL_TITLES[protocol]}, by source", header=header, rows=body))
    return tables


def rows_to_plain(rows: Sequence[SummaryRow], backends: Backends) -> list[dict[str, object]]:
    """The rows as plain values, ready for JSON; a figure that no pair has is null."""
    return [
        {
            "protocol": row.protocol.value,
            "identity": row.identity or "all",
            "of_everybody": row.identity == EVERYBODY,  # a person may be called "all"
            "method": row.method,
            "faces": asdict(row.faces),
            "metrics": {
                metric.key: {"name": metric.name(backends), **_plain(row.figures[metric.key])}
                for metric in _known_metrics([row])
            },
        }
        for row in rows
    ]


def is_of_everybody(row: Mapping[str, Any]) -> bool:
    """Whether a row of `rows_to_plain` is of all pairs together; older evaluations told it by the name "all"."""
    return bool(row.get("of_everybody", row["identity"] == "all"))


def rows_from_plain(rows: Sequence[Mapping[str, Any]]) -> list[SummaryRow]:
    """The inverse of `rows_to_plain`."""
    return [
        SummaryRow(
            protocol=Protocol(row["protocol"]),
            identity=EVERYBODY if is_of_everybody(row) else row["identity"],
            method=row["method"],
            faces=Faces(**row["faces"]),
            figures={
                key: Estimate(
                    num_pairs=figure["num_pairs"],
                    sd=figure.get("sd"),
                    **{name: math.nan if figure[name] is None else figure[name] for name in ("value", "low", "high")},
                )
                for key, figure in row["metrics"].items()
            },
        )
        for row in rows
    ]


def measurements_csv(measurements: Sequence[Measurement], backends: Backends) -> str:
    """One row a pair and method: names, every metric, whether a face was found; an undefined value is empty."""
    rows = [
        (
            *found.pair.cells(),
            *found.pair.driving_second()[1:],
            found.method,
            *_cells(found.values, Scope.PAIR),
            *(int(has_face) for has_face in (found.has_source_face, bool(found.driving), bool(found.generated))),
        )
        for found in measurements
    ]
    header = (*PAIR_COLUMNS, *SECOND_COLUMNS, "method", *_column_names(backends, Scope.PAIR))
    return csv_text((*header, "source_face", "driving_face", "generated_face"), rows)


def clips_csv(clips: Sequence[ClipMeasurement], backends: Backends) -> str:
    """One row a clip and method: names of the source and the first driving frame, number of frames, every metric."""
    rows = [
        (*found.clip[0].cells(), len(found.clip), found.method, *_cells(found.values, Scope.CLIP)) for found in clips
    ]
    return csv_text((*PAIR_COLUMNS, "frames", "method", *_column_names(backends, Scope.CLIP)), rows)


def action_unit_agreement(
    measurements: Sequence[Measurement], evaluated_aus: Sequence[int]
) -> dict[str, dict[str, float]]:
    """AUCON of every action unit by itself, and how often it is present; only pairs with both faces count."""
    faces = [(found.driving, found.generated) for found in measurements if found.driving and found.generated]
    if not faces:
        return {}
    driving_NA = np.stack([driving.au_presence_A for driving, _ in faces])
    generated_NA = np.stack([generated.au_presence_A for _, generated in faces])
    columns = {
        "agreement": (driving_NA == generated_NA).mean(axis=0),
        "present_in_driving": driving_NA.mean(axis=0),
        "present_in_generated": generated_NA.mean(axis=0),
    }
    return {
        f"AU{au}": {name: float(share_A[AU_ORDER.index(au)]) for name, share_A in columns.items()}
        for au in evaluated_aus
    }


def _plain(figure: Estimate) -> dict[str, object]:
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value for key, value in asdict(figure).items()
    }


def _known_metrics(rows: Sequence[SummaryRow]) -> list[Metric]:
    """The metrics that mean something under the rows' protocol, without those that an older evaluation had not yet."""
    return [
        metric
        for metric in METRICS
        if rows and metric in metrics_of(rows[0].protocol) and all(metric.key in row.figures for row in rows)
    ]


def _column_names(backends: Backends, scope: Scope) -> list[str]:
    return [name for metric in METRICS if metric.scope is scope for name in metric.column_names(backends)]


def _cells(values: Mapping[str, float], scope: Scope) -> list[str]:
    columns = [column for metric in METRICS if metric.scope is scope for column in metric.columns]
    return [_cell(values.get(column, math.nan)) for column in columns]


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _with_spread(row: SummaryRow, metric: Metric) -> str:
    """The figure with its interval, or with its standard deviation if it is one of sets."""
    figure = row.figures[metric.key]
    if math.isnan(figure.value):
        return "-"
    if figure.sd is not None:
        return f"{metric.text(figure.value)} ± {metric.text(figure.sd)}"
    if math.isnan(figure.low):
        return metric.text(figure.value)
    return f"{metric.text(figure.value)} [{metric.text(figure.low)}, {metric.text(figure.high)}]"


def _failures(row: SummaryRow) -> str:
    return f"{100 * row.faces.generated_rate:.1f} %"
