"""Text on pictures and in figures: names in any script, and in one that the font lacks by the numbers of their letters.

The font is DejaVu Sans, which comes with matplotlib: Latin, Greek, Cyrillic, Hebrew, Arabic and more. OpenCV draws "?"
for all that is not ASCII, and matplotlib an empty box.
"""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from data_partition.shards.images import tabled

_MARGIN_PX = 4
_INVISIBLE = "\u200b"
"""A space of no width."""

Colour = tuple[int, int, int]


def drawable(text: str) -> str:
    """The text with [U+674E 96F7] in place of letters that the font lacks, which tells two names apart as they did."""
    known = _known_letters()
    parts = []
    for is_known, group in itertools.groupby(text, key=lambda letter: ord(letter) in known):
        letters = "".join(group)
        parts.append(letters if is_known else f"[U+{' '.join(f'{ord(letter):04X}' for letter in letters)}]")
    return "".join(parts)


def figure_text(text: str) -> str:
    r"""A text of one or more lines as matplotlib is to be given it: `drawable`, and no `$` begins a formula.

    matplotlib leaves labels out of a legend that begin with an underscore; these begin with a space of no width.
    """
    shown = "\n".join(drawable(line).replace("$", r"\$") for line in text.split("\n"))
    return _INVISIBLE + shown if shown.startswith("_") else shown


def text_line(*texts: str, size_px: int) -> NDArray[np.uint8]:
    """[H, W, 3] uint8: a line in black on white, as high for every text as its size asks.

    Args:
        texts: side by side from the left, whatever their script; within one text a number goes to the left of Hebrew.
        size_px: of the letters, 8 or more.
    """
    return tabled([[_part(drawable(text), _font(size_px)) for text in texts]])


def written_on(
    image_HWC: NDArray[np.uint8], text: str, place: tuple[int, int], *, size_px: int, colour: Colour
) -> NDArray[np.uint8]:
    """[H, W, 3] uint8: a copy of a picture with a text in it, rimmed with white so that it is read on any ground.

    Args:
        image_HWC: [H, W, 3] uint8 RGB.
        text: any.
        place: (x, y) in pixels of the left end of the base line; what is beyond the picture is cut off.
        size_px: of the letters, 8 or more.
        colour: RGB, 0 to 255.
    """
    canvas = Image.fromarray(image_HWC)
    ImageDraw.Draw(canvas).text(
        place, drawable(text), font=_font(size_px), fill=colour, stroke_width=2, stroke_fill="white", anchor="ls"
    )
    return np.array(canvas, np.uint8)


def _part(shown: str, font: ImageFont.FreeTypeFont) -> NDArray[np.uint8]:
    width_px = int(np.ceil(font.getlength(shown))) + 2 * _MARGIN_PX
    canvas = Image.new("RGB", (width_px, sum(font.getmetrics()) + _MARGIN_PX), "white")
    ImageDraw.Draw(canvas).text((_MARGIN_PX, _MARGIN_PX // 2), shown, font=font, fill="black")
    return np.array(canvas, np.uint8)


@functools.cache
def _font_path() -> Path:
    from matplotlib import get_data_path  # here, because it takes a third of a second and few runs draw text

    return Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@functools.cache
def _known_letters() -> frozenset[int]:
    """Code points that the font has."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(_font_path())).get_charmap())


@functools.lru_cache(maxsize=8)
def _font(size_px: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_font_path()), size_px)
