"""What can be told about a run: how it went, what it was made of, what it scores."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_partition.shards.shard import open_dataset
from evaluation.faces.analysis import Backends
from evaluation.figures.tables import (
    PROTOCOL_TITLES,
    TextTable,
    identity_tables,
    method_tables,
    rows_from_plain,
    titled,
)
from evaluation.figures.thirds import thirds_table
from evaluation.pairs import Protocol
from evaluation.results import DETAIL_SHEET
from experiments.audit.files import Audit, read_audit
from experiments.curves import curves_png
from federation.settings import Settings
from model.checkpoint import load_checkpoint
from model.errors import ConfigError, DataError
from model.files import read_json
from model.setting import Scalar
from server.run_folder.history import RoundRow, read_history, spent
from server.run_folder.result import RunResult

_PACKAGES = ("fedreenact", "flwr", "torch", "torchvision", "numpy", "mediapipe", "opencv-python-headless")


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Results of `evaluate`."""

    folder: Path
    figures: Mapping[str, Any]
    """All of metrics.json."""
    tables: tuple[TextTable, ...]
    """One a protocol, all pairs together, and the thirds by motion of an evaluation that has them."""
    by_person: tuple[TextTable, ...]
    sheets: Mapping[str, bytes]
    """What it shows to PNG; empty if the evaluation drew none."""
    details: bytes | None
    """PNG of mouths and eyes; None if the evaluation drew none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReport:
    """A run and its evaluations."""

    run: Path
    round: int
    ended: str
    """How the run ended, in words."""
    num_steps: int
    num_samples: int
    settings: Settings
    changed: Mapping[str, Scalar]
    """Settings that are not at their default."""
    data: TextTable | None
    """None where the dataset is not on this machine."""
    history: Sequence[RoundRow]
    curves: bytes
    """PNG."""
    evaluations: tuple[Evaluation, ...]
    audit: Audit | None
    """What `audit` found, where it wrote into the run folder."""
    versions: Mapping[str, str]


def read_report(run: Path, evaluations: Sequence[Path]) -> RunReport:
    """Collect the report of a run folder.

    Args:
        run: as `train` writes it.
        evaluations: folders as `evaluate --out` writes them.

    Raises:
        CheckpointError: if the folder has no intact checkpoint.
        ConfigError: if it has no history.
        DataError: if an evaluation or the run's audit cannot be read.
    """
    checkpoint = load_checkpoint(run)
    history, result = read_history(run), RunResult.read(run)
    if not history:
        raise ConfigError(f"{run} has no history.jsonl with a finished round; wanted a run folder as `train` writes it")
    settings = Settings.from_flat(checkpoint.settings)
    num_steps, num_samples = spent(history, settings)
    defaults = Settings().to_flat()
    return RunReport(
        run=run,
        round=checkpoint.round,
        ended=f"{result.state}: {result.reason}" if result else "has not ended, or was stopped",
        num_steps=num_steps,
        num_samples=num_samples,
        settings=settings,
        changed={key: value for key, value in settings.to_flat().items() if value != defaults[key]},
        data=_data_table(settings),
        history=history,
        curves=curves_png(history, names_of_clients(settings, checkpoint.identities)),
        evaluations=tuple(read_evaluation(folder) for folder in evaluations),
        audit=read_audit(run),
        versions={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    )


def names_of_clients(settings: Settings, identities: Sequence[str]) -> Sequence[str]:
    """Names of clients by index: of the people, where each client holds the one of its index; else nobody's.

    Args:
        settings: of the run.
        identities: [I] names.
    """
    has_one_each = settings.data.partitioner == "identity" and settings.rounds.num_clients == len(identities)
    return identities if has_one_each else ()


def read_evaluation(folder: Path) -> Evaluation:
    """The results in a folder as `evaluate --out` writes it.

    Raises:
        DataError: if they cannot be read.
    """
    path = folder / "metrics.json"
    try:
        figures = read_json(path)
        rows, backends = rows_from_plain(figures["rows"]), Backends(**figures["backends"])
        num_sources = int(figures.get("num_sources", 1))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: cannot be read ({reason}); wanted the folder `evaluate --out` wrote") from error
    sheets = {
        PROTOCOL_TITLES[protocol]: sheet.read_bytes()
        for protocol in Protocol
        if (sheet := folder / f"{protocol}.png").is_file()
    }
    details = folder / DETAIL_SHEET
    by_motion = [thirds_table(figures["thirds"], backends)] if "thirds" in figures else []
    return Evaluation(
        folder=folder,
        figures=figures,
        tables=tuple(titled([*method_tables(rows, backends), *by_motion], num_sources)),
        by_person=tuple(titled(identity_tables(rows, backends), num_sources)),
        sheets=sheets,
        details=details.read_bytes() if details.is_file() else None,
    )


def report_json(report: RunReport) -> str:
    """The report for programs, pictures left out."""
    plain = {
        "run": str(report.run),
        "round": report.round,
        "ended": report.ended,
        "num_steps": report.num_steps,
        "num_samples": report.num_samples,
        "settings": report.settings.to_flat(),
        "data": [dict(zip(report.data.header, row, strict=True)) for row in report.data.rows] if report.data else None,
        "history": [row.to_json() for row in report.history],
        "evaluations": [dict(evaluation.figures) for evaluation in report.evaluations],
        "audit": report.audit.to_plain() if report.audit else None,
        "versions": dict(report.versions),
    }
    return json.dumps(plain, indent=2) + "\n"


def report_markdown(report: RunReport) -> str:
    """The report's tables for people."""
    tables = [table for evaluation in report.evaluations for table in (*evaluation.tables, *evaluation.by_person)]
    tables += [report.data] if report.data else []
    head = (
        f"# {report.run.name}\n\n{report.ended}. {report.round} rounds, {report.num_steps} optimiser steps, "
        f"{report.num_samples} samples seen.\n"
    )
    settings = TextTable(
        title="Settings that are not at their default",
        header=("setting", "value"),
        rows=tuple((key, str(value)) for key, value in report.changed.items()),
    )
    versions = TextTable(title="Versions", header=("package", "version"), rows=tuple(report.versions.items()))
    audit = report.audit.to_markdown() if report.audit else ""
    return "\n".join(
        [head, *(table.to_markdown() for table in tables), audit, settings.to_markdown(), versions.to_markdown()]
    )


def _data_table(settings: Settings) -> TextTable | None:
    """People, frames and clips of the run's dataset."""
    try:
        shards = open_dataset(Path(settings.data.data_dir))
    except DataError:
        return None
    body = [
        (
            shard.identity,
            str(shard.num_frames),
            str(len(set(shard.clip.tolist()))),
            str(int((~shard.is_test_F).sum())),
            str(int(shard.is_test_F.sum())),
            f"{shard.size_px} px",
        )
        for shard in shards
    ]
    header = ("person", "frames", "clips", "training frames", "held-out frames", "size")
    return TextTable(title="Data", header=header, rows=tuple(body))
