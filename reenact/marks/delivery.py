"""The one way out for drawn faces: label, watermark, manifest; read again; only then the file has its name.

What another program is to measure has the manifest alone.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from data_partition.consent.kinds import Role
from data_partition.shards.images import encode_image
from data_partition.sources.video import source_sha256
from model.errors import DataError
from model.files import json_sha256, whole_file
from model.frames import Frame
from reenact.marks.key import MarkingKey, marking_key
from reenact.marks.label import stamp
from reenact.marks.manifest import MEDIA_TYPES, Origin, sign
from reenact.marks.verification import Findings, verify_file
from reenact.marks.watermark import RECORD_BITS, Watermark, read_watermark

MIN_SIDE_PX = 240
"""Smaller pictures are delivered a whole number of times as large: neither label nor watermark holds in less."""
LIVE = "live"
"""In place of a file's SHA-256 in the books."""
_STRENGTHS = (1.0, 1.4, 2.0)
"""Of the watermark in a picture, until its record can be read; a film has many pictures to read it from."""


class Marks:
    """Puts on every picture of one result what can be seen and what cannot."""

    def __init__(self, origin: Origin, strength: float = 1.0) -> None:
        """Prepare both.

        Args:
            origin: says which.
            strength: of the watermark.
        """
        self.origin, self._watermark = origin, Watermark(origin.record, strength)

    def __call__(self, frame_HWC: Frame) -> Frame:
        """The picture with label and watermark, [H, W, 3] at least `MIN_SIDE_PX` high and wide."""
        large_HWC = _large_enough(frame_HWC)
        if self.origin.has_label:
            large_HWC = stamp(large_HWC, self.origin.label, self.origin.kind)
        return self._watermark.embed(large_HWC)


def deliver_picture(path: Path, frame_HWC: Frame, origin: Origin) -> None:
    """Mark a picture and write it.

    Args:
        path: ends in .jpg, .jpeg or .png; appears whole, and only if all marks are read from it.
        frame_HWC: [H, W, 3] uint8 RGB.
        origin: of the picture; if it is to be measured, a .png keeps its pixels.

    Raises:
        DataError: if a mark cannot be read.
        OSError: if it cannot be written.
    """
    marked_HWC = marked_picture(frame_HWC, origin) if origin.has_watermark else frame_HWC
    _deliver(path, io.BytesIO(encode_image(path.suffix, marked_HWC)), origin)


def marked_picture(frame_HWC: Frame, origin: Origin) -> Frame:
    """A picture with label and watermark, this one so strong that the record can be read, if that is not seen."""
    for strength in _STRENGTHS:
        marked_HWC = Marks(origin, strength)(frame_HWC)
        if read_watermark([marked_HWC]).record == origin.record:
            break
    return marked_HWC


def deliver_film(path: Path, film: Path, origin: Origin) -> None:
    """Sign a film of pictures that `Marks` has marked, and write it.

    Args:
        path: ends in .mp4; appears whole, and only if all marks are read from it.
        film: the film without a manifest.
        origin: of the film.

    Raises:
        DataError, OSError: as `deliver_picture`.
    """
    with film.open("rb") as source:
        _deliver(path, source, origin)


def live_marks(origin: Origin) -> Marks:
    """For pictures that are shown as they are drawn and make no file; the book of deliveries has one line of them.

    Raises:
        OSError: if it cannot be written.
    """
    _write_down(marking_key(), origin, LIVE)
    return Marks(origin)


def record_of(made_of: object) -> int:
    """Number of a result's record: of all that it was made of, as `json.dumps` takes it."""
    return int(json_sha256(made_of)[: RECORD_BITS // 4], 16)


def record_of_picture(model_sha256: str, frame_HWC: Frame) -> int:
    """The same, of a picture whose making nobody wrote down."""
    return record_of([model_sha256, hashlib.sha256(frame_HWC.tobytes()).hexdigest()])


def _large_enough(frame_HWC: Frame) -> Frame:
    factor = -(-MIN_SIDE_PX // min(frame_HWC.shape[:2]))
    if factor == 1:
        return frame_HWC
    return np.asarray(cv2.resize(frame_HWC, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), np.uint8)


def _deliver(path: Path, source: BinaryIO, origin: Origin) -> None:
    key, suffix = marking_key(), path.suffix.lower()
    with whole_file(path) as target:
        sign(source, target, MEDIA_TYPES[suffix], origin, key)
        target.flush()
        found = verify_file(Path(target.name), suffix=suffix, anchors=key.anchor.read_bytes())
        missing = _missing(found, origin)
        if missing:
            raise DataError(f"{path}: not delivered, {' and '.join(missing)} cannot be read from it; draw it larger")
        _write_down(key, origin, source_sha256(Path(target.name)))


def _missing(found: Findings, origin: Origin) -> list[str]:
    """What of the marks cannot be read as it was written."""
    wanted_label = origin.label if origin.has_label else None
    holds = {
        "the label": found.label == wanted_label,
        "the watermark": found.watermark.is_present or not origin.has_watermark,
        "the manifest": found.manifest is not None and found.manifest.state == "Trusted",
    }
    return [name for name, is_there in holds.items() if not is_there]


def _write_down(key: MarkingKey, origin: Origin, file_sha256: str) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    record = f"{origin.record:06x}"
    line = {"record": record, "delivered": now, "file_sha256": file_sha256, "model_sha256": origin.model_sha256}
    _append(key.records, [line])
    common = {"used": now, "record": record, "file_sha256": file_sha256}
    uses = [
        {"consent": use.record.id, "consent_sha256": use.record.sha256, "person": use.record.person, "as": use.role}
        for use in origin.consents
    ]
    if origin.without_consent is not None:
        uses.append({"without_consent": origin.without_consent, "as": Role.SOURCE})
    _append(key.uses, [common | use for use in uses])


def _append(book: Path, lines: Sequence[Mapping[str, str]]) -> None:
    """In one write, so that commands at the same time do not mix theirs."""
    with book.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))
