"""Commands that use and measure a trained model.

They import what they need themselves: `fedreenact --help` should not wait for PyTorch and Flower.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cli.options import MAX_SEED, Embedder, file_to_write, folder_to_write
from cli.terminal import LiveProgress, console, rich_table, say_where, saying_when_interrupted
from data_partition.consent.kinds import WithoutConsent
from model.errors import ConfigError
from reenact.guidance_choice import Guidance, MotionKind
from reenact.marks.kinds import LabelException

if TYPE_CHECKING:
    import torch

    from reenact.request import ReenactRequest

NOT_ALL_DRAWN = 1
"""Exit code of a batch in which some pair has no result."""
_DRAWS = "A round's folder, a run folder (newest round), a file of `export`, or first-order-model's published one."


def reenact(
    checkpoint: Annotated[Path, typer.Argument(help=_DRAWS)],
    source: Annotated[
        list[Path],
        typer.Option(help="Person to draw: picture, video, folder of pictures, or shard; repeat for more."),
    ],
    driving: Annotated[Path, typer.Option(help="Picture or video that gives head movement and expression.")],
    out: Annotated[Path, typer.Option(help="Result: .jpg or .png, for a video .mp4 with its sound.")],
    landmarks: Annotated[
        Guidance,
        typer.Option(help="auto: driving for one person, LGAN for a known source, base or else LSt otherwise."),
    ] = Guidance.AUTO,
    motion: Annotated[
        MotionKind,
        typer.Option(help="relative: to the driving frame most like the source; auto: so, where a video drives."),
    ] = MotionKind.AUTO,
    strength: Annotated[
        list[str] | None,
        typer.Option(metavar="REGION=NUMBER", help="Of pose, mouth, eyes or brows: 0 still, 1 as driven, up to 3."),
    ] = None,
    paste: Annotated[
        bool, typer.Option("--paste", help="Put the result back into the source's whole picture.")
    ] = False,
    preview: Annotated[
        Path | None,
        typer.Option(
            callback=file_to_write, help="Picture of crops, chosen sources and reference frame, drawn before the run."
        ),
    ] = None,
    batch: Annotated[
        bool,
        typer.Option(
            "--batch",
            help="SOURCE, DRIVING and OUT are folders: all sources, each by all drivings; exit code 1 if one fails.",
        ),
    ] = False,
    face: Annotated[
        int, typer.Option(min=0, max=99, help="Which of several faces in SOURCE, from 1 on the left; 0: the largest.")
    ] = 0,
    driving_face: Annotated[int, typer.Option(min=0, max=99, help="The same in DRIVING.")] = 0,
    identity: Annotated[str, typer.Option(help="The source's name among the checkpoint's identities.")] = "",
    consent: Annotated[
        Path | None,
        typer.Option(help="Record of who is drawn, or shard or dataset that has the face; default: what lies with it."),
    ] = None,
    without_consent: Annotated[
        WithoutConsent | None,
        typer.Option(help="What a source is that has no record of consent; it is written into the manifest."),
    ] = None,
    without_label: Annotated[
        LabelException | None,
        typer.Option(help="No visible label, by this exception of the AI Act; it is written into the manifest."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Draw the source person making the driving movement; stopped by Ctrl-C, the same command goes on."""
    from model.training.trainer import pick_device
    from reenact.movement import Strengths
    from reenact.request import ReenactRequest

    (folder_to_write if batch else file_to_write)(out)
    request = ReenactRequest(
        checkpoint=checkpoint,
        sources=tuple(source),
        driving=driving,
        out=out,
        landmarks=landmarks,
        motion=motion,
        strengths=Strengths.parse(strength or ()),
        is_pasted=paste,
        preview=preview,
        face=face,
        driving_face=driving_face,
        identity=identity,
        consent=consent,
        without_consent=without_consent,
        label_exception=without_label,
    )
    with saying_when_interrupted("stopped; finished pieces are kept, the same command goes on from there"):
        (_reenact_all if batch else _reenact_one)(request, pick_device(device))


def _reenact_one(request: ReenactRequest, device: torch.device) -> None:
    from reenact.studio import run_request

    with LiveProgress(console) as live:
        report = run_request(request, device=device, progress=live.progress)
    console.print(str(report), soft_wrap=True)
    for gap in report.gaps:
        console.print(f"[yellow]{gap}[/]")
    label = "no label" if request.label_exception else "visible label"
    console.print(f"marked: {label}, watermark and signed manifest, record {report.record:06x}", soft_wrap=True)
    console.print(escape(str(report.permission)), soft_wrap=True)
    places = {"Result": report.out, "Sound": report.sound, "Preview": request.preview}
    say_where({name: place for name, place in places.items() if place})


def _reenact_all(request: ReenactRequest, device: torch.device) -> None:
    from reenact.batch import TABLE_NAME, BatchRow, run_batch

    def say(row: BatchRow) -> None:
        outcome = row.result if row.result else f"[yellow]{escape(row.problem)}[/]"
        console.print(f"{escape(row.source)} by {escape(row.driving)}: {outcome}", soft_wrap=True)

    with LiveProgress(console) as live:
        rows = run_batch(request, device=device, progress=live.progress, on_row=say)
    num_done = sum(bool(row.result) for row in rows)
    console.print(f"{num_done} of {len(rows)} results")
    say_where({"Table": request.out / TABLE_NAME})
    if num_done < len(rows):
        raise typer.Exit(NOT_ALL_DRAWN)


def serve(
    checkpoint: Annotated[Path, typer.Argument(help=_DRAWS)],
    host: Annotated[
        str, typer.Option(help="Address to listen at; at another than this machine's own, browsers need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8765,
    certificate: Annotated[Path | None, typer.Option(help="For https: certificate and its chain, PEM.")] = None,
    private_key: Annotated[Path | None, typer.Option(help="For https: its key, PEM.")] = None,
    consent: Annotated[
        Path | None,
        typer.Option(help="Dataset of people who agreed to be drawn; sources are compared with their faces."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Draw and check files on a page in a browser, also live from a camera; ended by Ctrl-C, it deletes all uploads."""
    from model.training.trainer import pick_device
    from reenact.page.server import PageServer

    logging.getLogger("reenact.page").setLevel(logging.INFO)
    server = PageServer(
        checkpoint,
        pick_device(device),
        host=host,
        port=port,
        certificate=certificate,
        private_key=private_key,
        consent=consent,
    )
    if server.is_open_to_listeners:
        console.print("[yellow]no https: whoever is on the way reads token and faces; see --certificate[/]")
    say_where({"Page": server.address})
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    console.print("ended; uploads and results are deleted")


def evaluate(
    checkpoint: Annotated[Path | None, typer.Argument(help=_DRAWS)] = None,
    dataset: Annotated[Path | None, typer.Argument(help="Dataset with people the checkpoint knows.")] = None,
    out: Annotated[
        Path | None, typer.Option(callback=folder_to_write, help="Folder for tables, values of every pair and sheets.")
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="self, self-any, cross, all (of these), cross-unseen, self-unseen: who drives whom.")
    ] = "all",
    num_pairs: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Pairs of each person and protocol, at most.")
    ] = 200,
    in_all: Annotated[
        bool, typer.Option("--in-all", help="--num-pairs is meant for all people of a protocol together.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the pairs and of the intervals.")] = 0,
    pairs: Annotated[Path | None, typer.Option(help="A pairs.csv to evaluate instead of drawing pairs.")] = None,
    landmarks: Annotated[Guidance, typer.Option(help="As for `reenact`.")] = Guidance.AUTO,
    motion: Annotated[
        MotionKind, typer.Option(help="relative: to the frame of the driving clip most like the source; auto: so.")
    ] = MotionKind.ABSOLUTE,
    num_sources: Annotated[
        int,
        typer.Option(
            min=1, max=32, help="Source frames of each result; above 1 the nearest of 32 training frames of the clip."
        ),
    ] = 1,
    embedder: Embedder = "sface",
    frames_out: Annotated[
        Path | None,
        typer.Option(callback=folder_to_write, help="Keep every analysed picture here, for OpenFace to look at."),
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
        console.print(*map(rich_table, checked.figures), rich_table(checked.checks))
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
        motion=motion,
        num_sources=num_sources,
        embedder=embedder,
        frames_out=frames_out,
        openface=openface,
    )
    with LiveProgress(console) as live:
        report = run_evaluation(request, device=pick_device(device), progress=live.progress)
    console.print(*map(rich_table, report.tables))
    say_where(report.files)


def report(
    run: Annotated[Path, typer.Argument(help="Run folder, as `train` writes it.")],
    out: Annotated[
        Path, typer.Option(callback=file_to_write, help="The page, .html; JSON and Markdown are written beside it.")
    ],
    evaluation: Annotated[
        list[Path] | None, typer.Option(help="Results of `evaluate` to show; repeat for more.")
    ] = None,
) -> None:
    """Write one self-contained page about a run: results, curves, sheets, its audit, settings, data, versions."""
    from experiments.report import read_report
    from experiments.report_page import write_report

    if out.suffix != ".html":
        raise ConfigError(f"--out: got {str(out)!r}, wanted a file that ends in .html")
    say_where(write_report(out, read_report(run, evaluation or [])))


def audit(
    run: Annotated[Path, typer.Argument(help="Run folder, as `train` writes it, or a round's folder.")],
    dataset: Annotated[Path, typer.Argument(help="The run's people; other people besides for membership of people.")],
    out: Annotated[
        Path | None, typer.Option(callback=folder_to_write, help="Folder for page, figures and charts; default is RUN.")
    ] = None,
    reference: Annotated[
        list[Path] | None, typer.Option(help="A run trained without some of the people, to compare with; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of pairs, of the attacks and of the intervals.")] = 0,
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
    say_where(files)


def gap(
    first: Annotated[Path, typer.Argument(help="Results of `evaluate`, for example of a centralized model.")],
    second: Annotated[Path, typer.Argument(help="Results of another model on the same pairs (`--pairs`).")],
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the bootstrap over pairs.")] = 0,
) -> None:
    """Say what the second model loses against the first, (first - second) / first, with intervals."""
    from evaluation.figures.gap import gap_table, gaps, read_pair_values

    console.print(rich_table(gap_table(gaps([read_pair_values(first)], [read_pair_values(second)], seed=seed))))
