"""Which people and clips a source folder holds: what every layout's finder returns, and the plain layouts.

The other layouts have modules of their own: `celebv.py`, `voxceleb.py`, `openface_files.py`; `layouts.py` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_partition.consent.record import is_consent_file
from data_partition.shards.names import check_distinct, check_identity
from data_partition.sources.names import Layout
from data_partition.sources.rejected import Rejected
from data_partition.sources.video import VIDEO_SUFFIXES, Stretch, is_clip, is_picture, picture_names
from model.errors import DataError

# fmt: off
OTHER_PICTURE_SUFFIXES = frozenset({
    ".heic", ".heif", ".jxl", ".jp2", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2",
})
# fmt: on
"""Of pictures that no decoder here reads."""

NOT_FOLLOWED = "a link to where other people's files or this folder's own are, not followed"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSource:
    """One clip and all that is known of it before it is read."""

    path: Path
    """Video file or folder of pictures."""
    layout: Layout = Layout.VIDEOS
    """Decides on annotator and framing."""
    stretch: Stretch | None = None
    """The pictures of the folder that are meant; None is all."""
    annotations: tuple[Path, ...] = ()
    """Files that annotate the frames; none means that the frames are looked at."""
    test_list: Path | None = None
    """File of 98 points whose frames are the test frames."""
    is_test: bool | None = None
    """True or False: which side of the train/test split all frames are on; None leaves it to `test_list` or to time."""
    face: int = 0
    """Number of the person's face in frames with several, from 1 on the left; 0 is the largest."""
    with_mesh: bool = False
    """Whether the mesh of every face is kept."""
    step: int = 1
    """One frame in so many is looked at."""
    knows_each: bool = False
    """Whether it is told of every face whose it is, not of a few in each take."""
    is_apart: bool = False
    """Whether the pictures of the folder do not follow one another: each is looked at by itself."""
    place: str = ""
    """Below the person's folder, "2024/talk.mp4"; "" for a clip that is the person's only entry."""

    @property
    def name(self) -> str:
        """Of the clip: its place, or its file's or folder's; only stretches of one folder share it.

        Bytes that are not UTF-8, which Parquet does not take, are written as in URLs: "%E9".
        """
        return re.sub("[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", self.place or self.path.name)

    @property
    def part_name(self) -> str:
        """Of the folder for what is made of it; unique among the clips of a person."""
        name = self.name.replace("%", "%25").replace("/", "%2F")
        return name if self.stretch is None else f"{name}-{self.stretch.first:06d}"


People = dict[str, list[ClipSource]]
"""Identity to clips, both sorted; an empty list is a person's folder without any clip."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What a source folder holds."""

    people: dict[str, People]
    """For each dataset to write: its folder below the output ("" is the output itself) and the people."""
    rejected: list[tuple[str, Rejected]] = field(default_factory=list)
    """Identity ("" for none) and what is no source."""


def visible(folder: Path) -> list[Path]:
    """Sorted entries of a folder, hidden ones and records of consent left out.

    Raises:
        DataError: if it cannot be listed.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if not (entry.name.startswith(".") or is_consent_file(entry)))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); wanted a folder") from error


def looks_like_frames(src: Path) -> str:
    """Why `src` seems to hold pictures of people; "" if it does not."""
    clips = _clips_of_everybody(src)
    return "folders of pictures" if clips and all(clip.path.is_dir() for clip in clips) else ""


def looks_like_videos(src: Path) -> str:
    """Why `src` seems to hold videos of people; every folder is taken for one of videos."""
    return "videos of people" if _clips_of_everybody(src) else "nothing else fits"


def find_plain(src: Path, layout: Layout) -> Sources:
    """People of the layouts `videos` and `frames`.

    Args:
        src: holds one video file, or one folder of videos and pictures in any mix and depth, per person. Hidden files
            are ignored.
        layout: named in what is found; both kinds of clips are taken in either.

    Raises:
        DataError: if a person is there twice.
    """
    rejected: list[tuple[str, Rejected]] = []

    def clips_of(identity: str, entry: Path) -> list[ClipSource]:
        return clips_below(identity, entry, layout, rejected)

    return Sources(people={"": find_people(src, clips_of, rejected)}, rejected=rejected)


def find_people(
    src: Path, clips_of: Callable[[str, Path], list[ClipSource]], rejected: list[tuple[str, Rejected]]
) -> People:
    """A person for each video and each folder in `src`.

    Args:
        src: source folder.
        clips_of: called with identity and entry.
        rejected: what is neither video nor folder is added, links that `leads_to_others`, and names that cannot be a
            shard's.

    Raises:
        DataError: if a person is there twice, or two names cannot be told apart.
    """
    people: People = {}
    for entry in visible(src):
        if not entry.is_dir() and not is_clip(entry):
            rejected.append(("", Rejected(str(entry), _why_no_clip(entry, "neither a video nor a folder"))))
            continue
        identity = entry.name if entry.is_dir() else entry.stem
        if leads_to_others(entry, src):
            rejected.append((identity, Rejected(str(entry), NOT_FOLLOWED)))
            continue
        if identity in people:
            raise DataError(f"{src}: {identity} is there twice, as two files or as file and folder; rename or move one")
        try:
            check_identity(identity)
        except ValueError as error:
            rejected.append((identity, Rejected(str(entry), f"{error}; rename it")))
            continue
        people[identity] = clips_of(identity, entry)
    try:
        check_distinct(people)
    except ValueError as error:
        raise DataError(f"{src}: {error}; rename one") from error
    return people


def clips_below(
    identity: str, entry: Path, layout: Layout, rejected: list[tuple[str, Rejected]], skipped: str = ""
) -> list[ClipSource]:
    """All clips of a person; what is none is added to `rejected`.

    Args:
        identity: the person's name.
        entry: a clip's file, or a folder: its pictures are one clip, each of its videos is one, and so for the folders
            in it.
        layout: named in what is found.
        rejected: identity and what is no clip.
        skipped: name of folders that are passed over.
    """
    if not entry.is_dir():
        return [ClipSource(path=entry, layout=layout)]
    clips = []
    for folder in _folders_below(entry, identity, rejected, skipped):
        place = folder.relative_to(entry).as_posix() if folder != entry else ""
        names = picture_names(folder)
        others = frozenset(name for name in names if leads_to_others(folder / name, entry.parent))
        if len(others) < len(names):
            stretch = Stretch(0, len(names), others) if others else None
            clips.append(ClipSource(path=folder, layout=layout, place=place, stretch=stretch))
        rejected += [(identity, Rejected(str(folder / name), NOT_FOLLOWED)) for name in sorted(others)]
        for other in (one for one in visible(folder) if not one.is_dir() and not is_picture(one)):
            if leads_to_others(other, entry.parent):
                rejected.append((identity, Rejected(str(other), NOT_FOLLOWED)))
            elif is_clip(other):
                clips.append(ClipSource(path=other, layout=layout, place=other.relative_to(entry).as_posix()))
            else:
                reason = _why_no_clip(other, "neither a video nor a picture")
                rejected.append((identity, Rejected(str(other), reason)))
    return sorted(clips, key=lambda clip: clip.path)


def _folders_below(
    folder: Path, identity: str, rejected: list[tuple[str, Rejected]], skipped: str, above: tuple[Path, ...] = ()
) -> Iterator[Path]:
    """A folder and all folders in it, but for links that would take a person's frames for another's.

    Args:
        folder: to begin with.
        identity: the person's name.
        rejected: what cannot be listed is added, and links that are not followed.
        skipped: name of folders that are passed over.
        above: the folders between, the person's own first; none for the person's own.
    """
    if above and leads_to_others(folder, above[0].parent, above):
        rejected.append((identity, Rejected(str(folder), NOT_FOLLOWED)))
        return
    try:
        inside = visible(folder)
    except DataError as error:
        rejected.append((identity, Rejected.by_error(folder, error)))
        return
    yield folder
    for one in inside:
        if one.is_dir() and one.name != skipped:
            yield from _folders_below(one, identity, rejected, skipped, (*above, folder))


def leads_to_others(path: Path, src: Path, above: tuple[Path, ...] = ()) -> bool:
    """Whether something is a link by which a person would get what another one has, or the same once more.

    Args:
        path: file or folder.
        src: source folder. What is hidden in it, as git-annex and DVC keep files, is nobody's.
        above: the folders between that the path is in.
    """
    if not (path.is_symlink() and path.exists()):
        return False
    target, root = path.resolve(), src.resolve()
    if target.is_relative_to(root):
        return not any(part.startswith(".") for part in target.relative_to(root).parts)
    return any(one.resolve().is_relative_to(target) for one in (src, *above))


def _why_no_clip(path: Path, what: str) -> str:
    """Why a file that is no folder is left out."""
    if path.is_symlink() and not path.exists():
        return "a link without a target; bring the file back or remove the link"
    if not path.is_file():
        return "ignored, not a regular file"
    if path.suffix.lower() in OTHER_PICTURE_SUFFIXES:
        return f"ignored, {path.suffix[1:].upper()} is not a format this program reads; export it as JPEG"
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return "cannot be read; give yourself the right to"
    hint = "; put a person's pictures into a folder" if is_picture(path) else ""
    return f"ignored, {what}{hint}"


def _clips_of_everybody(src: Path) -> list[ClipSource]:
    clips = []
    for entry in visible(src):
        if entry.is_dir() or is_clip(entry):
            clips += clips_below("", entry, Layout.VIDEOS, [])
    return clips
