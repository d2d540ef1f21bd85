"""`fedreenact evaluate`: a checkpoint against baselines on drawn or given pairs, as tables and sheets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from data_partition.consent.withdrawal import withdrawn_people
from data_partition.shards.shard import Shard, open_dataset, require_meshes
from evaluation.clips import clips_of, measure_clips
from evaluation.faces.analysis import FaceAnalyser, RememberingAnalyser
from evaluation.faces.embedders import embedder_named
from evaluation.faces.mediapipe_analyser import MediaPipeAnalyser
from evaluation.faces.openface_exchange import FrameSaver, OpenFaceAnalyser
from evaluation.figures.tables import TextTable
from evaluation.measurement import MODEL, Drawn, Instruments, Method, baselines, measure
from evaluation.metrics.folds import fold_percent
from evaluation.metrics.kid import KidFeatures
from evaluation.metrics.perceptual_distance import PerceptualDistance
from evaluation.metrics.vgg_levels import vgg16_levels
from evaluation.pairs import EvaluationPair, Protocol, draw_pairs, read_pairs
from evaluation.people import faces_of_pair
from evaluation.results import Findings, write_figures, write_sheets
from model.checkpoint import Checkpoint
from model.errors import ConfigError, DataError
from model.progress import Progress
from model.version import own_version
from reenact.guidance_choice import Guidance, MotionKind
from reenact.models import read_model
from reenact.reenactor import Reenactor

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRequest:
    """What to evaluate."""

    checkpoint: Path
    """A round folder, a run folder for its newest intact round, or a file as of `read_model`."""
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
    motion: MotionKind = MotionKind.ABSOLUTE
    """Relative motion is told from the frame of the driving clip that is most like the source."""
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

    A checkpoint that learnt somebody who withdrew is measured with a warning: to be replaced, it has to be compared.

    Args:
        request: what to do.
        device: where the networks run.
        progress: called for every pair.

    Raises:
        CheckpointError: if the checkpoint cannot be used.
        ConfigError: for a number of pairs below 1 or landmarks that the checkpoint cannot give.
        DataError: for an unusable dataset, unknown people in it, or an unusable pairs file.
        WeightsError: if the face analysers' files are missing.
    """
    if request.num_pairs < 1 or request.seed < 0:
        raise ConfigError(f"--num-pairs {request.num_pairs} --seed {request.seed}: wanted at least 1 and 0")
    if withdrawn := withdrawn_people(request.checkpoint):
        _log.warning("%s: learnt %s, who withdrew: train anew without them", request.checkpoint, ", ".join(withdrawn))
    checkpoint = read_model(request.checkpoint)
    shards = open_dataset(request.dataset)
    _check_identities(shards, checkpoint, request.protocols)
    pairs = _pairs(request, shards)
    reenactor = Reenactor(checkpoint, device, num_sources=request.num_sources)
    if reenactor.needs_mesh:
        require_meshes(shards)
    with MediaPipeAnalyser(embedder_named(request.embedder)) as faces:
        looks, draw = _analyser(faces, request, reenactor), _model(reenactor, request)
        analyser, vgg16 = RememberingAnalyser(looks), vgg16_levels()
        perceptual = PerceptualDistance(vgg16)
        instruments = Instruments(analyser=analyser, perceptual=perceptual, features=KidFeatures(vgg16))
        model = _noted(draw, looks) if isinstance(looks, FrameSaver) else draw
        methods = {MODEL: model, **baselines(reenactor.size_px, request.num_sources)}
        measurements = measure(pairs, methods, instruments, size_px=reenactor.size_px, progress=progress)
        clips = measure_clips(
            clips_of(pairs),
            methods,
            instruments,
            size_px=reenactor.size_px,
            progress=progress,
        )
    backends = replace(analyser.backends, perceptual=perceptual.name)
    found = Findings(measurements=measurements, clips=clips, backends=backends, evaluated_aus=analyser.evaluated_aus)
    tables, files = write_figures(request.out, found, _origin(request, checkpoint, reenactor, found), seed=request.seed)
    sheets = write_sheets(request.out, found, reenactor, request.landmarks, request.motion)
    return EvaluationReport(tables=tables, files=files | sheets)


def _analyser(faces: FaceAnalyser, request: EvaluationRequest, reenactor: Reenactor) -> FaceAnalyser:
    """The analyser with what OpenFace is to see or has seen."""
    if request.frames_out is not None and request.openface is not None:
        raise ConfigError("evaluate: --frames-out and --openface exclude each other; OpenFace runs in between")
    if request.frames_out is not None:
        return FrameSaver(faces, request.frames_out, reenactor.weights_sha256())
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
        if not checkpoint.identities:
            do_what = "with --protocol self-unseen or cross-unseen"
        raise DataError(
            f"{wrong[0].path}: identity {wrong[0].identity} is {is_what} the trained ones "
            f"({', '.join(checkpoint.identities) or 'it names none'}); evaluate {do_what}"
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


def _model(reenactor: Reenactor, request: EvaluationRequest) -> Method:
    def draw(pair: EvaluationPair) -> Drawn:
        faces = faces_of_pair(pair, reenactor.size_px, reenactor.num_sources)
        drawing, _ = reenactor.draw_pair(*faces, request.landmarks, motion=request.motion)
        if drawing.flow_CHW is None:
            return Drawn(drawing.result)
        return Drawn(drawing.result, fold_percent(drawing.flow_CHW, drawing.landmarks_KC))

    return draw


def _noted(draw: Method, saver: FrameSaver) -> Method:
    """The same method, whose results are kept as what a model drew."""

    def drawn(pair: EvaluationPair) -> Drawn:
        result = draw(pair)
        saver.note_drawn(result.frame)
        return result

    return drawn


def _origin(
    request: EvaluationRequest, checkpoint: Checkpoint, reenactor: Reenactor, found: Findings
) -> dict[str, object]:
    """What the figures are of."""
    return {
        "checkpoint": str(request.checkpoint),
        "round": checkpoint.round,
        "weights_sha256": reenactor.weights_sha256(),
        "dataset": str(request.dataset),
        "landmarks": request.landmarks.value,
        "motion": request.motion.value,
        "num_sources": request.num_sources,
        "size_px": reenactor.size_px,
        "version": own_version(),
        "pairs": "given" if request.pairs else "drawn",
        "seed": request.seed,
        "backends": asdict(found.backends),
        "evaluated_aus": list(found.evaluated_aus),
    }
