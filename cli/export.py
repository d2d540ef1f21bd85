"""The command that writes a trained model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import file_to_write
from cli.terminal import console, say_where


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A round's folder, or a run folder (newest round).")],
    out: Annotated[Path, typer.Argument(callback=file_to_write, metavar="MODEL.onnx", help="File to write.")],
) -> None:
    """Write the model as one ONNX file, which draws as PyTorch does; `reenact` and `serve` take it for a checkpoint."""
    from reenact.exported.export import export as export_file

    report = export_file(checkpoint, out)
    console.print(
        f"{report.num_bytes / 1e6:.1f} MB; pictures differ from PyTorch's by {report.difference:.1e} of their range"
    )
    say_where({"Model": report.out})
