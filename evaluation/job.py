"""`fedreenact evaluate`: a checkpoint against baselines on drawn or given pairs, as tables and sheets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from data_partition.shards.shard import Shard, open_dataset
from evaluation.faces.analysis import Backends, FaceAnalyser, RememberingAnalyser
from evaluation.faces.embedders import embedder_named
from evaluation.faces.mediapipe_analyser import MediaPipeAnalyser
from evaluation.faces.openface_exchange import FrameSaver, OpenFaceAnalyser
from evaluation.figures.summary import summarise
from evaluation.figures.tables import (
    TextTable,
    action_unit_agreement,
    identity_tables,
    measurements_csv,
    method_tables,
    rows_to_plain,
    titled,
)
from evaluation.measurement import MODEL, Measurement, Method, baselines, measure
from evaluation.metrics.catalogue import CSIM
from evaluation.metrics.perceptual_distance import PerceptualDistance
from evaluation.pairs import EvaluationPair, Protocol, draw_pairs, read_pairs, write_pairs
from evaluation.people import faces_of_pair
from evaluation.sheet import SheetRow, sheet_row, write_sheet
from model.checkpoint import Checkpoint, load_checkpoint
from model.errors import ConfigError, DataError
from model.files import write_json, write_text
from model.frames import Frame
from model.progress import Progress
from reenact.guidance_choice import Guidance
from reenact.reenactor import Reenactor

_HEADING = """# Evaluation

Figures are pooled over pairs, with 95 % bootstrap intervals over pairs. Copy-source hands the source frame back,
copy-nearest the nearest of several sources, copy-driving the driving frame. AUCON on shuffled pairs is what a result
gets when it is compared with other driving frames of the same person. Landmark error is in percent of the driving
face's outer eye distance. Figures whose names differ in the backend in brackets are on different scales.
"""

_SHEET_ROWS = 2
"""Best, median and worst pairs on a sheet, each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRequest:
    """What to evaluate."""

    checkpoint: Path
    """A round folder, or a run folder for its newest intact round."""
    dataset: Path
    """Dataset folder; its people must be known to the checkpoint, for the unseen protocols unknown."""
    out: Path
    """Folder for the results; files of an earlier evaluation are replaced."""
    protocols: tuple[Protocol, ...]
    num_pairs: int
    """Of each source identity and protocol, at most."""
    seed: int
    """Of the pair draws and the bootstrap."""
    pairs: Path | None
    """A pairs.csv to use in place of drawing."""
    landmarks: Guidance
    num_sources: int = 1
    """Source frames of each result; above 1 they are the nearest of the person's training frames, not the pair's."""
    embedder: str = "sface"
    """A key of `EMBEDDERS`."""
    frames_out: Path | None = None
    """Folder for every analysed picture, for OpenFace to look at."""
    is_total: bool = False
    """`num_pairs` is meant for all identities of a protocol together."""
    openface: Path | None = None
    """Such a folder with OpenFace's CSV files in it: pose and action units are taken from them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationReport:
    """What was found and written."""

    tables: list[TextTable]
    files: dict[str, Path]
    """What is in it to file."""


def run_evaluation(request: EvaluationRequest, *, device: torch.device, progress: Progress) -> EvaluationReport:
    """Measure the model and the baselines, and write tables, per-pair values, pairs and sheets.

    Args:
        request: what to do.
        device: where the networks run.
        progress: called for every pair.

    Raises:
        CheckpointError: if the checkpoint cannot be used.
        ConfigError: for a number of pairs below 1, or landmarks or a number of sources that the checkpoint has not
            been trained for.
        DataError: for an unusable dataset, unknown people in it, or an unusable pairs file.
        WeightsError: if the face analysers' files are missing.
    """
    if request.num_pairs < 1 or request.seed < 0:
        raise ConfigError(f"--num-pairs {request.num_pairs} --seed {request.seed}: wanted at least 1 and 0")
    checkpoint = load_checkpoint(request.checkpoint)
    shards = open_dataset(request.dataset)
    _check_identities(shards, checkpoint, request.protocols)
    pairs = _pairs(request, shards)
    reenactor = Reenactor(checkpoint, device, num_sources=request.num_sources)
    with MediaPipeAnalyser(embedder_named(request.embedder)) as faces:
        analyser = RememberingAnalyser(_analyser(faces, request))
        perceptual = PerceptualDistance()
        methods = {MODEL: _model(reenactor, request.landmarks), **baselines(reenactor.size_px, request.num_sources)}
        measurements = measure(
            pairs,
            methods,
            analyser,
            perceptual=perceptual,
            size_px=reenactor.size_px,
            progress=progress,
        )
    backends = replace(analyser.backends, perceptual=perceptual.name)
    return _write(request, checkpoint, reenactor, measurements, backends, analyser.evaluated_aus)


def _analyser(faces: FaceAnalyser, request: EvaluationRequest) -> FaceAnalyser:
    """The analyser with what OpenFace is to see or has seen."""
    if request.frames_out is not None and request.openface is not None:
        raise ConfigError("evaluate: --frames-out and --openface exclude each other; OpenFace runs in between")
    if request.frames_out is not None:
        return FrameSaver(faces, request.frames_out)
    return OpenFaceAnalyser(faces, request.openface) if request.openface is not None else faces


def _check_identities(shards: Sequence[Shard], checkpoint: Checkpoint, protocols: Sequence[Protocol]) -> None:
    """Whether the dataset's people are known, or for the unseen protocols unknown, to the checkpoint."""
    unseen = [protocol for protocol in protocols if protocol.is_unseen]
    wants_unseen = bool(unseen)
    if wants_unseen and len(unseen) < len(protocols):
        raise ConfigError(f"protocol {unseen[0]} needs a dataset of its own; evaluate it by itself")
    wrong = [shard for shard in shards if (shard.identity in checkpoint.identities) == wants_unseen]
    if wrong:
        is_what = "among" if wants_unseen else "not among"
        do_what = "on people it has not seen" if wants_unseen else "on the dataset the model was trained on"
        raise DataError(
            f"{wrong[0].path}: identity {wrong[0].identity} is {is_what} the trained ones "
            f"({', '.join(checkpoint.identities)}); evaluate {do_what}"
        )


def _pairs(request: EvaluationRequest, shards: Sequence[Shard]) -> list[EvaluationPair]:
    if request.pairs is None:
        return [
            pair
            for protocol in request.protocols
            for pair in draw_pairs(
                protocol, shards, num_pairs=request.num_pairs, seed=request.seed, is_total=request.is_total
            )
        ]
    pairs = [pair for pair in read_pairs(request.pairs, shards) if pair.protocol in request.protocols]
    if not pairs:
        raise DataError(f"{request.pairs}: no pair of protocol {', '.join(request.protocols)}; choose --protocol all")
    return pairs


def _model(reenactor: Reenactor, landmarks: Guidance) -> Method:
    def draw(pair: EvaluationPair) -> Frame:
        faces = faces_of_pair(pair, reenactor.size_px, reenactor.num_sources)
        return reenactor.draw_pair(*faces, landmarks)[0].result

    return draw


def _write(
    request: EvaluationRequest,
    checkpoint: Checkpoint,
    reenactor: Reenactor,
    measurements: Sequence[Measurement],
    backends: Backends,
    evaluated_aus: Sequence[int],
) -> EvaluationReport:
    rows = summarise(measurements, seed=request.seed)
    tables = titled(method_tables(rows, backends), request.num_sources)
    files = {
        "Figures": request.out / "metrics.json",
        "Tables": request.out / "table.md",
        "Values of every pair": request.out / "per-pair.csv",
        "Pairs": request.out / "pairs.csv",
    }
    summary = _origin(request, checkpoint, reenactor, backends, evaluated_aus)
    summary["rows"] = rows_to_plain(rows, backends)
    summary["action_units"] = _action_units(measurements, evaluated_aus)
    write_json(files["Figures"], summary, indent=2)
    everything = [*tables, *titled(identity_tables(rows, backends), request.num_sources)]
    write_text(files["Tables"], "\n".join([_HEADING, *(table.to_markdown() for table in everything)]))
    write_text(files["Values of every pair"], measurements_csv(measurements, backends))
    write_pairs(files["Pairs"], list(dict.fromkeys(found.pair for found in measurements)))
    for protocol in dict.fromkeys(found.pair.protocol for found in measurements):
        found = [found for found in measurements if found.pair.protocol is protocol and found.method == MODEL]
        files[f"Sheet, {protocol}"] = request.out / f"{protocol}.png"
        write_sheet(files[f"Sheet, {protocol}"], _sheet_rows(reenactor, found, request.landmarks, backends))
    return EvaluationReport(tables=tables, files=files)


def _origin(
    request: EvaluationRequest,
    checkpoint: Checkpoint,
    reenactor: Reenactor,
    backends: Backends,
    evaluated_aus: Sequence[int],
) -> dict[str, object]:
    """What the figures are of."""
    return {
        "checkpoint": str(request.checkpoint),
        "round": checkpoint.round,
        "dataset": str(request.dataset),
        "landmarks": request.landmarks.value,
        "num_sources": request.num_sources,
        "size_px": reenactor.size_px,
        "pairs": "given" if request.pairs else "drawn",
        "seed": request.seed,
        "backends": asdict(backends),
        "evaluated_aus": list(evaluated_aus),
    }


def _action_units(measurements: Sequence[Measurement], evaluated_aus: Sequence[int]) -> dict[str, object]:
    """Agreement of every action unit, by protocol and method."""
    groups: dict[Protocol, dict[str, list[Measurement]]] = {}
    for found in measurements:
        groups.setdefault(found.pair.protocol, {}).setdefault(found.method, []).append(found)
    return {
        protocol.value: {method: action_unit_agreement(group, evaluated_aus) for method, group in methods.items()}
        for protocol, methods in groups.items()
    }


def _sheet_rows(
    reenactor: Reenactor, measurements: Sequence[Measurement], landmarks: Guidance, backends: Backends
) -> list[SheetRow]:
    """The best, median and worst pairs by CSIM; a result without a face is worst of all."""
    ranked = sorted(measurements, key=lambda found: np.nan_to_num(found.values[CSIM.key], nan=-np.inf), reverse=True)
    middle = max(0, len(ranked) - _SHEET_ROWS) // 2
    chosen = {index: "best" for index in range(_SHEET_ROWS)}
    chosen |= {middle + index: "median" for index in range(_SHEET_ROWS)}
    chosen |= {len(ranked) - 1 - index: "worst" for index in range(_SHEET_ROWS)}
    rows = []
    for index in sorted(index for index in chosen if 0 <= index < len(ranked)):
        faces = faces_of_pair(ranked[index].pair, reenactor.size_px, reenactor.num_sources)
        row = sheet_row(reenactor, *faces, landmarks)
        value = ranked[index].values[CSIM.key]
        text = "no face found" if np.isnan(value) else f"{CSIM.name(backends)} {value:.3f}"
        rows.append(replace(row, label=f"{chosen[index]}\n{text}\n{row.label}"))
    return rows
