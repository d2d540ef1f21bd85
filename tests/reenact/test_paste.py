"""Promises of reenact.paste: the whole picture keeps its size, and no seam shows."""

import numpy as np
import pytest

from data_partition.faces.crop import CropBox
from reenact.face_frame import Place
from reenact.paste import Paste


def place(height, width, box, grey=100):
    return Place(picture_HWC=np.full((height, width, 3), grey, np.uint8), box=box)


def white(size=64):
    return np.full((size, size, 3), 255, np.uint8)


def test_outside_of_the_box_nothing_changes_and_its_middle_is_the_result():
    pasted = Paste(place(200, 300, CropBox(left=50, top=40, side=100)))(white())
    assert pasted.shape == (200, 300, 3)
    outside = np.ones((200, 300), bool)
    outside[40:140, 50:150] = False
    assert (pasted[outside] == 100).all()
    assert (pasted[62:118, 72:128] == 255).all()


def test_there_is_no_step_at_the_border_of_the_box():
    """Smoothstep over 20 pixels rises at most by 1.5 / 20 of the difference from one pixel to the next."""
    pasted = Paste(place(200, 300, CropBox(left=50, top=40, side=100)))(white()).astype(int)
    steps = [np.abs(np.diff(pasted, axis=axis)).max() for axis in (0, 1)]
    assert 0 < max(steps) <= np.ceil(155 * 1.5 / 20) + 1


def test_a_result_that_is_the_source_changes_nothing():
    box = CropBox(left=20, top=10, side=64)
    assert (Paste(place(100, 100, box))(np.full((64, 64, 3), 100, np.uint8)) == 100).all()


def test_a_box_over_the_pictures_border_is_cut_and_does_not_fade_there():
    pasted = Paste(place(120, 120, CropBox(left=-30, top=-30, side=180)))(white())
    assert pasted.shape == (120, 120, 3) and (pasted == 255).all()


@pytest.mark.parametrize(("height", "width", "wanted"), [(101, 99, (102, 100)), (100, 99, (100, 100))])
def test_an_odd_side_grows_by_its_last_pixel_since_video_has_none(height, width, wanted):
    assert Paste(place(height, width, CropBox(left=10, top=10, side=40)))(white()).shape[:2] == wanted
