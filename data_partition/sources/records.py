"""Which people and clips a source folder holds: what every layout's finder returns, and the plain layouts.

The other layouts have modules of their own: `celebv.py`, `voxceleb.py`, `openface_files.py`; `layouts.py` lists them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from data_partition.shards.images import IMAGE_SUFFIXES
from data_partition.sources.names import Layout
from data_partition.sources.rejected import Rejected
from data_partition.sources.video import VIDEO_SUFFIXES, Stretch, is_clip
from model.errors import DataError


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

    @property
    def name(self) -> str:
        """Of the clip: its file's or folder's."""
        return self.path.name

    @property
    def part_name(self) -> str:
        """Unique among the clips of a person."""
        return self.name if self.stretch is None else f"{self.name}-{self.stretch[0]:06d}"


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
    """Sorted entries of a folder, hidden ones left out.

    Raises:
        DataError: if it cannot be listed.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); wanted a folder") from error


def looks_like_frames(src: Path) -> str:
    """Why `src` seems to hold pictures of people; "" if it does not."""
    clips = _clips_of_everybody(src)
    return "folders of pictures" if clips and all(clip.is_dir() for clip in clips) else ""


def looks_like_videos(src: Path) -> str:
    """Why `src` seems to hold videos of people; every folder is taken for one of videos."""
    return "videos of people" if _clips_of_everybody(src) else "nothing else fits"


def find_plain(src: Path, layout: Layout) -> Sources:
    """People of the layouts `videos` and `frames`.

    Args:
        src: holds one video file, or one folder of videos or of frames, per person. Hidden files are ignored.
        layout: named in what is found; both kinds of clips are taken in either.

    Raises:
        DataError: if a person is there twice.
    """
    rejected: list[tuple[str, Rejected]] = []

    def clips_of(identity: str, entry: Path) -> list[ClipSource]:
        return [ClipSource(path=clip, layout=layout) for clip in clips_below(identity, entry, rejected)]

    return Sources(people={"": find_people(src, clips_of, rejected)}, rejected=rejected)


def find_people(
    src: Path, clips_of: Callable[[str, Path], list[ClipSource]], rejected: list[tuple[str, Rejected]]
) -> People:
    """A person for each video and each folder in `src`.

    Args:
        src: source folder.
        clips_of: called with identity and entry.
        rejected: what is neither video nor folder is added.

    Raises:
        DataError: if a person is there twice.
    """
    people: People = {}
    for entry in visible(src):
        if not entry.is_dir() and entry.suffix.lower() not in VIDEO_SUFFIXES:
            hint = "; put a person's pictures into a folder" if entry.suffix.lower() in IMAGE_SUFFIXES else ""
            rejected.append(("", Rejected(str(entry), f"ignored, neither a video nor a folder{hint}")))
            continue
        identity = entry.name if entry.is_dir() else entry.stem
        if identity in people:
            raise DataError(f"{src}: {identity} is there twice, as two files or as file and folder; rename or move one")
        people[identity] = clips_of(identity, entry)
    return people


def _clips_of_everybody(src: Path) -> list[Path]:
    return [clip for entry in visible(src) if entry.is_dir() or is_clip(entry) for clip in clips_below("", entry, [])]


def clips_below(identity: str, entry: Path, rejected: list[tuple[str, Rejected]]) -> list[Path]:
    """`entry` itself if it is a clip, else the clips in it; everything else is added to `rejected`."""
    if is_clip(entry):
        return [entry]
    inside = visible(entry)
    rejected += [
        (identity, Rejected(str(other), "ignored, neither a video nor a folder of pictures"))
        for other in inside
        if not is_clip(other)
    ]
    return [clip for clip in inside if is_clip(clip)]
