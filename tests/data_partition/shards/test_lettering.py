"""Names are read on every picture and figure, in whatever script they are."""

from __future__ import annotations

import warnings
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data_partition.shards.contact_sheet import write_contact_sheet
from data_partition.shards.images import read_image
from data_partition.shards.lettering import drawable, figure_text, text_line, written_on
from tests.support.shards import write_random_shard

NAMES = [
    "Zo\u00eb", "Zoe", "\u0414\u043c\u0438\u0442\u0440\u0438\u0439", "\u039c\u03b1\u03c1\u03af\u03b1",
    "\u0645\u06cc\u200c\u0646\u0627", "\u05d9\u05e2\u05dc", "\u674e\u96f7", "\u674e\u96ea", "\u0906\u0930\u0935",
    "\udcff", "a\nb", "a$b$", "_anna",
]  # fmt: skip


def test_letters_that_the_font_has_stay() -> None:
    for name in NAMES[:6]:
        assert drawable(name) == name


def test_letters_that_it_lacks_are_told_by_number() -> None:
    assert drawable("\u674e\u96f7 (2) \u674e") == "[U+674E 96F7] (2) [U+674E]"
    assert drawable("\udcff\n\U00020000") == "[U+DCFF 000A 20000]"


def test_no_two_names_look_alike() -> None:
    lines = [text_line(name, size_px=15) for name in NAMES]
    assert len({line.shape[0] for line in lines}) == 1 and all(line.min() == 0 for line in lines)
    assert not any(np.array_equal(one, other) for one, other in combinations(lines, 2))


def test_texts_of_a_line_stand_from_left_to_right_in_any_script() -> None:
    name, number = "\u05d9\u05e2\u05dc", "354 frames"
    line, first, last = (text_line(*texts, size_px=15) for texts in ((name, number), (name,), (number,)))
    assert np.array_equal(line, np.concatenate([first, last], axis=1))


def test_a_text_on_a_picture_is_read_on_black_and_on_white_and_leaves_the_picture_as_it_was() -> None:
    for grey in (0, 255):
        picture = np.full((60, 120, 3), grey, np.uint8)
        written = written_on(picture, "7", (20, 40), size_px=32, colour=(200, 0, 0))
        assert (picture == grey).all()
        for colour in ((200, 0, 0), (255, 255, 255)):
            assert (written == colour).all(axis=2).any()


@pytest.mark.parametrize("name", [*NAMES, "$\\frac$"])
def test_a_figure_shows_a_name_as_it_is_and_in_its_legend(name: str) -> None:
    figure = Figure(figsize=(2, 1))
    axes = figure.subplots()
    axes.plot([0, 1], label=figure_text(name))
    axes.set_title(figure_text(f"{name}\nas {name}"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a glyph that the font lacks
        FigureCanvasAgg(figure).draw()
    assert len(axes.get_legend_handles_labels()[1]) == 1


def test_a_contact_sheet_tells_people_apart_whose_script_the_font_lacks(tmp_path: Path) -> None:
    sheets = []
    for name in ("\u674e\u96f7", "\u674e\u96ea"):
        shard = write_random_shard(tmp_path / "data", name, num_frames=2)
        sheets.append(read_image(write_contact_sheet([shard], tmp_path / "sheet.png")))
    assert not np.array_equal(*sheets)
