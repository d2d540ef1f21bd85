"""Which people and clips a source folder holds."""

from __future__ import annotations

from pathlib import Path

from data_partition.images import IMAGE_SUFFIXES
from data_partition.video import VIDEO_SUFFIXES, is_clip
from model.errors import DataError


def find_sources(src: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """People and their clips.

    Args:
        src: holds one video file, or one folder of videos or of frames, per person. Hidden files are ignored.

    Returns:
        Identity (file or folder name) to its clips, both sorted; an empty list is a folder without any clip.
        And one sentence for each entry that is no source.

    Raises:
        DataError: if `src` is no folder, holds nobody, or a person twice.
    """
    if not src.is_dir():
        raise DataError(f"{src}: no such folder; wanted one with a video or a folder per person")
    clips: dict[str, list[Path]] = {}
    ignored = []
    for entry in sorted(src.iterdir()):
        if entry.name.startswith("."):
            continue
        if not entry.is_dir() and entry.suffix.lower() not in VIDEO_SUFFIXES:
            hint = "; put a person's pictures into a folder" if entry.suffix.lower() in IMAGE_SUFFIXES else ""
            ignored.append(f"{entry}: ignored, neither a video nor a folder{hint}")
            continue
        identity = entry.name if entry.is_dir() else entry.stem
        if identity in clips:
            raise DataError(f"{src}: {identity} is there twice, as file and as folder; rename or move one")
        clips[identity] = [entry] if is_clip(entry) else _clips_below(entry, ignored)
    if not clips:
        raise DataError(f"{src}: empty; wanted one video file or one folder of videos or frames per person")
    return clips, ignored


def _clips_below(folder: Path, ignored: list[str]) -> list[Path]:
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    ignored += [
        f"{entry}: ignored, neither a video nor a folder of pictures" for entry in entries if not is_clip(entry)
    ]
    return [entry for entry in entries if is_clip(entry)]
