import re

import numpy as np
import pytest

from data_partition.images import write_image
from evaluation.comparison import Comparison, ComparisonRow, PixelQuality
from model.config import Settings
from reenact.page import DemoPage, DemoResults, write_page


def row(identity: str, psnr_db: float) -> ComparisonRow:
    return ComparisonRow(
        identity=identity,
        num_pairs=4,
        model=PixelQuality(psnr_db=psnr_db, ssim=0.7, l1=0.05),
        copy_source=PixelQuality(psnr_db=20.0, ssim=0.6, l1=0.07),
    )


def page_text(tmp_path, psnr_db: float = 22.5) -> str:
    picture, clip = tmp_path / "picture.png", tmp_path / "clip.mp4"
    write_image(picture, np.zeros((8, 8, 3), np.uint8))
    clip.write_bytes(b"clip")
    results = DemoResults(
        comparison=Comparison(rows=(row("<ana>", psnr_db),), overall=row("all", psnr_db)),
        history=[{"round": 1}],
        curves=picture,
        self_sheet=picture,
        cross_sheet=picture,
        clip=clip,
    )
    page = DemoPage(settings=Settings(), seconds={"Training": 90.0}, places={"Run": tmp_path / "run"}, results=results)
    return write_page(tmp_path / "index.html", page).read_text(encoding="utf-8")


def test_page_needs_no_other_file_and_no_network(tmp_path):
    text = page_text(tmp_path)
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert len(sources) == 4
    assert all(source.startswith("data:") for source in sources)
    assert "http" not in text


@pytest.mark.parametrize(("psnr_db", "words"), [(22.5, "2.50 dB above"), (18.0, "2.00 dB below")])
def test_page_says_whether_the_model_beats_copy_source(tmp_path, psnr_db, words):
    text = page_text(tmp_path, psnr_db)
    assert words in text
    assert (f'<td class="number better">{psnr_db:.2f}</td>' in text) == (psnr_db > 20)


def test_page_says_where_everything_is_and_how_long_it_took(tmp_path):
    text = page_text(tmp_path)
    assert str(tmp_path / "run") in text and "1 min 30 s" in text


def test_names_of_people_are_escaped(tmp_path):
    assert "<ana>" not in page_text(tmp_path)
