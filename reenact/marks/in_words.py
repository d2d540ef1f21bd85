"""What `verify` says of a file, on the command line and on the page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from reenact.marks.key import MarkingKey, key_folder, read_anchors
from reenact.marks.manifest import Manifest
from reenact.marks.verification import Findings, deliveries, verify_file
from reenact.marks.watermark import THRESHOLD

NO_MARK = "No mark of this program. That does not show that a camera took it."


@dataclass(frozen=True, slots=True)
class MarksInWords:
    """Of one file."""

    is_marked: bool
    lines: tuple[tuple[str, str], ...]
    """What was looked for, and what was found."""


def marks_in_words(path: Path, anchors: Iterable[Path] = ()) -> MarksInWords:
    """Look for all marks of a file.

    Args:
        path: a picture or a film.
        anchors: root certificates to trust (PEM) besides this user's own.

    Raises:
        DataError: if the file can be read as neither, or the book of deliveries is damaged.
        ConfigError: if an anchor holds no certificate.
        OSError: if an anchor or the book cannot be read.
    """
    mine = MarkingKey(key_folder())
    own = [mine.anchor] if mine.anchor.is_file() else []
    found = verify_file(path, anchors=read_anchors([*own, *anchors]))
    return MarksInWords(found.is_marked, (*_in_words(found), *_deliveries(found, mine)))


def _in_words(found: Findings) -> Iterator[tuple[str, str]]:
    chance = f"{found.watermark.deviations:.1f} standard deviations, wanted {THRESHOLD:g}"
    number = "" if found.watermark.record is None else f", record {found.watermark.record:06x}"
    yield "Label", found.label or "none where this program puts it"
    yield "Watermark", f"there ({chance}){number}" if found.watermark.is_present else f"none ({chance})"
    yield "Manifest", "none" if found.manifest is None else _manifest_in_words(found.manifest)


def _deliveries(found: Findings, mine: MarkingKey) -> Iterator[tuple[str, str]]:
    for line in deliveries(found.record, mine) if found.record is not None else ():
        yield "Delivered from here", f"{line['delivered']}, file {line['file_sha256']}"


def _manifest_in_words(manifest: Manifest) -> str:
    state = {
        "Trusted": f"intact, signed by {manifest.signer!r}, who is trusted here",
        "Valid": f"intact, signed by {manifest.signer!r}, whom no trust anchor vouches for",
    }.get(manifest.state, f"broken: {', '.join(manifest.problems)}")
    return "; ".join([state, *(f"{name} {json.dumps(value)}" for name, value in manifest.made_of.items() if value)])
