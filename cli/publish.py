"""Commands that make a trained model ready to be handed on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cli.options import file_to_write, folder_to_write
from cli.terminal import console, say_where

if TYPE_CHECKING:
    from experiments.card.card import CardRequest

Run = Annotated[Path, typer.Argument(help="Run folder, as `train` writes it, or a round's folder.")]
Evaluations = Annotated[
    list[Path] | None, typer.Option("--evaluation", help="Results of `evaluate` to tell of; repeat for more.")
]
AuditFolder = Annotated[
    Path | None, typer.Option("--audit", help="Results of `audit` to tell of; default: those in RUN.")
]
Dataset = Annotated[
    Path | None, typer.Option(help="With the people's records of consent; default: where the run found it.")
]


def card(
    run: Run,
    evaluation: Evaluations = None,
    audit: AuditFolder = None,
    dataset: Dataset = None,
    out: Annotated[
        Path | None, typer.Option(callback=file_to_write, help="The card, Markdown; default: card.md in RUN.")
    ] = None,
) -> None:
    """Write a run's model card in the Hugging Face hub's format; it names nobody, no site and no place."""
    from experiments.card.card import CARD_NAME, read_card, render_card
    from model.checkpoint import run_folder_of
    from model.files import write_text

    path = out if out is not None else run_folder_of(run) / CARD_NAME
    write_text(path, render_card(read_card(_request(run, evaluation, audit, dataset))))
    say_where({"Card": path})


def release(
    run: Run,
    out: Annotated[Path, typer.Argument(callback=folder_to_write, help="Folder to make.")],
    evaluation: Evaluations = None,
    audit: AuditFolder = None,
    dataset: Dataset = None,
    onnx: Annotated[Path | None, typer.Option(help="The same model as `export` writes it, to be added.")] = None,
) -> None:
    """Bundle what drawing needs with card, licence and checksums, and note in RUN who is who in it."""
    from data_partition.consent.releases import RELEASES_NAME
    from experiments.card.release import release_run
    from model.checkpoint import run_folder_of

    made = release_run(_request(run, evaluation, audit, dataset), out, onnx)
    console.print(f"{len(made.people)} people, as {escape(', '.join(made.people))}", soft_wrap=True)
    say_where({"Release": made.folder, "Who is who, to be kept for withdrawals": run_folder_of(run) / RELEASES_NAME})


def export(
    run: Run,
    out: Annotated[Path, typer.Argument(callback=file_to_write, metavar="MODEL.onnx", help="File to write.")],
) -> None:
    """Write the model as one ONNX file, which draws as PyTorch does; `reenact` and `serve` take it in place of RUN."""
    from reenact.exported.export import export as export_file

    report = export_file(run, out)
    console.print(
        f"{report.num_bytes / 1e6:.1f} MB; pictures differ from PyTorch's by {report.difference:.1e} of their range"
    )
    say_where({"Model": report.out})


def _request(run: Path, evaluations: list[Path] | None, audit: Path | None, dataset: Path | None) -> CardRequest:
    from experiments.card.card import CardRequest

    return CardRequest(run=run, evaluations=tuple(evaluations or ()), audit=audit, dataset=dataset)
