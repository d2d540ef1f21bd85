"""Commands about the marks of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cli.terminal import console, say_where

if TYPE_CHECKING:
    from reenact.marks.manifest import Manifest
    from reenact.marks.verification import Findings

NOT_MARKED = 1
"""Exit code for a file without any mark."""


def verify(
    file: Annotated[Path, typer.Argument(help="Picture or video, whoever made it.")],
    anchor: Annotated[
        list[Path] | None, typer.Option(help="Root certificate to trust (PEM) besides your own; repeat for more.")
    ] = None,
) -> None:
    """Say which marks of a drawn face a file has; exit code 1 if it has none. Needs no model."""
    from reenact.marks.key import MarkingKey, key_folder, read_anchors
    from reenact.marks.verification import deliveries, verify_file

    mine = MarkingKey(key_folder())
    own = [mine.anchor] if mine.anchor.is_file() else []
    found = verify_file(file, anchors=read_anchors([*own, *(anchor or ())]))
    for name, text in _in_words(found).items():
        console.print(f"[bold]{name}:[/] {escape(text)}", soft_wrap=True)
    for line in deliveries(found.record, mine) if found.record is not None else ():
        console.print(f"[bold]Delivered from here:[/] {line['delivered']}, file {line['file_sha256']}", soft_wrap=True)
    if not found.is_marked:
        console.print("No mark of this program. That does not show that a camera took it.", soft_wrap=True)
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


def _in_words(found: Findings) -> dict[str, str]:
    from reenact.marks.watermark import THRESHOLD

    chance = f"{found.watermark.deviations:.1f} standard deviations, wanted {THRESHOLD:g}"
    number = "" if found.watermark.record is None else f", record {found.watermark.record:06x}"
    return {
        "Label": found.label or "none where this program puts it",
        "Watermark": f"there ({chance}){number}" if found.watermark.is_present else f"none ({chance})",
        "Manifest": "none" if found.manifest is None else _manifest_in_words(found.manifest),
    }


def _manifest_in_words(manifest: Manifest) -> str:
    state = {
        "Trusted": f"intact, signed by {manifest.signer!r}, who is trusted here",
        "Valid": f"intact, signed by {manifest.signer!r}, whom no trust anchor vouches for",
    }.get(manifest.state, f"broken: {', '.join(manifest.problems)}")
    return "; ".join([state, *(f"{name} {json.dumps(value)}" for name, value in manifest.made_of.items() if value)])
