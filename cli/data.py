"""Commands that make and check datasets.

They import what they need themselves: `fedreenact --help` should not wait for PyTorch and Flower.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import click
import typer
from rich.markup import escape

from cli.options import (
    MAX_SEED,
    Workers,
    chosen_settings,
    file_to_write,
    folder_to_write,
    sized_for,
)
from cli.terminal import LiveProgress, console, say_where, saying_when_interrupted
from data_partition.sources.names import Layout
from federation.settings import Settings
from model.errors import ConfigError

AUTO = "auto"
MAX_FACES = 99


def prepare(
    src: Annotated[Path, typer.Argument(help="Folder with a video, or a folder of videos or frames, per person.")],
    out: Annotated[Path, typer.Argument(callback=folder_to_write, help="Dataset folder to write; one shard a person.")],
    layout: Annotated[
        str,
        typer.Option(
            click_type=click.Choice([AUTO, *(layout.value for layout in Layout)]),
            help="How SRC is built: docs/data.md. auto looks, and says what it saw.",
        ),
    ] = AUTO,
    size: Annotated[int, typer.Option(help="Side of the face crops, pixels.")] = 256,
    workers: Workers = None,
    face: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=N", help="Whose face of several: of person NAME the Nth from the left; repeatable."),
    ] = None,
    mesh: Annotated[
        bool, typer.Option("--mesh", help="Also keep every face's mesh, 3 KB a frame, which --model meshgcn needs.")
    ] = False,
    preview: Annotated[
        Path | None,
        typer.Option(callback=file_to_write, help="Write a picture (.png) of all clips with several faces, and end."),
    ] = None,
) -> None:
    """Turn videos, pictures or published datasets into annotated face crops; what is finished is skipped."""
    from data_partition.preparation.prepare import is_prepared
    from data_partition.preparation.prepare import prepare as prepare_dataset

    if src.is_dir() and is_prepared(src):
        if src.resolve() != out.resolve():
            raise ConfigError(
                f"{src}: a prepared dataset already, wanted videos or pictures; use it, or copy it to {out}"
            )
        console.print(f"{escape(str(src))} is a prepared dataset already; nothing to do", soft_wrap=True)
        return
    chosen_layout, faces = None if layout == AUTO else Layout(layout), dict(map(_parse_face, face or []))
    if preview is not None:
        _write_preview(preview, src, chosen_layout, faces)
        return
    with saying_when_interrupted("stopped; the same command goes on from there"), LiveProgress(console) as live:
        report = prepare_dataset(
            src,
            out,
            layout=chosen_layout,
            size_px=size,
            num_workers=workers,
            progress=live.progress,
            faces=faces,
            with_mesh=mesh,
        )
    for line in report.to_lines():
        console.print(escape(line), soft_wrap=True)
    say_where(
        {f"Dataset {one.path.name}": one.path for one in report.datasets}
        | {"Every 50th crop": report.datasets[0].contact_sheet, "Left out": report.rejected_csv}
    )


def _parse_face(text: str) -> tuple[str, int]:
    """Person and number of NAME=N."""
    name, _, number = text.rpartition("=")
    if not name or not number.isascii() or not number.isdigit() or not 1 <= int(number[:4]) <= MAX_FACES:
        raise ConfigError(f"--face: got {text!r}, wanted NAME=N, N from 1 to {MAX_FACES}, for example --face anna=2")
    return name, int(number)


def _write_preview(path: Path, src: Path, layout: Layout | None, faces: dict[str, int]) -> None:
    """Lines and a picture of the clips that show several faces."""
    from data_partition.preparation.preview import find_several_faces, write_preview

    if path.suffix.lower() != ".png":
        raise ConfigError(f"--preview: got {str(path)!r}, wanted a name that ends in .png")
    with console.status("Looking for faces"):
        clips = list(find_several_faces(src, layout, faces))
    for clip in clips:
        console.print(escape(clip.to_line()), soft_wrap=True)
    if not clips:
        console.print("no clip shows several faces; no picture is written")
        return
    write_preview(path, clips)
    say_where({"Faces": path})


def synth(
    out: Annotated[
        Path, typer.Argument(callback=folder_to_write, help="Dataset folder to write; one shard an identity.")
    ],
    identities: Annotated[int, typer.Option(help="Number of people.")] = 5,
    frames: Annotated[int, typer.Option(help="Frames of each.")] = 400,
    size: Annotated[int, typer.Option(help="Side of the frames, pixels.")] = 128,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="The same seed draws the same people.")] = 0,
    workers: Workers = None,
) -> None:
    """Draw talking heads with exact labels, for trying things out without anybody's face."""
    from data_partition.synth.dataset import synthesize

    with console.status(f"Drawing {identities} x {frames} frames"):
        shards = synthesize(
            out, num_identities=identities, num_frames=frames, size_px=size, seed=seed, num_workers=workers
        )
    say_where({shard.name: shard for shard in shards})


def doctor(
    dataset: Annotated[
        Path | None, typer.Argument(help="Dataset folder, or one shard; --speed alone needs none.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(callback=file_to_write, help="Also write a page with pictures and histograms: .html.")
    ] = None,
    speed: Annotated[
        bool,
        typer.Option("--speed", help="Also measure loader and trainer; without a dataset: what presets cost here."),
    ] = False,
    preset: Annotated[
        str | None, typer.Option(help="What --speed trains: tiny, small, studio, paper or a file.")
    ] = None,
) -> None:
    """Check a dataset and say in words what is wrong.

    Exit code 0: fit for training, warnings or not, or for evaluation only. 1: an error was found. 2: nothing to check.
    --speed trains tiny on the dataset; without a dataset tiny and small, on a GPU paper and studio too.
    """
    from data_partition.doctor.diagnosis import diagnose

    if preset is not None and not speed:
        raise ConfigError(f"--preset: got {preset!r} without --speed, which it is for; add that, or leave this out")
    if dataset is None:
        if not speed or page is not None:
            raise ConfigError("doctor: got no DATASET, wanted one, or --speed alone for what training costs here")
        from cli.costs import say_costs

        say_costs([preset] if preset else None)
        return
    if page is not None and page.suffix != ".html":
        raise ConfigError(f"--page: got {str(page)!r}, wanted a name that ends in .html")
    chosen = chosen_settings(preset or "tiny", None) if speed else {}
    with LiveProgress(console) as live:
        diagnosis = diagnose(dataset, live.progress)
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
        say_where({"Page": page})
    if diagnosis.has_errors:
        if speed:
            console.print("Speed: not measured, because of the errors")
        raise typer.Exit(1)
    if speed:
        from federation.speed import measure_speed

        settings = Settings.from_flat({**sized_for(len(diagnosis.people), chosen), **chosen})
        with console.status("Measuring the speed"):
            lines = measure_speed([person.shard for person in diagnosis.people], settings).to_lines()
        for line in lines:
            console.print(line, soft_wrap=True)
