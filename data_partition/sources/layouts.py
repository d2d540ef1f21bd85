"""Which layout a source folder has, and its people by that layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data_partition.sources.celebv import find_celebv, looks_like_celebv
from data_partition.sources.openface_files import find_openface, looks_like_openface
from data_partition.sources.records import Layout, Sources, clips_below, find_plain, visible
from data_partition.sources.video import is_clip
from data_partition.sources.voxceleb import find_voxceleb, looks_like_voxceleb
from model.errors import DataError

_FINDERS: dict[Layout, Callable[[Path], Sources]] = {
    Layout.VIDEOS: lambda src: find_plain(src, Layout.VIDEOS),
    Layout.FRAMES: lambda src: find_plain(src, Layout.FRAMES),
    Layout.CELEBV: find_celebv,
    Layout.VOXCELEB: find_voxceleb,
    Layout.OPENFACE: find_openface,
}


def find_sources(src: Path, layout: Layout) -> Sources:
    """People and clips of a source folder.

    Raises:
        DataError: if it cannot be read, holds nobody, or a person twice.
    """
    sources = _FINDERS[layout](src)
    if not any(sources.people.values()):
        raise DataError(f"{src}: nobody found by the layout {layout}; {_wanted(layout)}")
    return sources


def detect_layout(src: Path) -> tuple[Layout, str]:
    """The layout of a source folder, and why in a few words.

    Raises:
        DataError: if it is no folder.
    """
    if not src.is_dir():
        raise DataError(f"{src}: no such folder; wanted one with a video or a folder per person")
    for layout, looks_like in (
        (Layout.CELEBV, looks_like_celebv),
        (Layout.VOXCELEB, looks_like_voxceleb),
        (Layout.OPENFACE, looks_like_openface),
    ):
        if reason := looks_like(src):
            return layout, reason
    clips = [clip for entry in visible(src) if entry.is_dir() or is_clip(entry) for clip in clips_below("", entry, [])]
    if clips and all(clip.is_dir() for clip in clips):
        return Layout.FRAMES, "folders of pictures"
    return Layout.VIDEOS, "videos of people" if clips else "nothing else fits"


def _wanted(layout: Layout) -> str:
    return {
        Layout.VIDEOS: "wanted a video, or a folder of videos, per person",
        Layout.FRAMES: "wanted a folder of pictures, or of such folders, per person",
        Layout.CELEBV: "wanted <person>/Image/*.jpg",
        Layout.VOXCELEB: "wanted <person>#<video>#<start>#<end>.mp4, in folders train and test or without",
        Layout.OPENFACE: "wanted videos or folders of pictures with OpenFace's CSV files beside them",
    }[layout]
