"""Commands about the marks of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli.terminal import console, say_where

NOT_MARKED = 1
"""Exit code for a file without any mark."""


def verify(
    file: Annotated[Path, typer.Argument(help="Picture or video, whoever made it.")],
    anchor: Annotated[
        list[Path] | None, typer.Option(help="Root certificate to trust (PEM) besides your own; repeat for more.")
    ] = None,
) -> None:
    """Say which marks of a drawn face a file has; exit code 1 if it has none. Needs no model."""
    from reenact.marks.in_words import NO_MARK, marks_in_words

    found = marks_in_words(file, anchors=anchor or ())
    for name, text in found.lines:
        console.print(f"[bold]{name}:[/] {escape(text)}", soft_wrap=True)
    if not found.is_marked:
        console.print(NO_MARK, soft_wrap=True)
        raise typer.Exit(NOT_MARKED)


def key(
    organisation: Annotated[str, typer.Option(help="Who stands in the certificate, when the key is made.")] = "",
) -> None:
    """Make the key that results are signed with, if there is none, and say where it and its trust anchor are."""
    from reenact.marks.key import FOLDER_VARIABLE, marking_key

    made = marking_key(organisation)
    console.print(f"of {escape(repr(made.owner()))}; {FOLDER_VARIABLE} names another folder", soft_wrap=True)
    say_where(
        {"Key, private": made.folder, "Trust anchor, to hand out": made.anchor, "Fingerprint": made.fingerprint()}
    )
