"""Faces and previews as the page shows them: JSON with small pictures in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data_partition.faces.crop import CropBox, crop_and_resize
from data_partition.faces.finder import FaceFinder, FoundFace, chosen, quarter_turns
from data_partition.pages import data_uri
from data_partition.preparation.preview import first_faces
from data_partition.shards.images import encode_image
from data_partition.sources.pictures import read_picture
from data_partition.sources.records import ClipSource
from data_partition.sources.video import is_clip
from model.errors import DataError
from model.frames import Frame
from reenact.preview import preview_of
from reenact.request import ReenactReport
from reenact.studio import Look

_FACE_PX, _CROP_PX, _PICTURE_PX = 240, 112, 320
_FACE_TO_BOX = 1.6
"""Side of what is shown of a face by the longer side of its box."""


def look_at_file(path: Path) -> dict[str, Any]:
    """What the page shows of an upload: a small picture and all faces in it.

    Returns:
        `kind` (picture or clip), `picture` (a data URI), `faces` (data URIs, from the left), `used` (number of the
        face that is used unless another is chosen, from 1; 0 without a face).

    Raises:
        DataError: if it cannot be read, or shows no face.
        WeightsError: if YuNet's file is missing.
    """
    finder = FaceFinder()
    picture_HWC, faces = _seen(path, finder)
    if not faces:
        where = " in its first minute" if is_clip(path) else ""
        raise DataError(f"{path}: no face found{where}; choose one that shows a face clearly, from the front")
    return {
        "kind": "clip" if is_clip(path) else "picture",
        "picture": _uri(_fitted(picture_HWC)),
        "faces": [_uri(_close_up(picture_HWC, face)) for face in faces],
        "used": faces.index(chosen(faces, 0)) + 1,
    }


def preview_in_json(look: Look) -> dict[str, Any]:
    """`source`, `sources` (several), `driving`: data URIs; `about_driving` in words."""
    preview = preview_of(look.source, look.driving, look.reference)
    return {
        "source": _uri(preview.source),
        "sources": [_uri(_fitted(one, _CROP_PX)) for one in preview.sources],
        "driving": _uri(preview.driving),
        "about_driving": preview.about_driving,
    }


def report_in_json(report: ReenactReport) -> dict[str, Any]:
    """`name` of the result's file, `kind` (picture or clip), `lines` about it."""
    sound = [f"Sound: {report.sound}"] if report.sound else []
    marks = f"Marked: visible label, watermark and signed manifest, record {report.record:06x}"
    lines = [str(report), *map(str, report.gaps), *sound, marks]
    lines.append(f"By {report.permission}")
    return {"name": report.out.name, "kind": "clip" if report.out.suffix == ".mp4" else "picture", "lines": lines}


def _seen(path: Path, finder: FaceFinder) -> tuple[Frame, Sequence[FoundFace]]:
    """An upright picture of a file, and its faces from the left."""
    if is_clip(path):
        return first_faces(ClipSource(path=path), finder)
    picture_HWC = read_picture(path)
    upright_HWC = np.ascontiguousarray(np.rot90(picture_HWC, quarter_turns(finder, [picture_HWC])))
    return upright_HWC, finder.find(upright_HWC)


def _close_up(picture_HWC: Frame, face: FoundFace) -> Frame:
    """A square around a face, within the picture."""
    height_px, width_px = picture_HWC.shape[:2]
    side = max(1, round(min(_FACE_TO_BOX * max(face.width, face.height), height_px, width_px)))
    left, top = (round(centre - side / 2) for centre in face.centre)
    box = CropBox(left=max(0, min(left, width_px - side)), top=max(0, min(top, height_px - side)), side=side)
    return crop_and_resize(picture_HWC, box, _FACE_PX)


def _fitted(picture_HWC: Frame, side_px: int = _PICTURE_PX) -> Frame:
    """Not larger than a side."""
    scale = min(1.0, side_px / max(picture_HWC.shape[:2]))
    size = max(1, round(scale * picture_HWC.shape[1])), max(1, round(scale * picture_HWC.shape[0]))
    return np.asarray(cv2.resize(picture_HWC, size, interpolation=cv2.INTER_AREA), np.uint8)


def _uri(picture_HWC: Frame) -> str:
    return data_uri(encode_image(".jpg", picture_HWC, jpeg_quality=88), "image/jpeg")
