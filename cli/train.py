"""Commands that train on this machine, and what they need.

They import what they need themselves: `fedreenact --help` should not wait for PyTorch and Flower.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli.options import (
    Changes,
    Embedder,
    Preset,
    chosen_settings,
    folder_to_write,
    read_named_preset,
    settings_for,
)
from cli.terminal import LiveProgress, console, rich_table, say_where
from data_partition.consent.kinds import WithoutConsent
from federation.settings import Settings, to_toml
from model.config import NETWORKS
from model.errors import ConfigError


def train(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder, as `prepare` or `synth` writes it.")],
    out: Annotated[Path, typer.Option(callback=folder_to_write, help="Run folder: checkpoints, history, settings.")],
    mode: Annotated[
        str, typer.Option(help="federated: one site per person; centralized: pooled frames; local: every person alone.")
    ] = "federated",
    model: Annotated[
        str, typer.Option(metavar="|".join(NETWORKS), help="GLR or a baseline; short for --set network=...")
    ] = "",
    preset: Preset = "tiny",
    changes: Changes = None,
    without_consent: Annotated[
        WithoutConsent | None,
        typer.Option(help="What people without a record of consent are; short for --set without-consent=..."),
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on after the run's newest checkpoint; with round 1 if it was stopped in it.")
    ] = False,
) -> None:
    """Train on this machine: a simulated federation, or centralized for comparison."""
    from server.run_folder.record import RECORD_NAME
    from server.training import Mode
    from server.training import train as train_on

    if mode not in list(Mode):
        raise ConfigError(f"--mode: got {mode!r}, wanted one of {', '.join(Mode)}")
    if resume and not any(out.glob(f"*/{RECORD_NAME}" if mode == Mode.LOCAL else RECORD_NAME)):
        raise ConfigError(f"--resume: {out} holds no run to go on with; leave --resume out to begin")
    short = {"network": model, "without-consent": without_consent.value if without_consent else ""}
    chosen = chosen_settings(preset, changes) | {key: value for key, value in short.items() if value}
    settings = settings_for(dataset, chosen, {"output-dir": str(out.resolve()), "resume": resume})
    with LiveProgress(console) as live:
        live.start_rounds(settings.rounds.max_rounds)
        runs = train_on(Mode(mode), settings, live.on_round)
    for run in runs:
        say_where({"Run": run})
        _say_spent(run, settings)
    say_where({"Next": f"fedreenact reenact {runs[0]} --source A.jpg --driving B.mp4 --out result.mp4"})


def experiment(
    table: Annotated[str, typer.Argument(help="table-4-2 to table-4-7 of the thesis, ablation or ablation-cross.")],
    dataset: Annotated[Path, typer.Argument(help="Dataset to train and evaluate on.")],
    out: Annotated[
        Path,
        typer.Option(
            callback=folder_to_write, help="Folder of tables and trainings; run again to go on, or for more tables."
        ),
    ],
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Trainings of each model.")] = 3,
    budget: Annotated[
        int, typer.Option(min=0, max=10**9, help="Optimiser steps of each model, all sites together; 0: as the preset.")
    ] = 0,
    num_pairs: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Evaluation pairs of each person, at most.")
    ] = 200,
    num_sources: Annotated[
        int,
        typer.Option(
            min=1, max=32, help="Source frames of each result, as for `evaluate`; the trainings are the same for all."
        ),
    ] = 1,
    unseen: Annotated[
        Path | None, typer.Option(help="Dataset of people not trained on, for table-4-2 and table-4-3.")
    ] = None,
    backbone: Annotated[str, typer.Option(help="vit or resnet34 for every row; as in the thesis if not given.")] = "",
    mode: Annotated[
        str, typer.Option(help="federated or centralized for every row; as in the thesis if not given.")
    ] = "",
    embedder: Embedder = "sface",
    preset: Preset = "tiny",
    changes: Changes = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained, and end.")] = False,
) -> None:
    """Make a table on your own data, one of the thesis or an ablation: train what is missing, evaluate, write it."""
    from experiments.command import experiment_request, run_on_this_machine
    from experiments.experiment import plan, plan_table

    settings = settings_for(dataset, chosen_settings(preset, changes), {})
    request = experiment_request(
        table,
        settings,
        out=out.resolve(),
        num_seeds=seeds,
        num_steps=budget,
        num_pairs=num_pairs,
        num_sources=num_sources,
        unseen=unseen,
        backbone=backbone,
        mode=mode,
        embedder=embedder,
    )
    console.print(rich_table(plan_table(plan(request))))
    if request.note:
        console.print(escape(request.note), soft_wrap=True)
    if dry_run:
        return
    with LiveProgress(console) as live:
        report = run_on_this_machine(request, live)
    console.print(*map(rich_table, report.tables))
    if report.note:
        console.print(escape(report.note), soft_wrap=True)
    say_where(report.files)


def demo(
    out: Annotated[
        Path, typer.Argument(callback=folder_to_write, help="Folder for everything the demonstration makes.")
    ],
) -> None:
    """Five drawn people, federated training, comparison sheets and one HTML page: 10 to 15 minutes on two cores."""
    from experiments.demo import run_demo

    with LiveProgress(console) as live:
        report = run_demo(out, Settings.from_flat(read_named_preset("tiny")), live)
    console.print(*map(rich_table, report.tables))
    places = {"Dataset": report.dataset, "Run": report.run, "Tables, sheets, clip": report.results, "Page": report.page}
    say_where(places)


def weights(
    download: Annotated[str, typer.Option(help="Fetch one file from its official address: vgg19.")] = "",
) -> None:
    """Say which pretrained model files are there, and how to get the others."""
    from model.errors import WeightsError
    from model.weights import SOURCES, resolve
    from model.weights import download as fetch

    if download:
        say_where({download: fetch(download)})
        return
    for name in SOURCES:
        try:
            console.print(f"[green]  found[/]  {name}: {escape(str(resolve(name)))}", soft_wrap=True)
        except WeightsError as error:
            console.print(f"[yellow]missing[/]  {escape(str(error))}", soft_wrap=True)


def settings(preset: Preset = "paper", changes: Changes = None) -> None:
    """Print all settings as TOML, as `flwr run . --run-config FILE` reads it; see docs/settings.md."""
    resolved = Settings.from_flat(chosen_settings(preset, changes))
    sys.stdout.write(to_toml(resolved.to_flat()))


def _say_spent(run: Path, settings: Settings) -> None:
    """Optimiser steps and samples of a run, over all its clients, and how it ended."""
    from server.run_folder.history import read_history, spent
    from server.run_folder.result import RunResult

    rows, result = read_history(run), RunResult.read(run)
    steps, samples = spent(rows, settings)
    ended = escape(result.reason if result else "")
    console.print(
        f"{len(rows)} rounds, {steps} optimiser steps, {samples} samples seen; ended: {ended}", soft_wrap=True
    )
