"""Experiments on this machine: the settings of a request, and the functions that train and evaluate its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from data_partition.shards.shard import open_dataset
from evaluation.faces.embedders import embedder_named
from evaluation.job import EvaluationRequest, run_evaluation
from experiments.ablation import ABLATIONS
from experiments.cells import Budget
from experiments.experiment import EvaluationTask, ExperimentReport, ExperimentRequest, run_experiment
from experiments.listener import Listener
from experiments.table import ExperimentTable, ModelRow, in_mode, of_unseen, with_backbone
from experiments.thesis_tables import THESIS_TABLES
from federation.settings import Settings
from model.designs.registry import design_of
from model.errors import ConfigError
from model.training.trainer import pick_device
from reenact.face_frame import MAX_REFERENCES
from server.training import Mode, train

TABLES = THESIS_TABLES | ABLATIONS
"""Name on the command line to table."""
_EVALUATION_SEED = 0
"""Of the pairs: the same for every model, so that models can be compared pair by pair."""


def experiment_request(
    name: str,
    settings: Settings,
    *,
    out: Path,
    num_seeds: int,
    num_steps: int,
    num_pairs: int,
    num_sources: int,
    unseen: Path | None,
    backbone: str,
    mode: str,
    embedder: str,
) -> ExperimentRequest:
    """What the command line asked for.

    Args:
        name: of the table.
        settings: preset and changes; the seeds count from its seed.
        out: absolute folder.
        num_seeds: >= 1.
        num_steps: budget of each model; 0 for the one of the settings.
        num_pairs: of each source person, >= 1.
        num_sources: source frames of each result, 1 to 32; the trainings are the same for all.
        unseen: dataset of people the models have not seen, for the tables that can be about them.
        backbone: for every row that has one of its own; "" as in the thesis.
        mode: of every training; "" as in the thesis.
        embedder: who measures CSIM.

    Raises:
        WeightsError: if the embedder's package or file is missing.
        ConfigError: for an unknown table, backbone, mode or embedder, `unseen` where the table is about people whom the
            models know, a backbone where no row has its own, or numbers out of
            range.
    """
    if name not in TABLES:
        raise ConfigError(f"experiment: got {name!r}, wanted one of {', '.join(TABLES)}")
    if backbone not in ("", "vit", "resnet34"):
        raise ConfigError(f"--backbone: got {backbone!r}, wanted vit or resnet34")
    if mode not in ("", Mode.FEDERATED, Mode.CENTRALIZED):
        raise ConfigError(f"--mode: got {mode!r}, wanted federated or centralized")
    embedder_named(embedder)  # before anything is trained
    if not 1 <= num_sources <= MAX_REFERENCES:
        raise ConfigError(f"--num-sources: got {num_sources}, wanted 1 to {MAX_REFERENCES}")
    if num_seeds < 1 or num_pairs < 1 or num_steps < 0:
        raise ConfigError(
            f"--seeds {num_seeds} --num-pairs {num_pairs} --budget {num_steps}: wanted at least 1, 1 and 0"
        )
    table, rounds = TABLES[name], settings.rounds
    if backbone and all("backbone" not in row.changes for row in table.rows):
        raise ConfigError(
            f"--backbone: got {backbone}, but no row of {name} has a backbone of its own; wanted --set "
            f"backbone={backbone}, which is for all of them"
        )
    is_other = unseen is not None and table.protocol is not table.unseen_protocol
    table = of_unseen(table) if unseen else table
    table = with_backbone(table, backbone) if backbone else table
    table = in_mode(table, Mode(mode)) if mode else table
    without_meshes = _without_meshes(table, settings, [unseen] if unseen else [])
    of_one_source = _of_one_source(table, settings) if num_sources > 1 else []
    rows_left = tuple(row for row in table.rows if row not in [*without_meshes, *of_one_source])
    if not rows_left:
        raise ConfigError(
            f"--num-sources: got {num_sources}, wanted 1: these networks draw from one source (num-sources = 1 in the "
            "preset); for more --set num-sources=4, with a network that can"
        )
    kind = ("-unseen" if is_other else "") + (f"-{backbone}" if backbone else "") + (f"-{mode}" if mode else "")
    kind += (f"-k{num_sources}" if num_sources > 1 else "") + (f"-{embedder}" if embedder != "sface" else "")
    return ExperimentRequest(
        name=name + kind,
        table=replace(table, rows=rows_left),
        settings=settings,
        out=out,
        seeds=tuple(range(rounds.seed, rounds.seed + num_seeds)),
        budget=Budget(num_steps=num_steps or rounds.max_rounds * rounds.local_steps * rounds.num_clients),
        num_pairs=num_pairs,
        num_sources=num_sources,
        unseen=unseen,
        backbone=backbone,
        embedder=embedder,
        without_meshes=tuple(row.label for row in without_meshes),
        of_one_source=tuple(row.label for row in of_one_source),
        of_nearest=tuple(
            row.label for row in rows_left if row.num_sources(num_sources) > 1 and not _fuses(row, settings)
        ),
    )


def _without_meshes(table: ExperimentTable, settings: Settings, others: Sequence[Path]) -> list[ModelRow]:
    """The rows that are driven by meshes, if the dataset or one of the others lacks them."""
    network = settings.model.network
    driven = [row for row in table.rows if design_of(str(row.changes.get("network", network))).needs_mesh]
    datasets = [Path(settings.data.data_dir), *others] if driven else []
    has_meshes = all(shard.mesh_FVC is not None for dataset in datasets for shard in open_dataset(dataset))
    return [] if has_meshes else driven


def _of_one_source(table: ExperimentTable, settings: Settings) -> list[ModelRow]:
    """The rows whose networks are trained with `num-sources` 1."""
    return [row for row in table.rows if row.changes.get("num-sources", settings.model.num_sources) == 1]


def _fuses(row: ModelRow, settings: Settings) -> bool:
    """Whether the row's network makes one picture of several sources."""
    return "num-sources" in design_of(str(row.changes.get("network", settings.model.network))).settings


def run_on_this_machine(request: ExperimentRequest, listener: Listener) -> ExperimentReport:
    """Train federated cells with the simulation engine, the others in this process, and evaluate all."""

    def train_cell(mode: Mode, settings: Settings) -> None:
        listener.start_rounds(settings.rounds.max_rounds)
        train(mode, settings, listener.on_round)

    def evaluate_cell(task: EvaluationTask) -> None:
        wanted = EvaluationRequest(
            checkpoint=task.checkpoint,
            dataset=task.dataset,
            out=task.out,
            protocols=(task.protocol,),
            num_pairs=task.num_pairs,
            seed=_EVALUATION_SEED,
            pairs=None,
            landmarks=task.guidance,
            motion=task.motion,
            num_sources=task.num_sources,
            embedder=task.embedder,
        )
        run_evaluation(wanted, device=pick_device(request.settings.optimizer.device), progress=listener.progress)

    return run_experiment(request, train=train_cell, evaluate=evaluate_cell)
