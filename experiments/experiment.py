"""`fedreenact experiment`: trains what a table lacks, evaluates, and writes the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_partition.shards.shard import ADD_MESHES, open_dataset
from evaluation.faces.analysis import Backends
from evaluation.figures.gap import gap_table, gaps, read_pair_values
from evaluation.figures.tables import TextTable, is_of_everybody, titled
from evaluation.figures.thirds import thirds_table
from evaluation.measurement import COPY_DRIVING, COPY_NEAREST, COPY_SOURCE, MODEL
from evaluation.metrics.catalogue import Metric, metrics_of
from evaluation.pairs import Protocol, draw_pairs
from experiments.cells import Budget, Cell, Train, cell_of, shaping
from experiments.table import ExperimentTable, ModelRow
from federation.settings import Settings
from model.errors import ConfigError, DataError
from model.files import read_json, write_json, write_text
from reenact.guidance_choice import Guidance, MotionKind
from server.training import Mode

PUBLISHED_NOTE = (
    "Other data, another frame size, other analysers (ArcFace, OpenFace) and other settings (below): look at the order "
    "of the rows, do not compare number by number. What sets the comparators apart from the published systems: "
    "docs/comparators.md; what GLR's rows have beyond the thesis: the last table."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentRequest:
    """What to make."""

    name: str
    """Of the table, "table-4-7"."""
    table: ExperimentTable
    settings: Settings
    """Preset and the user's changes, sized for the dataset; data-dir is the dataset."""
    out: Path
    """Folder of tables and of all cells; experiments on one dataset can share it."""
    seeds: tuple[int, ...]
    """Of the trainings."""
    budget: Budget
    num_pairs: int
    """Of each source person."""
    num_sources: int
    """Source frames of each result; above 1 the nearest of a reference set."""
    unseen: Path | None
    """Dataset of people the models have not seen, if the table is about them."""
    backbone: str = ""
    """For every row that has one of its own; "" as the table has it."""
    embedder: str = "sface"
    """Who measures CSIM: a key of `EMBEDDERS`."""
    without_meshes: tuple[str, ...] = ()
    """Labels of rows that the table has besides, and that these datasets cannot drive: they have no face meshes."""
    of_one_source: tuple[str, ...] = ()
    """Labels of rows that it has besides, and that cannot be drawn from as many sources."""
    of_nearest: tuple[str, ...] = ()
    """Labels of rows whose networks draw from the nearest of the sources alone."""

    @property
    def baselines(self) -> tuple[str, ...]:
        """Methods that need no model."""
        return (COPY_SOURCE, *((COPY_NEAREST,) if self.num_sources > 1 else ()), COPY_DRIVING)

    @property
    def note(self) -> str:
        """What is left out, in words; "" if nothing is."""
        notes = []
        if self.without_meshes:
            notes.append(f"Left out for want of face meshes: {', '.join(self.without_meshes)}; {ADD_MESHES}.")
        if self.of_one_source:
            notes.append(f"Left out, since they draw from one source: {', '.join(self.of_one_source)}.")
        if self.of_nearest:
            notes.append(f"Drawn from the nearest of those frames alone: {', '.join(self.of_nearest)}.")
        of_own = [row.label for row in self.table.rows if row.num_sources(self.num_sources) < self.num_sources]
        if of_own:
            notes.append(f"Drawn from the pair's own source, from which relative motion starts: {', '.join(of_own)}.")
        if self.table.protocol is Protocol.SELF_ANY and self.table.published:
            notes.append("These are pairs of people whom the models know; the thesis' are of others, as with --unseen.")
        return " ".join(notes)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationTask:
    """One trained cell to be evaluated."""

    checkpoint: Path
    dataset: Path
    out: Path
    protocol: Protocol
    num_pairs: int
    num_sources: int
    guidance: Guidance
    motion: MotionKind
    embedder: str


Evaluate = Callable[[EvaluationTask], object]
"""Writes metrics.json and per-pair.csv into the task's folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedCell:
    """A training of the plan."""

    labels: tuple[str, ...]
    """Rows that use it."""
    seed: int
    cell: Cell


class Versions(NamedTuple):
    """Of the program, "" where it was not written down."""

    trained_by: str
    evaluated_by: str

    def __str__(self) -> str:
        return f"trained by {self.trained_by or 'unknown'}, evaluated by {self.evaluated_by or 'unknown'}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentReport:
    """What was found and written."""

    tables: list[TextTable]
    files: dict[str, Path]
    note: str
    """Which versions of the program made the rows, if they differ, in words; else ""."""


def plan(request: ExperimentRequest) -> list[PlannedCell]:
    """The trainings the table needs, each once.

    Raises:
        ConfigError: if the budget is below one round, the table needs a dataset of unseen people, or a training that is
            there was begun with other settings.
        DataError: if a dataset cannot be used, gives no pair of the table's protocol, or shows as unseen somebody of
            the training.
    """
    _check_pairs(request)
    labels: dict[tuple[int, Path], list[str]] = {}
    cells: dict[tuple[int, Path], Cell] = {}
    for seed in request.seeds:
        for row in request.table.rows:
            cell = _cell(request, row, seed)
            cell.require_same_settings()
            labels.setdefault((seed, cell.folder), []).append(row.label)
            cells[seed, cell.folder] = cell
    return [PlannedCell(labels=tuple(labels[key]), seed=key[0], cell=cell) for key, cell in cells.items()]


def plan_table(planned: Sequence[PlannedCell]) -> TextTable:
    """The plan for people."""
    body = []
    for item in planned:
        rounds = item.cell.settings.rounds
        num_clients = rounds.num_clients if item.cell.mode is Mode.FEDERATED else 1
        num_steps = rounds.max_rounds * rounds.local_steps * num_clients
        num_samples = num_steps * item.cell.settings.optimizer.batch_size
        state = "done" if item.cell.is_trained else "to train"
        cells = (item.cell.mode.value, str(item.seed), str(num_steps), str(num_samples), state, item.cell.folder.name)
        body.append((", ".join(item.labels), *cells))
    header = ("rows", "mode", "seed", "optimiser steps", "samples", "state", "cell")
    return TextTable(title="Trainings", header=header, rows=tuple(body))


def run_experiment(request: ExperimentRequest, *, train: Train, evaluate: Evaluate) -> ExperimentReport:
    """Train and evaluate what is missing, then write `<name>.md` and `<name>.json`.

    Args:
        request: what to make.
        train: trains a cell.
        evaluate: evaluates a cell.
    """
    planned = plan(request)
    for item in planned:
        item.cell.train(train)
    folders = [[_evaluated(request, row, seed, evaluate) for seed in request.seeds] for row in request.table.rows]
    ours = _ours(request, folders)
    seen = [table for table in (_further(request, folders), _thirds(request, folders)) if table.rows]
    measured = titled([ours, *seen, *_gap_tables(request, folders)], request.num_sources)
    tables = [measured[0], *_published(request.table), *measured[1:], _spent(planned), _settings_table(request)]
    files = {"Table": request.out / f"{request.name}.md", "Figures": request.out / f"{request.name}.json"}
    versions = _versions(request, planned, folders)
    note = _versions_note(versions)
    write_text(files["Table"], _markdown(request, tables, note))
    write_json(files["Figures"], _plain(request, folders, versions), indent=2)
    return ExperimentReport(tables=tables, files=files, note=note)


def _check_pairs(request: ExperimentRequest) -> None:
    """Before anything is trained: whether the table's pairs can be drawn."""
    shards = open_dataset(_dataset(request))
    if request.table.protocol.is_unseen:
        trained = {shard.identity for shard in open_dataset(Path(request.settings.data.data_dir))}
        known = [shard for shard in shards if shard.identity in trained]
        if known:
            raise DataError(
                f"{known[0].path}: identity {known[0].identity} is among those to be trained on; wanted with --unseen "
                "a dataset of other people"
            )
    draw_pairs(request.table.protocol, shards, num_pairs=1, seed=0)


def _dataset(request: ExperimentRequest) -> Path:
    if not request.table.protocol.is_unseen:
        return Path(request.settings.data.data_dir)
    if request.unseen is None:
        raise ConfigError(
            f"{request.name} evaluates on people the models have not seen: name their dataset with --unseen"
        )
    return request.unseen


def _cell(request: ExperimentRequest, row: ModelRow, seed: int) -> Cell:
    return cell_of(row, request.settings, request.budget, seed=seed, folder=request.out / "cells")


def _evaluated(request: ExperimentRequest, row: ModelRow, seed: int, evaluate: Evaluate) -> Path:
    """Folder of the row's evaluation, made now if it is not there."""
    cell, dataset = _cell(request, row, seed), _dataset(request)
    protocol, num_pairs, num_sources = request.table.protocol, request.num_pairs, row.num_sources(request.num_sources)
    out = cell.evaluation(protocol, row.guidance, row.motion, num_pairs, num_sources, dataset, request.embedder)
    if not (out / "metrics.json").is_file():
        task = EvaluationTask(
            checkpoint=cell.run,
            dataset=dataset,
            out=out,
            protocol=protocol,
            num_pairs=num_pairs,
            num_sources=num_sources,
            guidance=row.guidance,
            motion=row.motion,
            embedder=request.embedder,
        )
        evaluate(task)
    return out


def _ours(request: ExperimentRequest, folders: Sequence[Sequence[Path]]) -> TextTable:
    metrics = request.table.metrics
    body = [
        (row.label, *(_text(_values(per_seed, MODEL, metric), metric, len(per_seed)) for metric in metrics))
        for row, per_seed in zip(request.table.rows, folders, strict=True)
    ]
    for baseline in request.baselines:
        values = [_values(folders[0][:1], baseline, metric) for metric in metrics]
        if any(values):
            figures = (_text(value, metric, 1) for value, metric in zip(values, metrics, strict=True))
            body.append((baseline, *figures))
    names = [_name(folders[0][0], metric) for metric in metrics]
    count = f"mean ± standard deviation over {len(request.seeds)} seeds" if len(request.seeds) > 1 else "one seed"
    title = f"{request.table.title}, {request.table.protocol}, ours ({count})"
    return TextTable(title=title, header=("model", *names), rows=tuple(body))


def _further(request: ExperimentRequest, folders: Sequence[Sequence[Path]]) -> TextTable:
    """The metrics that the thesis' table does not have: a metric a row, a model a column."""
    columns = [(row.label, per_seed, MODEL) for row, per_seed in zip(request.table.rows, folders, strict=True)]
    columns += [(baseline, folders[0][:1], baseline) for baseline in request.baselines]
    body = []
    for metric in metrics_of(request.table.protocol):
        found = [(_values(per_seed, method, metric), len(per_seed)) for _, per_seed, method in columns]
        if metric not in request.table.metrics and any(values for values, _ in found):
            body.append((_name(folders[0][0], metric), *(_text(values, metric, num) for values, num in found)))
    header = ("metric", *(label for label, _, _ in columns))
    return TextTable(title=f"Further metrics, {request.table.protocol}", header=header, rows=tuple(body))


def _thirds(request: ExperimentRequest, folders: Sequence[Sequence[Path]]) -> TextTable:
    """Thirds of the pairs by size of motion, of every model's first seed; no row for evaluations without them."""
    tables = [
        (row.label, thirds_table(figures["thirds"], Backends(**figures["backends"])))
        for row, per_seed in zip(request.table.rows, folders, strict=True)
        for figures in [_figures(per_seed[0])]
        if "thirds" in figures
    ]
    header = tables[0][1].header if tables else ()
    body = tuple((label, *line) for label, table in tables for line in table.rows)
    return TextTable(title="Thirds of the pairs by size of motion, first seed", header=("model", *header), rows=body)


def _published(table: ExperimentTable) -> list[TextTable]:
    if not table.published:
        return []
    header = ("model", *(f"{metric.title} {metric.better}" for metric in table.metrics))
    return [TextTable(title=f"{table.title}, as the thesis printed it", header=header, rows=table.published)]


def _gap_tables(request: ExperimentRequest, folders: Sequence[Sequence[Path]]) -> Iterator[TextTable]:
    """Centralized against federated, for rows that differ in nothing else."""
    by_row = list(zip(request.table.rows, folders, strict=True))
    for row, first in by_row:
        for other, second in by_row:
            if row.mode is Mode.CENTRALIZED and other == replace(row, label=other.label, mode=Mode.FEDERATED):
                rows = gaps([read_pair_values(f) for f in first], [read_pair_values(f) for f in second], seed=0)
                yield replace(gap_table(rows), title=f"Gap: {row.label} (first), {other.label} (second)")


def _spent(planned: Sequence[PlannedCell]) -> TextTable:
    body = []
    for item in planned:
        num_steps, num_samples = item.cell.spent()
        body.append((", ".join(item.labels), str(item.seed), str(num_steps), str(num_samples)))
    return TextTable(title="What was spent", header=("rows", "seed", "optimiser steps", "samples"), rows=tuple(body))


def _settings_table(request: ExperimentRequest) -> TextTable:
    """What the trainings have that the defaults, which are the thesis', do not: of all rows, then of one alone."""
    changed = shaping(request.settings).items() - shaping(Settings()).items()
    body = [("all", key, str(value)) for key, value in sorted(changed)]
    body += [(row.label, key, str(value)) for row in request.table.rows for key, value in row.changes.items()]
    return TextTable(
        title="Settings that are not at their default, each cut to the budget",
        header=("rows", "setting", "value"),
        rows=tuple(body),
    )


def _versions(
    request: ExperimentRequest, planned: Sequence[PlannedCell], folders: Sequence[Sequence[Path]]
) -> dict[str, list[Versions]]:
    """Label of a row to what made it, for every seed."""
    cells = {(label, item.seed): item.cell for item in planned for label in item.labels}
    return {
        row.label: [
            Versions(cells[row.label, seed].version(), str(_figures(folder).get("version", "")))
            for seed, folder in zip(request.seeds, per_seed, strict=True)
        ]
        for row, per_seed in zip(request.table.rows, folders, strict=True)
    }


def _versions_note(versions: Mapping[str, Sequence[Versions]]) -> str:
    """Which versions of the program made each row, in words; "" if they are the same for all."""
    if len({found for row in versions.values() for found in row}) < 2:
        return ""
    rows = "; ".join(f"{label} ({', '.join(map(str, dict.fromkeys(row)))})" for label, row in versions.items())
    return f"Rows were made by different versions of fedreenact, which may train and measure differently: {rows}."


def _markdown(request: ExperimentRequest, tables: Sequence[TextTable], versions: str) -> str:
    ours, *rest = (table.to_markdown() for table in tables)
    shown = f"Settings: {request.settings.model.image_size_px} px, batch {request.settings.optimizer.batch_size}, "
    shown += f"{request.budget.num_steps} optimiser steps a model at most, {request.num_pairs} pairs a source person.\n"
    shown += f"People whom the models have not seen: {request.unseen.name}.\n" if request.unseen else ""
    shown += f"Backbone of every row that has its own: {request.backbone}.\n" if request.backbone else ""
    shown += f"{request.note}\n" if request.note else ""
    ours += f"\n{versions}\n" if versions else ""
    if request.table.published:
        rest.insert(1, PUBLISHED_NOTE + "\n")
    return "\n".join([f"# {request.name}\n", shown, ours, *rest])


def _plain(
    request: ExperimentRequest, folders: Sequence[Sequence[Path]], versions: Mapping[str, Sequence[Versions]]
) -> dict[str, object]:
    rows = [
        {
            "model": row.label,
            "mode": row.mode.value,
            "changes": row.changes,
            "landmarks": row.guidance.value,
            "motion": row.motion.value,
            "values": {metric.key: _values(per_seed, MODEL, metric) for metric in request.table.metrics},
            "evaluations": [str(folder) for folder in per_seed],
            "versions": [found._asdict() for found in versions[row.label]],
        }
        for row, per_seed in zip(request.table.rows, folders, strict=True)
    ]
    published = [
        dict(zip(("model", *(m.key for m in request.table.metrics)), row, strict=True))
        for row in request.table.published
    ]
    return {
        "table": request.name,
        "protocol": request.table.protocol.value,
        "seeds": list(request.seeds),
        "num_steps": request.budget.num_steps,
        "num_pairs": request.num_pairs,
        "num_sources": request.num_sources,
        "unseen": str(request.unseen or ""),
        "backbone": request.backbone,
        "settings": shaping(request.settings),
        "rows": rows,
        "published": published,
        "note": PUBLISHED_NOTE if published else "",
    }


def _values(folders: Sequence[Path], method: str, metric: Metric) -> list[float]:
    """One value a seed; a seed without any is left out."""
    values = [_figure(folder, method, metric).get("value") for folder in folders]
    return [float(value) for value in values if value is not None]


def _name(folder: Path, metric: Metric) -> str:
    """The metric with its backend, as the evaluation names it."""
    return f"{_figure(folder, MODEL, metric).get('name', metric.title)} {metric.better}"


def _figure(folder: Path, method: str, metric: Metric) -> dict[str, Any]:
    """The figure of everybody's pairs in an evaluation; empty if the method or metric was not measured."""
    for row in _figures(folder)["rows"]:
        if is_of_everybody(row) and row["method"] == method:
            figure: dict[str, Any] = row["metrics"].get(metric.key, {})
            return figure
    return {}


def _figures(folder: Path) -> dict[str, Any]:
    figures: dict[str, Any] = read_json(folder / "metrics.json")
    return figures


def _text(values: Sequence[float], metric: Metric, num_seeds: int) -> str:
    """Mean and spread, and over how many seeds if some have no value."""
    if not values:
        return "-"
    text = metric.text(float(np.mean(values)))
    text += f" ± {metric.text(float(np.std(values, ddof=1)))}" if len(values) > 1 else ""
    return text if len(values) == num_seeds else f"{text} ({len(values)} of {num_seeds})"
