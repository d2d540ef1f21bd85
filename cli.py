"""`fedreenact ...`: reads the command line, calls the package that does the work, prints what came of it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from federation.settings import Settings, read_preset
from model.config import Scalar
from model.errors import ConfigError, FedreenactError
from reenact.guidance_choice import Guidance
from reenact.terminal import LiveProgress, rich_table, round_line
from server.termination import EXIT_CODE, TerminatedError

if TYPE_CHECKING:
    from server.flower.commands import FlowerCommands

# The commands import what they need themselves: `fedreenact --help` should not wait for PyTorch and Flower.

PRESET_FOLDER = Path(__file__).parent / "deploy" / "presets"

console = Console(highlight=False)
error_console = Console(stderr=True, highlight=False)
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Federated face reenactment with generative landmark guidance.",
)


class Network(StrEnum):
    """What `train` trains."""

    GLR = "glr"
    X2FACE = "x2face"


class SourceLayout(StrEnum):
    """What `prepare` reads: the names of data_partition.sources.records.Layout, which takes a second to import."""

    AUTO = "auto"
    VIDEOS = "videos"
    FRAMES = "frames"
    CELEBV = "celebv"
    VOXCELEB = "voxceleb"
    OPENFACE = "openface"


Preset = Annotated[str, typer.Option(help="tiny, small, paper, or a TOML file of settings.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; repeat for more. See `settings`."),
]
Workers = Annotated[int | None, typer.Option(help="Processes; default is one per core.")]
SuperLink = Annotated[str, typer.Option(metavar="HOST:PORT", help="The SuperLink's Control API.")]
RootCertificates = Annotated[Path | None, typer.Option(help="The CA's certificate; without it there is no TLS.")]
"""Options that several commands share."""


@app.command()
def prepare(
    src: Annotated[
        Path, typer.Argument(help="Folder with a video, or a folder of videos or frames, per person; or a dataset.")
    ],
    out: Annotated[Path, typer.Argument(help="Dataset folder to write; one shard a person.")],
    layout: Annotated[
        SourceLayout, typer.Option(help="How SRC is built: docs/data.md. auto looks, and says what it saw.")
    ] = SourceLayout.AUTO,
    size: Annotated[int, typer.Option(help="Side of the face crops, pixels.")] = 256,
    workers: Workers = None,
    consent: Annotated[str, typer.Option(help="Where consent is recorded; kept in every shard.")] = "",
) -> None:
    """Turn videos, pictures or published datasets into annotated face crops; what is finished is skipped."""
    from data_partition.preparation.prepare import is_prepared
    from data_partition.preparation.prepare import prepare as prepare_dataset
    from data_partition.sources.records import Layout

    if is_prepared(src):
        console.print(f"{escape(str(src))} is a prepared dataset already; nothing to do", soft_wrap=True)
        return
    with LiveProgress(console) as live:
        report = prepare_dataset(
            src,
            out,
            layout=None if layout is SourceLayout.AUTO else Layout(layout.value),
            size_px=size,
            num_workers=workers,
            consent=consent,
            progress=lambda done, total, text: live.progress(text, done, total),
        )
    for line in report.to_lines():
        console.print(escape(line), soft_wrap=True)
    _say_where(
        {f"Dataset {one.path.name}": one.path for one in report.datasets}
        | {"Every 50th crop": report.datasets[0].contact_sheet, "Left out": report.rejected_csv}
    )


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="Dataset folder to write; one shard an identity.")],
    identities: Annotated[int, typer.Option(help="Number of people.")] = 5,
    frames: Annotated[int, typer.Option(help="Frames of each.")] = 400,
    size: Annotated[int, typer.Option(help="Side of the frames, pixels.")] = 128,
    seed: Annotated[int, typer.Option(help="The same seed draws the same people.")] = 0,
    workers: Workers = None,
) -> None:
    """Draw talking heads with exact labels, for trying things out without anybody's face."""
    from data_partition.synth.dataset import synthesize

    with console.status(f"Drawing {identities} x {frames} frames"):
        shards = synthesize(
            out, num_identities=identities, num_frames=frames, size_px=size, seed=seed, num_workers=workers
        )
    _say_where({shard.name: shard for shard in shards})


@app.command()
def doctor(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder, or one shard.")],
    page: Annotated[Path | None, typer.Option(help="Also write a page with pictures and histograms: .html.")] = None,
    speed: Annotated[bool, typer.Option("--speed", help="Also measure loader and trainer on this machine.")] = False,
    preset: Preset = "tiny",
) -> None:
    """Check a dataset and say in words what is wrong.

    Exit code 0: fit for training, warnings or not, or for evaluation only. 1: an error was found. 2: nothing to check.
    --preset says what --speed trains.
    """
    from data_partition.doctor.diagnosis import diagnose

    if page is not None and page.suffix != ".html":
        raise ConfigError(f"--page: got {str(page)!r}, wanted a name that ends in .html")
    with LiveProgress(console) as live:
        diagnosis = diagnose(dataset, lambda done, total: live.progress("Reading frames", done, total))
    colours = {"error": "red", "warning": "yellow", "ok": "green"}
    for finding in diagnosis.findings:
        colour = colours[finding.severity]
        console.print(
            f"[{colour}]{finding.severity:>7}[/]  {escape(str(finding.where))}: {escape(finding.text)}",
            soft_wrap=True,
        )
    console.print(f"[bold]{escape(str(dataset))}: {diagnosis.verdict}[/]", soft_wrap=True)
    if page is not None:
        from data_partition.doctor.page import write_page

        with console.status("Writing the page"):
            write_page(page, diagnosis)
        _say_where({"Page": page})
    if diagnosis.has_errors:
        if speed:
            console.print("Speed: not measured, because of the errors")
        raise typer.Exit(1)
    if speed:
        from federation.speed import measure_speed

        chosen = _chosen(preset, None)
        settings = Settings.from_flat({**_sized_for(len(diagnosis.people), chosen), **chosen})
        with console.status("Measuring the speed"):
            lines = measure_speed([person.shard for person in diagnosis.people], settings).to_lines()
        for line in lines:
            console.print(line, soft_wrap=True)


@app.command()
def train(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder, as `prepare` or `synth` writes it.")],
    out: Annotated[Path, typer.Option(help="Run folder: checkpoints, history, settings.")],
    mode: Annotated[
        str, typer.Option(help="federated: one site per person; centralized: pooled frames; local: every person alone.")
    ] = "federated",
    model: Annotated[Network | None, typer.Option(help="GLR or the baseline; short for --set network=...")] = None,
    preset: Preset = "tiny",
    changes: Changes = None,
    resume: Annotated[bool, typer.Option(help="Go on from the newest checkpoint in the run folder.")] = False,
) -> None:
    """Train on this machine: a simulated federation, or centralized for comparison."""
    from server.training import Mode
    from server.training import train as train_on

    if mode not in list(Mode):
        raise ConfigError(f"--mode: got {mode!r}, wanted one of {', '.join(Mode)}")
    chosen = _chosen(preset, changes) | ({"network": model.value} if model else {})
    settings = _settings_for(dataset, chosen, {"output-dir": str(out.resolve()), "resume": resume})
    with LiveProgress(console) as live:
        live.start_rounds(settings.federation.max_rounds)
        runs = train_on(Mode(mode), settings, live.on_round)
    for run in runs:
        _say_where({"Run": run})
        _say_spent(run, settings)
    _say_where({"Next": f"fedreenact reenact {runs[0]} --source A.jpg --driving B.mp4 --out result.mp4"})


@app.command()
def submit(
    out: Annotated[Path, typer.Argument(help="Run folder, under the path that the server app knows; readable here.")],
    superlink: SuperLink = "127.0.0.1:8000",
    root_certificates: RootCertificates = None,
    preset: Preset = "tiny",
    changes: Changes = None,
) -> None:
    """Train on a deployed federation; goes on from the run folder, and again if the server app dies."""
    from server.flower.deployment import Supervisor

    settings = _deployed_settings(_chosen(preset, changes)).replaced({"output-dir": str(out)})
    if not out.is_absolute():
        raise ConfigError(f"run folder: got {str(out)!r}, wanted an absolute path, as the server app knows it")
    with _flower(superlink, root_certificates) as flower:
        reason = Supervisor(settings, flower, lambda row: console.print(round_line(row), soft_wrap=True)).run()
    console.print(f"ended: {escape(reason)}", soft_wrap=True)
    _say_where({"Run": out})


@app.command()
def register(
    keys: Annotated[
        list[str],
        typer.Argument(
            metavar="[PARTITION-ID=]KEY.pub",
            help="Public keys of the sites' SuperNodes; site-N.pub is the key of partition N - 1.",
        ),
    ],
    superlink: SuperLink = "127.0.0.1:8000",
    root_certificates: RootCertificates = None,
    sites_file: Annotated[
        Path | None, typer.Option(help="Also write down here which key is which site, for the setting sites-file.")
    ] = None,
) -> None:
    """Let sites with these keys into a federation that asks for keys; keys known before are no error."""
    from server.sites.sites_file import SiteKey, require_distinct, write_sites

    sites = [SiteKey.parse(key) for key in keys]
    require_distinct(sites)
    with _flower(superlink, root_certificates) as flower:
        for site in sites:
            console.print(
                f"{escape(str(site.path))}: partition {site.partition_id}, {escape(flower.register(site.path))}",
                soft_wrap=True,
            )
        if sites_file is None:
            console.print("[yellow]sites are not bound to their keys: --sites-file is missing[/]")
            return
        write_sites(sites_file, sites, flower.nodes_of_keys())
    _say_where({"Sites": sites_file})


@app.command()
def reenact(
    checkpoint: Annotated[Path, typer.Argument(help="A round's folder, or a run folder (newest round).")],
    source: Annotated[Path, typer.Option(help="Picture of the person to draw.")],
    driving: Annotated[Path, typer.Option(help="Picture or video that gives head movement and expression.")],
    out: Annotated[Path, typer.Option(help="Result: .jpg or .png, for a video .mp4 (no sound).")],
    landmarks: Annotated[
        Guidance,
        typer.Option(help="auto: driving for one person, LGAN for a known source, LSt otherwise."),
    ] = Guidance.AUTO,
    identity: Annotated[str, typer.Option(help="The source's name among the checkpoint's identities.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Draw the source person making the driving movement."""
    from model.training.trainer import pick_device
    from reenact.job import ReenactRequest, run_request

    request = ReenactRequest(
        checkpoint=checkpoint, source=source, driving=driving, out=out, landmarks=landmarks, identity=identity
    )
    with LiveProgress(console) as live:
        report = run_request(request, device=pick_device(device), progress=live.progress)
    console.print(f"{report.num_frames} frame(s), landmarks by {report.guidance}")
    if report.num_without_face:
        console.print(f"[yellow]{report.num_without_face} frames show no face and repeat the last result[/]")
    _say_where({"Result": report.out})


@app.command()
def evaluate(
    checkpoint: Annotated[Path | None, typer.Argument(help="A round's folder, or a run folder (newest round).")] = None,
    dataset: Annotated[Path | None, typer.Argument(help="Dataset with people the checkpoint knows.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for tables, values of every pair and sheets.")] = None,
    protocol: Annotated[
        str, typer.Option(help="self, self-any, cross, all (of these), cross-unseen, self-unseen: who drives whom.")
    ] = "all",
    num_pairs: Annotated[int, typer.Option(help="Pairs of each person and protocol, at most.")] = 200,
    in_all: Annotated[
        bool, typer.Option("--in-all", help="--num-pairs is meant for all people of a protocol together.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the pairs and of the intervals.")] = 0,
    pairs: Annotated[Path | None, typer.Option(help="A pairs.csv to evaluate instead of drawing pairs.")] = None,
    landmarks: Annotated[Guidance, typer.Option(help="As for `reenact`.")] = Guidance.AUTO,
    embedder: Annotated[str, typer.Option(help="Who measures CSIM: sface, or arcface or dlib if installed.")] = "sface",
    frames_out: Annotated[
        Path | None, typer.Option(help="Keep every analysed picture here, for OpenFace to look at.")
    ] = None,
    openface: Annotated[
        Path | None, typer.Option(help="Such a folder after OpenFace: pose and action units from its CSV files.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    self_check: Annotated[
        Path | None, typer.Option(metavar="DATASET", help="Check the metrics themselves on a dataset, no checkpoint.")
    ] = None,
) -> None:
    """Measure a checkpoint and baselines on held-out frames, with intervals."""
    from evaluation.faces.embedders import embedder_named
    from evaluation.job import EvaluationRequest, run_evaluation
    from evaluation.pairs import protocols_named
    from evaluation.self_check.check import self_check_dataset
    from model.training.trainer import pick_device

    if self_check is not None:
        checked = self_check_dataset(self_check, embedder_named(embedder))
        console.print(rich_table(checked.figures), rich_table(checked.checks))
        raise typer.Exit(0 if checked.holds else 1)
    if checkpoint is None or dataset is None or out is None:
        raise ConfigError("evaluate: wanted CHECKPOINT DATASET --out FOLDER, or --self-check DATASET")
    request = EvaluationRequest(
        checkpoint=checkpoint,
        dataset=dataset,
        out=out,
        protocols=protocols_named(protocol),
        num_pairs=num_pairs,
        is_total=in_all,
        seed=seed,
        pairs=pairs,
        landmarks=landmarks,
        embedder=embedder,
        frames_out=frames_out,
        openface=openface,
    )
    with LiveProgress(console) as live:
        report = run_evaluation(request, device=pick_device(device), progress=live.progress)
    console.print(*map(rich_table, report.tables))
    _say_where(report.files)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Run folder, as `train` writes it.")],
    out: Annotated[Path, typer.Option(help="The page, .html; JSON and Markdown are written beside it.")],
    evaluation: Annotated[
        list[Path] | None, typer.Option(help="Results of `evaluate` to show; repeat for more.")
    ] = None,
) -> None:
    """Write one self-contained page about a run: results, curves, sheets, its audit, settings, data, versions."""
    from experiments.report import read_report
    from experiments.report_page import write_report

    if out.suffix != ".html":
        raise ConfigError(f"--out: got {str(out)!r}, wanted a file that ends in .html")
    _say_where(write_report(out, read_report(run, evaluation or [])))


@app.command()
def audit(
    run: Annotated[Path, typer.Argument(help="Run folder, as `train` writes it, or a round's folder.")],
    dataset: Annotated[Path, typer.Argument(help="The run's people; other people besides for membership of people.")],
    out: Annotated[Path | None, typer.Option(help="Folder for page, figures and charts; default is RUN.")] = None,
    reference: Annotated[
        list[Path] | None, typer.Option(help="A run trained without some of the people, to compare with; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of pairs, of the attacks and of the intervals.")] = 0,
) -> None:
    """Attack a trained run: who and what was trained on, whose landmarks they are, which frames can be read."""
    from experiments.audit.audit import AuditRequest, run_audit

    request = AuditRequest(
        run=run, dataset=dataset, references=tuple(reference or ()), out=out if out is not None else run, seed=seed
    )
    with LiveProgress(console) as live:
        found, files = run_audit(request, live.progress)
    for section in found.sections:
        console.print(*map(rich_table, section.tables))
        for reason in section.not_measured:
            console.print(f"[yellow]not measurable:[/] {escape(reason)}", soft_wrap=True)
    _say_where(files)


@app.command()
def gap(
    first: Annotated[Path, typer.Argument(help="Results of `evaluate`, for example of a centralized model.")],
    second: Annotated[Path, typer.Argument(help="Results of another model on the same pairs (`--pairs`).")],
    seed: Annotated[int, typer.Option(help="Of the bootstrap over pairs.")] = 0,
) -> None:
    """Say what the second model loses against the first, (first - second) / first, with intervals."""
    from evaluation.figures.gap import gap_table, gaps, read_pair_values

    console.print(rich_table(gap_table(gaps([read_pair_values(first)], [read_pair_values(second)], seed=seed))))


@app.command()
def experiment(
    table: Annotated[str, typer.Argument(help="table-4-2 to table-4-7 of the thesis.")],
    dataset: Annotated[Path, typer.Argument(help="Dataset to train and evaluate on.")],
    out: Annotated[Path, typer.Option(help="Folder of tables and trainings; run again to go on, or for more tables.")],
    seeds: Annotated[int, typer.Option(help="Trainings of each model.")] = 3,
    budget: Annotated[
        int, typer.Option(help="Optimiser steps of each model, all sites together; 0: as the preset.")
    ] = 0,
    num_pairs: Annotated[int, typer.Option(help="Evaluation pairs of each person, at most.")] = 200,
    unseen: Annotated[Path | None, typer.Option(help="Dataset of people not trained on, for table-4-3.")] = None,
    backbone: Annotated[str, typer.Option(help="vit or resnet34 for every row; as in the thesis if not given.")] = "",
    preset: Preset = "tiny",
    changes: Changes = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained, and end.")] = False,
) -> None:
    """Make a table of the thesis on your own data: train what is missing, evaluate, write it beside the printed one."""
    from experiments.command import experiment_request, run_on_this_machine
    from experiments.experiment import plan, plan_table

    settings = _settings_for(dataset, _chosen(preset, changes), {})
    request = experiment_request(
        table,
        settings,
        out=out.resolve(),
        num_seeds=seeds,
        num_steps=budget,
        num_pairs=num_pairs,
        unseen=unseen,
        backbone=backbone,
    )
    console.print(rich_table(plan_table(plan(request))))
    if dry_run:
        return
    with LiveProgress(console) as live:
        report = run_on_this_machine(request, live)
    console.print(*map(rich_table, report.tables))
    _say_where(report.files)


@app.command()
def demo(out: Annotated[Path, typer.Argument(help="Folder for everything the demonstration makes.")]) -> None:
    """Five synthetic people, federated training, comparison sheets and one HTML page: about ten minutes."""
    from experiments.demo import run_demo

    with LiveProgress(console) as live:
        report = run_demo(out, Settings.from_flat(_preset("tiny")), live)
    console.print(*map(rich_table, report.tables))
    places = {"Dataset": report.dataset, "Run": report.run, "Tables, sheets, clip": report.results, "Page": report.page}
    _say_where(places)


@app.command()
def egress(preset: Preset = "tiny", changes: Changes = None) -> None:
    """Print all that leaves a site in a run with these settings: every tensor, every number, what comes with them."""
    from client.consent.egress import BESIDES, inventory
    from evaluation.figures.tables import TextTable

    settings = Settings.from_flat(_chosen(preset, changes))
    items = inventory(settings)
    rows = tuple((i.when, i.name, "x".join(map(str, i.shape)) or "number", i.dtype, f"{i.num_bytes:,}") for i in items)
    console.print(rich_table(TextTable(title="Egress", header=("when", "name", "shape", "type", "bytes"), rows=rows)))
    once, each = (sum(item.num_bytes for item in items if item.when == when) for when in ("once", "every round"))
    rounds = settings.federation.max_rounds
    console.print(
        f"once {once:,} bytes, every round {each:,} bytes; {rounds} rounds at most: {once + rounds * each:,} bytes. "
        "Frames, paths and landmarks of frames never leave. Besides leave:",
        soft_wrap=True,
    )
    for name, what in BESIDES:
        console.print(f"- {name}: {what}", soft_wrap=True)


@app.command()
def approve(
    settings: Annotated[
        str, typer.Argument(metavar="SETTINGS", help="A TOML file of settings; or tiny, small, paper.")
    ],
    out: Annotated[Path | None, typer.Option(help="The file to write, for the site's node config.")] = None,
    changes: Changes = None,
    limit: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A limit of the site's node config; repeat for more.")
    ] = None,
) -> None:
    """Say what a run with these settings may do at a site, and write down that the site agrees to it."""
    from client.consent import summary as approval_summary
    from client.consent.approval import Approval
    from client.consent.policy import SitePolicy

    approval = Approval(_deployed_settings(_chosen(settings, changes)))
    policy = SitePolicy.from_texts(limit or [])
    policy.check_settings(approval.settings)
    _say_lines("Allows", approval_summary.allowed(approval.settings))
    _say_lines("Leaves this site", approval_summary.leaving(approval.settings))
    _say_lines("Limits of this site", approval_summary.limits(policy))
    _say_lines("Known to leak", approval_summary.warnings(approval.settings, policy), style="yellow")
    digest = " ".join(approval.sha256[start : start + 8] for start in range(0, 64, 8))
    _say_where({"SHA-256, the same at every site that approved this": digest})
    if out is None:
        console.print("Nothing is approved: --out FILE writes it down")
        return
    approval.write(out)
    _say_where({"Approved": out})


@app.command()
def status(
    run: Annotated[Path, typer.Argument(help="Run folder, or a folder of runs (the newest is shown).")],
) -> None:
    """Say where a run stands: rounds, losses, sites, the last errors. Exit code 1 if it failed or is lost."""
    import time

    from server.monitoring.run_view import RunView, newest_run
    from server.monitoring.status_report import last_errors, sites_table, status_lines

    folder = newest_run(run)
    if folder is None:
        raise ConfigError(f"{run} holds no run yet")
    now = time.time()
    view = RunView.read(folder)
    for line in status_lines(view, now):
        console.print(escape(line), soft_wrap=True)
    console.print(rich_table(sites_table(view, now)))
    for line in last_errors(view):
        console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)
    if view.state(now) in ("failed", "lost"):
        raise typer.Exit(1)


@app.command()
def exporter(
    runs: Annotated[Path, typer.Argument(help="Run folder, or a folder of runs (the newest is shown).")],
    port: Annotated[int, typer.Option(help="Where to answer Prometheus, at /metrics.")] = 9464,
    superlink_log: Annotated[
        Path | None, typer.Option(help="The SuperLink's --log-file, to count refused connections.")
    ] = None,
    certificate: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE, repeatable: a certificate (PEM) whose end is told.")
    ] = None,
) -> None:
    """Serve a run's numbers to Prometheus, during training and after it."""
    from server.monitoring.exporter import certificate_files, serve

    serve(runs, port=port, superlink_log=superlink_log, certificates=certificate_files(certificate or []))


@app.command()
def weights(
    download: Annotated[str, typer.Option(help="Fetch one file from its official address: vgg19.")] = "",
) -> None:
    """Say which pretrained model files are there, and how to get the others."""
    from model.errors import WeightsError
    from model.weights import SOURCES, resolve
    from model.weights import download as fetch

    if download:
        _say_where({download: fetch(download)})
        return
    for name in SOURCES:
        try:
            console.print(f"[green]  found[/]  {name}: {escape(str(resolve(name)))}", soft_wrap=True)
        except WeightsError as error:
            console.print(f"[yellow]missing[/]  {escape(str(error))}", soft_wrap=True)


@app.command()
def settings(preset: Preset = "paper", changes: Changes = None) -> None:
    """Print all settings as TOML, as `flwr run . --run-config FILE` reads it; see docs/settings.md."""
    resolved = Settings.from_flat(_chosen(preset, changes))
    for key, value in resolved.to_flat().items():
        sys.stdout.write(f"{key} = {json.dumps(value, ensure_ascii=False)}\n")


def _say_lines(title: str, lines: list[str], style: str = "") -> None:
    console.print(f"[bold]{escape(title)}:[/]")
    for line in lines:
        console.print(f"  {line}", style=style, markup=False, soft_wrap=True)


def _say_where(places: Mapping[str, object]) -> None:
    for name, place in places.items():
        console.print(f"[bold]{escape(name)}:[/] {escape(str(place))}", soft_wrap=True)


@contextlib.contextmanager
def _flower(superlink: str, root_certificates: Path | None) -> Iterator[FlowerCommands]:
    """Flower's commands, connected to a SuperLink, with files in a folder that does not stay."""
    from server.flower.commands import FlowerCommands

    if root_certificates is not None and not root_certificates.is_file():
        raise ConfigError(f"--root-certificates: {root_certificates} does not exist")
    with tempfile.TemporaryDirectory(prefix="fedreenact-") as home:
        flower = FlowerCommands(Path(home))
        flower.connect(superlink, root_certificates.resolve() if root_certificates else None)
        yield flower


def _preset(name: str) -> dict[str, Scalar]:
    """The settings of a preset's name or TOML file."""
    path = Path(name) if name.endswith(".toml") else PRESET_FOLDER / f"{name}.toml"
    if not name.endswith(".toml") and not path.is_file():
        names = ", ".join(sorted(file.stem for file in PRESET_FOLDER.glob("*.toml")))
        raise ConfigError(f"--preset: got {name!r}, wanted one of {names}, or a file that ends in .toml")
    return read_preset(path)


def _chosen(preset: str, changes: list[str] | None) -> dict[str, Scalar]:
    """The preset's settings and the changes to them."""
    return {**_preset(preset), **dict(_parse_change(change) for change in changes or [])}


def _parse_change(change: str) -> tuple[str, Scalar]:
    """Key and value of KEY=VALUE, the value in the type of the setting's default."""
    key, separator, text = change.partition("=")
    if not separator:
        raise ConfigError(f"--set: got {change!r}, wanted KEY=VALUE, for example --set max-rounds=20")
    default = Settings().to_flat().get(key.strip(), "")
    if isinstance(default, str):
        return key.strip(), text
    try:
        return key.strip(), json.loads(text.lower())
    except ValueError as error:
        kind = {bool: "true or false", int: "a whole number", float: "a number"}[type(default)]
        raise ConfigError(f"--set {key}: got {text!r}, wanted {kind}") from error


def _settings_for(dataset: Path, chosen: Mapping[str, Scalar], places: Mapping[str, Scalar]) -> Settings:
    """Chosen settings for a dataset, sized for the people in it."""
    from data_partition.shards.shard import open_dataset

    sized = _sized_for(len(open_dataset(dataset)), chosen)
    return Settings.from_flat({**sized, **chosen, "data-dir": str(dataset.resolve()), **places})


def _say_spent(run: Path, settings: Settings) -> None:
    """Optimiser steps and samples of a run, over all its clients, and how it ended."""
    from server.run_folder.folder import read_history, read_result, spent

    rows, result = read_history(run), read_result(run) or {}
    steps, samples = spent(rows, settings)
    ended = escape(result.get("reason", ""))
    console.print(
        f"{len(rows)} rounds, {steps} optimiser steps, {samples} samples seen; ended: {ended}", soft_wrap=True
    )


def _deployed_settings(chosen: Mapping[str, Scalar]) -> Settings:
    """Chosen settings for a deployed federation, whose people the command does not see."""
    return Settings.from_flat({**_sized_for(Settings().model.num_identities, chosen), **chosen})


def _sized_for(num_identities: int, chosen: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """As many embedding rows and sites as there are people, for settings that are not chosen."""
    num_clients = chosen.get("num-clients", num_identities)
    return {
        "num-identities": num_identities,
        "num-clients": num_clients,
        "min-fit-clients": min(int(num_clients), Settings().federation.min_fit_clients),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; an error a user can cause becomes one line on stderr and exit code 2, SIGTERM one and 143."""
    os.umask(0o077)  # faces, and what is trained on them, are for the user who made them
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        app(args=arguments, prog_name="fedreenact")
    except TerminatedError as error:
        error_console.print(f"{escape(str(error))}; what is finished is kept, --resume goes on", soft_wrap=True)
        raise SystemExit(EXIT_CODE) from None
    except (FedreenactError, OSError) as error:
        error_console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
