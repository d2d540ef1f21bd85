"""A run's page: one HTML file that needs nothing beside it; `report` and the demonstration share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.figures.tables import is_of_everybody
from evaluation.measurement import COPY_SOURCE, MODEL
from evaluation.metrics.catalogue import CSIM, PRMSE, PSNR, SSIM
from experiments.report import RunReport, report_json, report_markdown
from experiments.templating import render
from model.files import write_text


@dataclass(frozen=True, kw_only=True, slots=True)
class Demonstration:
    """What the demonstration shows beside the report."""

    clip: Path
    """MP4: one person's movement, and everybody making it."""
    clip_people: tuple[str, ...]
    """Who is in its columns, the driving person first."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Step to its duration."""
    places: Mapping[str, Path] = field(default_factory=dict)
    """What is where on this machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Headline:
    """One big number of the page."""

    value: str
    text: str


def write_report(path: Path, report: RunReport, demonstration: Demonstration | None = None) -> dict[str, Path]:
    """Write the page at `path`, and the same as JSON and Markdown beside it.

    Args:
        path: ends in .html.
        report: of a run.
        demonstration: what else to show.

    Returns:
        What is in it to file.
    """
    page = render("report.html.j2", report=report, demonstration=demonstration, headlines=headlines(report))
    files = {"Page": path, "Figures": path.with_suffix(".json"), "Tables": path.with_suffix(".md")}
    for file, text in zip(files.values(), (page, report_json(report), report_markdown(report)), strict=True):
        write_text(file, text)
    return files


def headlines(report: RunReport) -> list[Headline]:
    """The first protocol's main figures against copy-source, and what was spent."""
    found = []
    rows = report.evaluations[0].figures["rows"] if report.evaluations else []
    everybody = [row for row in rows if is_of_everybody(row) and row["protocol"] == rows[0]["protocol"]]
    methods = {row["method"]: row["metrics"] for row in everybody}
    for metric in (PSNR, SSIM, PRMSE, CSIM):
        ours, copied = (methods.get(name, {}).get(metric.key, {}) for name in (MODEL, COPY_SOURCE))
        if ours.get("value") is None or copied.get("value") is None:
            continue
        value, baseline = (f"{figure['value']:.{metric.num_decimals}f}" for figure in (ours, copied))
        found.append(Headline(value=value, text=f"{ours['name']}; copy-source {baseline}"))
    found.append(Headline(value=f"{report.round} rounds", text=f"{report.num_steps} optimiser steps in total"))
    return found
