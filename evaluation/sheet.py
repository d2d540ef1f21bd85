"""Comparison sheets: how a result came about, one pair a row, one stage a column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from data_partition.shards.lettering import figure_text
from evaluation.metrics.regions import cut_out
from model.frames import Frame
from reenact.face_frame import FaceFrame
from reenact.guidance_choice import Guidance, MotionKind
from reenact.marks.delivery import MIN_SIDE_PX, deliver_picture, record_of_picture
from reenact.marks.kinds import Kind, Label
from reenact.marks.label import room_above_px
from reenact.marks.manifest import Origin
from reenact.reenactor import Reenactor

_CELL_PX = 160
_SEAM_PX = 4
_LABEL_PX = 150
_TITLE_PX = 34
_GAP_PX = 6
_DOTS_PER_INCH = 100
_INK = "#1f2933"


class Row(Protocol):
    """What a sheet shows in one row."""

    @property
    def label(self) -> str:
        """Text on the left."""

    def columns(self) -> dict[str, Frame]:
        """Column title to square frame, in reading order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SheetRow:
    """The stages of one pair; every frame is uint8 [S, S, 3] RGB."""

    label: str
    source: Frame
    driving: Frame
    stages: dict[str, Frame]
    """What the network shows on the way, name to picture."""
    result: Frame

    def columns(self) -> dict[str, Frame]:
        """Column title to frame, in reading order; the last is a baseline that ignores the driving frame."""
        ends = {"Result": self.result, "Copy-source": self.source}
        return {"Source": self.source, "Driving": self.driving, **self.stages, **ends}


def sheet_row(
    reenactor: Reenactor,
    source: FaceFrame,
    driving: FaceFrame,
    requested: Guidance = Guidance.AUTO,
    motion: MotionKind = MotionKind.ABSOLUTE,
) -> SheetRow:
    """The stages of one pair of annotated faces; AUTO takes the guidance that `reenact` would choose for them."""
    drawing, guidance = reenactor.draw_pair(source, driving, requested, motion=motion)
    who = source.identity if source.identity == driving.identity else f"{source.identity}\nas {driving.identity}"
    return SheetRow(
        label=f"{who}\nlandmarks: {guidance}",
        source=source.image_HWC,
        driving=driving.image_HWC,
        stages=drawing.stages,
        result=drawing.result,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class DetailRow:
    """Eyes and mouth of one pair, enlarged."""

    label: str
    source: Frame
    driving: Frame
    result: Frame
    landmarks_NKC: NDArray[np.float32]
    """[3, 68, 2] pixels: of source, driving and result."""

    def columns(self) -> dict[str, Frame]:
        """Eyes above mouth of every frame."""
        frames = (self.source, self.driving, self.result)
        details = [_eyes_above_mouth(*found) for found in zip(frames, self.landmarks_NKC, strict=True)]
        return dict(zip(("Source", "Driving", "Result"), details, strict=True))


def _eyes_above_mouth(frame_HWC: Frame, landmarks_KC: NDArray[np.float32]) -> Frame:
    """One cell, [_CELL_PX, _CELL_PX, 3], with a white line between the two."""
    size = (_CELL_PX, (_CELL_PX - _SEAM_PX) // 2)
    eyes, mouth = (
        cv2.resize(cut_out(frame_HWC, landmarks_KC, part), size, interpolation=cv2.INTER_CUBIC)
        for part in ("eyes", "mouth")
    )
    return np.vstack([eyes, np.full((_SEAM_PX, _CELL_PX, 3), 255, np.uint8), mouth])


def write_sheet(path: Path, rows: Sequence[Row], model_sha256: str) -> None:
    """Write the rows as one PNG, marked as what a model drew.

    Args:
        path: ends in .png; appears whole.
        rows: at least one; frames of all rows have one size.
        model_sha256: of the weights that drew.

    Raises:
        DataError: if a mark cannot be read from it.
    """
    sheet_HWC = draw_sheet(rows)
    height_px, width_px = sheet_HWC.shape[:2]
    room_px = max(room_above_px(height_px, width_px, Label.GENERATED), MIN_SIDE_PX - height_px)
    strip_HWC = np.full((room_px, *sheet_HWC.shape[1:]), 255, np.uint8)
    marked_HWC = np.vstack([strip_HWC, sheet_HWC])
    record = record_of_picture(model_sha256, marked_HWC)
    origin = Origin(label=Label.GENERATED, kind=Kind.SHEET, record=record, model_sha256=model_sha256)
    deliver_picture(path, marked_HWC, origin)


def draw_sheet(rows: Sequence[Row]) -> Frame:
    """The rows with column titles and row labels, [H, W, 3]; at least one, frames of all have one size."""
    titles = list(rows[0].columns())
    width = _LABEL_PX + len(titles) * (_CELL_PX + _GAP_PX) + _GAP_PX
    height = _TITLE_PX + len(rows) * (_CELL_PX + _GAP_PX) + _GAP_PX
    figure = Figure(figsize=(width / _DOTS_PER_INCH, height / _DOTS_PER_INCH), dpi=_DOTS_PER_INCH)
    figure.figimage(_mosaic(rows, width, height), resize=False)
    for column, title in enumerate(titles):
        x = _LABEL_PX + _GAP_PX + column * (_CELL_PX + _GAP_PX) + _CELL_PX / 2
        weight = "bold" if title == "Result" else "normal"
        _text(figure, x / width, 1 - _TITLE_PX / 2 / height, title, ha="center", weight=weight)
    for row, content in enumerate(rows):
        y = _TITLE_PX + row * (_CELL_PX + _GAP_PX) + _CELL_PX / 2
        _text(figure, 0.5 * _LABEL_PX / width, 1 - y / height, content.label, ha="center")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _mosaic(rows: Sequence[Row], width: int, height: int) -> Frame:
    """All frames on white, [height, width, 3]."""
    canvas = np.full((height, width, 3), 255, np.uint8)
    for row, content in enumerate(rows):
        top = _TITLE_PX + row * (_CELL_PX + _GAP_PX)
        for column, frame in enumerate(content.columns().values()):
            left = _LABEL_PX + _GAP_PX + column * (_CELL_PX + _GAP_PX)
            cell = cv2.resize(frame, (_CELL_PX, _CELL_PX), interpolation=_interpolation(frame))
            canvas[top : top + _CELL_PX, left : left + _CELL_PX] = cell
    return canvas


def _interpolation(frame: Frame) -> int:
    return cv2.INTER_AREA if frame.shape[0] > _CELL_PX else cv2.INTER_CUBIC


def _text(figure: Figure, x: float, y: float, text: str, *, ha: str, weight: str = "normal") -> None:
    shown = figure_text(text)
    figure.text(x, y, shown, ha=ha, va="center_baseline", fontsize=10, color=_INK, weight=weight, linespacing=1.5)
