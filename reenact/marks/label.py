"""The visible label: two words in a black box at the top right, as large as the picture allows, smaller on a sheet."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model.frames import Frame
from reenact.marks.kinds import Kind, Label

_TEXT_SHARE = 0.055
"""Height of the letters' line by the picture's shorter side."""
_MARGIN_SHARE = 0.4
"""Around the text, and of the box from the border, by the line's height."""
_TOP_SHARE = 0.2
"""Of the shorter side: the label lies above."""
_MIN_LIKENESS = 0.8
"""Correlation with the label as it is drawn; compression of what is delivered leaves above .95."""
_SHEET_PX = 240
"""A sheet has the label of a picture whose side is the geometric mean of its own and this one."""


def stamp(frame_HWC: Frame, label: Label, kind: Kind = Kind.RESULT) -> Frame:
    """The picture with the label on it, [H, W, 3] as before."""
    side_px = _label_side_px(min(frame_HWC.shape[:2]), kind)
    stamped_HWC, box_HWC = frame_HWC.copy(), _box(label, side_px)
    stamped_HWC[_place(frame_HWC, box_HWC, side_px)] = box_HWC
    return stamped_HWC


def room_above_px(height_px: int, width_px: int, label: Label) -> int:
    """Rows to put above a sheet: the label then lies in them alone."""
    room_px = 0
    while (wanted_px := _bottom_px(label, _label_side_px(min(height_px + room_px, width_px), Kind.SHEET))) > room_px:
        room_px = wanted_px
    return room_px


def _label_side_px(side_px: int, kind: Kind) -> int:
    """Shorter side of the picture that has a label of the size that is wanted."""
    return round(math.sqrt(_SHEET_PX * side_px)) if kind is Kind.SHEET else side_px


def _bottom_px(label: Label, side_px: int) -> int:
    """First row below the label in a picture of a shorter side."""
    return round(_MARGIN_SHARE * _line_px(side_px)) + len(_box(label, side_px))


def find_label(frame_HWC: Frame) -> Label | None:
    """The label that is where `stamp` puts it, also in a picture that was made half as large since."""
    side_px = min(frame_HWC.shape[:2])
    top_HWC = frame_HWC[: max(1, round(_TOP_SHARE * side_px))]
    larger_HWC = np.asarray(cv2.resize(top_HWC, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC), np.uint8)
    looked_at = [(top_HWC, side_px), (larger_HWC, 2 * side_px)]
    sizes = [
        (seen_HWC, _label_side_px(one_px, kind)) for seen_HWC, one_px in looked_at for kind in (Kind.RESULT, Kind.SHEET)
    ]
    likeness = {label: max(_likeness(seen_HWC, label, size_px) for seen_HWC, size_px in sizes) for label in Label}
    best = max(likeness, key=likeness.__getitem__)
    return best if likeness[best] >= _MIN_LIKENESS else None


def _likeness(top_HWC: Frame, label: Label, side_px: int) -> float:
    """-1 to 1; 0 for a plain place."""
    box_HWC = _box(label, side_px)
    seen_HWC = top_HWC[_place(top_HWC, box_HWC, side_px)]
    if seen_HWC.shape != box_HWC.shape:
        return 0.0
    grey = (cv2.cvtColor(np.ascontiguousarray(one), cv2.COLOR_RGB2GRAY) for one in (seen_HWC, box_HWC))
    seen, box = (one - one.mean() for one in grey)
    return float((seen * box).sum() / (np.linalg.norm(seen) * np.linalg.norm(box) + 1e-6))


def _place(frame_HWC: Frame, box_HWC: Frame, side_px: int) -> tuple[slice, slice]:
    """Of the box in a picture of a shorter side, or in the top of one."""
    margin_px = round(_MARGIN_SHARE * _line_px(side_px))
    right = frame_HWC.shape[1] - margin_px
    return slice(margin_px, margin_px + box_HWC.shape[0]), slice(max(right - box_HWC.shape[1], 0), right)


def _line_px(side_px: int) -> float:
    return _TEXT_SHARE * side_px


@lru_cache(maxsize=32)
def _box(label: Label, side_px: int) -> Frame:
    """The label for pictures of a shorter side, [H, W, 3]."""
    font = ImageFont.load_default(size=_line_px(side_px))
    padding_px = round(_MARGIN_SHARE * _line_px(side_px))
    left, top, right, bottom = font.getbbox(label)
    size = round(right - left) + 2 * padding_px, round(bottom - top) + 2 * padding_px
    box = Image.new("RGB", size, "black")
    ImageDraw.Draw(box).text((padding_px - left, padding_px - top), label, font=font, fill="white")
    return np.asarray(box, np.uint8)
