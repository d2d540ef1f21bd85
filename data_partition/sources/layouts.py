"""The layouts that a source folder can have: one record each, and all that depends on the layout.

A new one is a name in `names.py`, a module that finds its people, and a record here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from data_partition.consent.record import CONSENT_NAME
from data_partition.faces.clip_annotators import EACH_PICTURE, OPENFACE_FILES, POINT_FILES, TRACKING, AnnotatorKind
from data_partition.sources.celebv import find_celebv, looks_like_celebv
from data_partition.sources.celebv import identity_of as identity_of_folder
from data_partition.sources.names import Layout
from data_partition.sources.openface_files import find_openface, looks_like_openface
from data_partition.sources.records import (
    ClipSource,
    Sources,
    find_plain,
    looks_like_frames,
    looks_like_videos,
    visible,
)
from data_partition.sources.video import VIDEO_SUFFIXES
from data_partition.sources.voxceleb import find_voxceleb, looks_like_voxceleb
from data_partition.sources.voxceleb import identity_of as identity_of_clip
from model.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class LayoutSpec:
    """One layout."""

    name: Layout
    wanted: str
    """What a folder must hold, for the message of an error."""
    looks_like: Callable[[Path], str]
    """Why a folder seems to have this layout, in a few words; "" if it does not."""
    find: Callable[[Path], Sources]
    """People and clips of a folder."""
    annotator: Callable[[ClipSource], AnnotatorKind]
    """Who annotates the frames of a clip."""
    identity_of: Callable[[str], str] = str
    """The person of an entry of that name, a video's without its extension."""
    is_cropped: bool = False
    """Whether the pictures are crops of heads already; square ones are used whole."""
    is_in_time: bool = True
    """Whether frames of a clip that follow one another do so in time."""


LAYOUTS: dict[Layout, LayoutSpec] = {
    spec.name: spec
    for spec in (
        LayoutSpec(
            name=Layout.CELEBV,
            wanted="wanted <person>/Image/*.jpg",
            looks_like=looks_like_celebv,
            find=find_celebv,
            annotator=lambda clip: POINT_FILES if clip.annotations else EACH_PICTURE,
            identity_of=identity_of_folder,
            is_cropped=True,
            is_in_time=False,
        ),
        LayoutSpec(
            name=Layout.VOXCELEB,
            wanted="wanted <person>#<video>#<start>#<end>.mp4, in folders train and test or without",
            looks_like=looks_like_voxceleb,
            find=find_voxceleb,
            annotator=lambda clip: EACH_PICTURE if clip.is_apart else TRACKING,
            identity_of=identity_of_clip,
            is_cropped=True,
        ),
        LayoutSpec(
            name=Layout.OPENFACE,
            wanted="wanted videos or folders of pictures with OpenFace's CSV files beside them",
            looks_like=looks_like_openface,
            find=find_openface,
            annotator=lambda _: OPENFACE_FILES,
        ),
        LayoutSpec(
            name=Layout.FRAMES,
            wanted="wanted a folder of pictures, or of such folders, per person",
            looks_like=looks_like_frames,
            find=partial(find_plain, layout=Layout.FRAMES),
            annotator=lambda clip: EACH_PICTURE if clip.is_apart else TRACKING,
        ),
        LayoutSpec(
            name=Layout.VIDEOS,
            wanted="wanted a video, or a folder of videos, per person",
            looks_like=looks_like_videos,
            find=partial(find_plain, layout=Layout.VIDEOS),
            annotator=lambda clip: EACH_PICTURE if clip.is_apart else TRACKING,
        ),
    )
}
"""By name, in the order in which a folder is compared with them; the last fits any."""


def find_sources(
    src: Path, layout: Layout, faces: Mapping[str, int] = MappingProxyType({}), *, with_mesh: bool = False
) -> Sources:
    """People and clips of a source folder.

    Args:
        src: the folder.
        layout: of it.
        faces: person to the number of their face in frames with several, from 1 on the left.
        with_mesh: whether the mesh of every face is kept.

    Raises:
        ConfigError: if it is one person's folder, `faces` names somebody else or somebody whose faces files tell, or
            the annotator of a clip has no meshes.
        DataError: if it cannot be read, holds nobody, or a person twice.
    """
    if (src / CONSENT_NAME).is_file():
        raise ConfigError(
            f"{src}: the folder of one person, whose {CONSENT_NAME} is in it; give the folder above, "
            f"{src.resolve().parent}. If several people are in it, move their records to where each belongs"
        )
    sources = LAYOUTS[layout].find(src)
    if not any(sources.people.values()):
        raise DataError(f"{src}: nobody found by the layout {layout}; {LAYOUTS[layout].wanted}")
    strangers = sorted(faces.keys() - {name for people in sources.people.values() for name in people})
    if strangers:
        raise ConfigError(f"--face: {strangers[0]!r} is nobody in {src}; wanted the name of a person there")
    for people in sources.people.values():
        for name in people.keys() & faces.keys():
            people[name] = [_with_face(name, clip, faces[name]) for clip in people[name]]
        if with_mesh:
            people |= {name: [_with_mesh(clip) for clip in clips] for name, clips in people.items()}
    return sources


def _with_face(name: str, clip: ClipSource, face: int) -> ClipSource:
    if clip.annotations:
        raise ConfigError(
            f"--face: {name!r} is annotated by files ({clip.annotations[0].name}), which tell the face; leave the "
            "option out"
        )
    return replace(clip, face=face)


def people_with_entry(src: Path, layout: Layout, subset: str) -> set[str]:
    """Everybody of whom a source folder has an entry, be it one that cannot be read, or a link without a target.

    Args:
        src: the folder.
        layout: of it.
        subset: "train" or "test" where it has a folder for each, else of no effect.

    Raises:
        DataError: if it cannot be listed.
    """
    names: set[str] = set()
    for entry in visible(src / subset if (src / subset).is_dir() else src):
        if entry.is_dir():
            names.add(entry.name)
        elif entry.suffix.lower() in VIDEO_SUFFIXES:
            names.add(entry.stem)
        elif entry.is_symlink():  # to a folder, as far as can be known
            names.add(entry.name)
    return set(map(LAYOUTS[layout].identity_of, names))


def _with_mesh(clip: ClipSource) -> ClipSource:
    kind = annotator_of(clip)
    if not kind.needs_model:
        raise ConfigError(f"--mesh: {clip.path} is annotated by {kind.name}, which has no meshes; leave the option out")
    return replace(clip, with_mesh=True)


def detect_layout(src: Path) -> tuple[Layout, str]:
    """The layout of a source folder, and why in a few words.

    Raises:
        DataError: if it is no folder.
    """
    if not src.is_dir():
        raise DataError(f"{src}: no such folder; wanted one with a video or a folder per person")
    reasons = ((layout, spec.looks_like(src)) for layout, spec in LAYOUTS.items())
    return next((layout, reason) for layout, reason in reasons if reason)


def annotator_of(clip: ClipSource) -> AnnotatorKind:
    """Who annotates the frames of a clip."""
    kind = LAYOUTS[clip.layout].annotator(clip)
    return kind.keeping_meshes() if clip.with_mesh else kind
