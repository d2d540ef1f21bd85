"""What an evaluation writes: figures as JSON, tables and CSV, and sheets of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evaluation.clips import ClipMeasurement
from evaluation.faces.analysis import Backends
from evaluation.figures.summary import summarise
from evaluation.figures.tables import (
    TextTable,
    action_unit_agreement,
    clips_csv,
    identity_tables,
    measurements_csv,
    method_tables,
    rows_to_plain,
    titled,
)
from evaluation.figures.thirds import thirds, thirds_table
from evaluation.measurement import MODEL, Measurement
from evaluation.metrics.catalogue import AU_INTENSITY_ERROR, CSIM, Better, Metric
from evaluation.pairs import Protocol, write_pairs
from evaluation.people import faces_of_pair
from evaluation.sheet import DetailRow, SheetRow, sheet_row, write_sheet
from model.files import write_json, write_text
from reenact.guidance_choice import Guidance, MotionKind
from reenact.reenactor import Reenactor

_HEADING = """# Evaluation

Figures are pooled over pairs or clips, with 95 % bootstrap intervals over seconds of the driving frames, or over
clips; KID with its standard deviation over subsets. Copy-source hands the source frame back, copy-nearest the nearest
of several sources, copy-driving the driving frame. AUCON on shuffled pairs is what a result gets when it is compared
with other driving frames of the same person. Landmark error is in percent of the driving face's outer eye distance.
Figures whose names differ in the backend in brackets are on different scales.
"""

_SHEET_ROWS = 2
"""Best, median and worst pairs on a sheet, each."""

DETAIL_SHEET = "mouths-and-eyes.png"
"""Name of the sheet of details of all protocols."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Findings:
    """What an evaluation measured."""

    measurements: Sequence[Measurement]
    clips: Sequence[ClipMeasurement]
    backends: Backends
    evaluated_aus: Sequence[int]


def write_figures(
    out: Path, found: Findings, origin: Mapping[str, object], *, seed: int
) -> tuple[list[TextTable], dict[str, Path]]:
    """Write metrics.json, table.md, per-pair.csv, per-clip.csv and pairs.csv.

    Args:
        out: folder; files of an earlier evaluation are replaced.
        found: what was measured.
        origin: what the figures are of, for metrics.json.
        seed: of bootstrap and subsets.

    Returns:
        The tables over everybody, and what is in it to file.
    """
    rows, by_motion = summarise(found.measurements, found.clips, seed=seed), thirds(found.measurements)
    num_sources = int(str(origin["num_sources"]))
    tables = titled([*method_tables(rows, found.backends), thirds_table(by_motion, found.backends)], num_sources)
    everything = [*tables, *titled(identity_tables(rows, found.backends), num_sources)]
    plain = {
        **origin,
        "rows": rows_to_plain(rows, found.backends),
        "thirds": by_motion,
        "action_units": _action_units(found),
    }
    texts = {
        "Tables": ("table.md", "\n".join([_HEADING, *(table.to_markdown() for table in everything)])),
        "Values of every pair": ("per-pair.csv", measurements_csv(found.measurements, found.backends)),
        "Values of every clip": ("per-clip.csv", clips_csv(found.clips, found.backends)),
    }
    for name, text in texts.values():
        write_text(out / name, text)
    write_json(out / "metrics.json", plain, indent=2)
    write_pairs(out / "pairs.csv", list(dict.fromkeys(measured.pair for measured in found.measurements)))
    files = {title: out / name for title, (name, _) in texts.items()}
    return tables, {"Figures": out / "metrics.json", **files, "Pairs": out / "pairs.csv"}


def write_sheets(
    out: Path, found: Findings, reenactor: Reenactor, landmarks: Guidance, motion: MotionKind
) -> dict[str, Path]:
    """Write a sheet a protocol with the best, median and worst pairs by CSIM, and one of mouths and eyes of them all.

    The best, median and worst mouths and eyes are those by the error of action unit intensities.

    Returns:
        What is in it to file.
    """
    groups: dict[Protocol, list[Measurement]] = {}
    for measured in found.measurements:
        if measured.method == MODEL:
            groups.setdefault(measured.pair.protocol, []).append(measured)
    files: dict[str, Path] = {}
    model_sha256 = reenactor.weights_sha256()
    details: list[DetailRow] = []
    for protocol, group in groups.items():
        files[f"Sheet, {protocol}"] = out / f"{protocol}.png"
        rows = [
            _sheet_row(label, chosen, reenactor, landmarks, motion)
            for label, chosen in _best_median_worst(group, CSIM, CSIM.name(found.backends))
        ]
        write_sheet(files[f"Sheet, {protocol}"], rows, model_sha256)
        details += [
            _detail_row(f"{protocol}, {label}", chosen, reenactor, landmarks, motion)
            for label, chosen in _best_median_worst(group, AU_INTENSITY_ERROR, "AU error")
        ]
    files["Mouths and eyes"] = out / DETAIL_SHEET
    write_sheet(files["Mouths and eyes"], details, model_sha256)
    return files


def _action_units(found: Findings) -> dict[str, object]:
    """Agreement of every action unit, by protocol and method."""
    groups: dict[Protocol, dict[str, list[Measurement]]] = {}
    for measured in found.measurements:
        groups.setdefault(measured.pair.protocol, {}).setdefault(measured.method, []).append(measured)
    return {
        protocol.value: {method: action_unit_agreement(group, found.evaluated_aus) for method, group in methods.items()}
        for protocol, methods in groups.items()
    }


def _best_median_worst(measurements: Sequence[Measurement], metric: Metric, name: str) -> list[tuple[str, Measurement]]:
    """(label, pair) of some pairs by a metric, best first; one without the value is worst of all.

    Args:
        measurements: of one method.
        metric: the metric.
        name: of the metric, for the labels.
    """
    ranked = sorted(measurements, key=lambda found: _badness(found, metric))
    middle = max(0, len(ranked) - _SHEET_ROWS) // 2
    chosen = {index: "best" for index in range(_SHEET_ROWS)}
    chosen |= {middle + index: "median" for index in range(_SHEET_ROWS)}
    chosen |= {len(ranked) - 1 - index: "worst" for index in range(_SHEET_ROWS)}
    rows = []
    for index in sorted(index for index in chosen if 0 <= index < len(ranked)):
        value = ranked[index].values[metric.key]
        text = "no face found" if np.isnan(value) else f"{name} {metric.text(value)}"
        rows.append((f"{chosen[index]}\n{text}", ranked[index]))
    return rows


def _badness(found: Measurement, metric: Metric) -> float:
    """Lower is better; infinite without the value."""
    value = found.values[metric.key]
    return float("inf") if np.isnan(value) else -value if metric.better is Better.HIGHER else value


def _sheet_row(
    label: str, found: Measurement, reenactor: Reenactor, landmarks: Guidance, motion: MotionKind
) -> SheetRow:
    faces = faces_of_pair(found.pair, reenactor.size_px, reenactor.num_sources)
    row = sheet_row(reenactor, *faces, landmarks, motion)
    return replace(row, label=f"{label}\n{row.label}")


def _detail_row(
    label: str, found: Measurement, reenactor: Reenactor, landmarks: Guidance, motion: MotionKind
) -> DetailRow:
    """Where no face is found in the result, its parts are cut out where the driving frame has them."""
    source, driving = faces_of_pair(found.pair, reenactor.size_px, reenactor.num_sources)
    drawing, _ = reenactor.draw_pair(source, driving, landmarks, motion=motion)
    result_KC = found.generated.landmarks_KC if found.generated else driving.landmarks_KC
    return DetailRow(
        label=label,
        source=source.image_HWC,
        driving=driving.image_HWC,
        result=drawing.result,
        landmarks_NKC=np.stack([source.landmarks_KC, driving.landmarks_KC, result_KC]),
    )
