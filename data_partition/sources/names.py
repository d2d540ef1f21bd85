"""Names of the layouts, in a module that imports nothing: the command line lists them.

What a layout is stands in `layouts.py`.
"""

from __future__ import annotations

from enum import StrEnum


class Layout(StrEnum):
    """How a source folder is built."""

    VIDEOS = "videos"
    """A video file, or a folder of videos, per person."""
    FRAMES = "frames"
    """A folder of pictures, or a folder of such folders, per person."""
    CELEBV = "celebv"
    """As ReenactGAN ships CelebV."""
    VOXCELEB = "voxceleb"
    """As first-order-model's preprocessing writes VoxCeleb1."""
    OPENFACE = "openface"
    """Videos or frames with OpenFace 2's CSV files beside them."""
