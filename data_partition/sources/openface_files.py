"""Videos or frames with OpenFace 2's CSV files beside them.

A clip's file is looked for beside it, in a folder `processed` beside it (where OpenFace writes unless told otherwise)
and, for a folder of pictures, inside of it:

    anna/talk.mp4 + anna/talk.csv           one file of FeatureExtraction for a video or a folder of pictures
    anna/talk/0001.jpg + anna/talk/0001.csv one file of FaceLandmarkImg for each picture
"""

from __future__ import annotations

from pathlib import Path

from data_partition.sources.names import Layout
from data_partition.sources.records import ClipSource, Sources, clips_below, find_people, visible
from data_partition.sources.rejected import Rejected
from data_partition.sources.video import is_clip

_OUTPUT_FOLDER = "processed"
_NO_FILE = "no CSV file of OpenFace beside it; run FeatureExtraction on it, or prepare it with --layout videos"


def looks_like_openface(src: Path) -> str:
    """Why `src` seems to hold OpenFace's files; "" if it does not."""
    for entry in visible(src):
        clips = [entry] if is_clip(entry) else visible(entry) if entry.is_dir() else []
        for clip in clips:
            if is_clip(clip) and (files := annotations_of(clip)):
                return f"{files[0].relative_to(src)} lies beside {clip.name}"
    return ""


def find_openface(src: Path) -> Sources:
    """People with their clips and files.

    Raises:
        DataError: if a person is there twice.
    """
    rejected: list[tuple[str, Rejected]] = []
    strays: list[tuple[str, Rejected]] = []

    def clips_of(identity: str, entry: Path) -> list[ClipSource]:
        sources = []
        for clip in clips_below(identity, entry, strays):
            if files := annotations_of(clip):
                sources.append(ClipSource(path=clip, layout=Layout.OPENFACE, annotations=files))
            else:
                rejected.append((identity, Rejected(str(clip), _NO_FILE)))
        return sources

    people = find_people(src, clips_of, strays)
    used = {str(file) for clips in people.values() for clip in clips for file in clip.annotations}
    rejected += [
        (identity, one)
        for identity, one in strays
        if one.path not in used and _OUTPUT_FOLDER not in Path(one.path).parts[-2:]
    ]
    people.pop(_OUTPUT_FOLDER, None)
    return Sources(people={"": people}, rejected=rejected)


def annotations_of(clip: Path) -> tuple[Path, ...]:
    """The clip's CSV file; for pictures with a file each, all of these; () if there is none."""
    stem = clip.name if clip.is_dir() else clip.stem
    for folder in (clip.parent, clip.parent / _OUTPUT_FOLDER, *([clip] if clip.is_dir() else [])):
        if (folder / f"{stem}.csv").is_file():
            return (folder / f"{stem}.csv",)
    if not clip.is_dir():
        return ()
    for folder in (clip, clip / _OUTPUT_FOLDER):
        files = tuple(sorted(folder.glob("*.csv")))
        if files:
            return files
    return ()
