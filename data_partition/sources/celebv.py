"""CelebV as ReenactGAN ships it (Wu et al. 2018), and its files of 98 points.

    <root>/<Person>/Image/P_MaYun_10903.jpg_0000008076.jpg ...   256 x 256 crops
    <root>/<Person>/all_98pt.txt                                 x0 y0 ... x97 y97 <file name>, one line a frame

Also read: `train_98pt.txt` and `test_98pt.txt`, into which all_98pt.txt is cut for training. Names are compared without
regard to case. The pictures are crops already and are used whole.

Legend: N usable lines, K = 68 landmarks, C coordinates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_partition.sources.names import Layout
from data_partition.sources.numbers import parse_number
from data_partition.sources.records import NOT_FOLLOWED, ClipSource, People, Sources, leads_to_others, visible
from data_partition.sources.rejected import Rejected
from data_partition.sources.video import Stretch, count_frames
from model.batch import NUM_LANDMARKS
from model.errors import DataError

PEOPLE = ("Emmanuel_Macron", "Kathleen", "Jack_Ma", "Theresa_May", "Donald_Trump")
"""In CelebV's order; other people are welcome, these are known in any case."""

NUM_POINTS = 98
STRETCH_FRAMES = 1000
"""Pictures of one job: what a killed run loses at most."""

# fmt: off
WFLW_TO_68: tuple[int, ...] = (
    *range(0, 33, 2),  # outline: every second of 33 points
    *range(33, 38), *range(42, 47),  # brows: their upper edges
    *range(51, 60),  # nose
    60, 61, 63, 64, 65, 67,  # eye on the left of the picture: corners and two of the three points of each lid
    68, 69, 71, 72, 73, 75,  # eye on the right
    *range(76, 96),  # lips
)
# fmt: on
"""Index among the 98 points of WFLW (Wu et al. 2018, "Look at Boundary") of each iBUG-68 landmark; lower edges of the
brows, every second outline point, the middle of each eyelid and the pupils have none."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class PointsTable:
    """Usable lines of a file of 98 points, in its order."""

    landmarks_NKC: NDArray[np.float32]
    """[N, 68, 2] (x, y) pixels."""
    file_name: tuple[str, ...]
    """[N] as the file has it, folders left out."""
    rejected: tuple[Rejected, ...]


def read_points(path: Path, wanted: Collection[str] | None = None) -> PointsTable:
    """Read a file of 98 points.

    A line is usable if it has 196 finite numbers and a file name that no line before it has, and if the points are
    not all in one place. Every other line is listed with its number.

    Args:
        path: all_98pt.txt, train_98pt.txt or test_98pt.txt.
        wanted: lower-case file names; other lines are passed over unread. None is all.

    Raises:
        DataError: if the file cannot be read as text.
    """
    points, names, rejected = [], [], []
    seen: set[str] = set()
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        name = file_name_of(line)
        if wanted is not None and name.casefold() not in wanted:
            continue
        reason, landmarks_KC = _parse(line)
        if not reason and name.casefold() in seen:
            reason = f"{name} has a line before this one already; the first is used"
        if reason:
            rejected.append(Rejected(f"{path}:{number}", reason))
            continue
        seen.add(name.casefold())
        points.append(landmarks_KC)
        names.append(name)
    landmarks_NKC = np.array(points, np.float32).reshape(-1, NUM_LANDMARKS, 2)
    return PointsTable(landmarks_NKC=landmarks_NKC, file_name=tuple(names), rejected=tuple(rejected))


def read_names(path: Path) -> set[str]:
    """Lower-case file names of all lines.

    Raises:
        DataError: if the file cannot be read as text.
    """
    return {file_name_of(line).casefold() for line in _lines(path) if line.strip()}


def file_name_of(line: str) -> str:
    """The file name at the end of a line, folders left out; "" if the line has none."""
    tokens = line.split(maxsplit=2 * NUM_POINTS)
    name = tokens[-1].strip() if len(tokens) > 2 * NUM_POINTS else line.split()[-1]
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def looks_like_celebv(src: Path) -> str:
    """Why `src` seems to be CelebV; "" if it does not."""
    for person in visible(src):
        if person.is_dir() and (images := _image_folder(person)):
            points = _points_files(person)
            if points:
                return f"{person.name} has a folder {images.name} and {points[0].name}"
            if any(entry.name.casefold().count(".jpg") > 1 for entry in images.iterdir()):
                return f"pictures in {person.name}/{images.name} have two extensions"
    return ""


def find_celebv(src: Path) -> Sources:
    """People of CelebV.

    Raises:
        DataError: if a person is there twice, or a file of points cannot be read.
    """
    rejected: list[tuple[str, Rejected]] = []
    people: People = {}
    for entry in visible(src):
        images = _image_folder(entry) if entry.is_dir() else None
        if images is None:
            rejected.append(("", Rejected(str(entry), "ignored, no person's folder with a folder Image in it")))
            continue
        if leads_to_others(entry, src) or leads_to_others(images, src):
            rejected.append(("", Rejected(str(entry), NOT_FOLLOWED)))
            continue
        identity = identity_of(entry.name)
        if identity.casefold() in {name.casefold() for name in people}:
            raise DataError(f"{src}: {identity} is there twice; rename or move one")
        people[identity] = _clips(identity, images, _points_files(entry), rejected)
    return Sources(people={"": people}, rejected=rejected)


def identity_of(name: str) -> str:
    """The person of a folder of that name: CelebV's own people as the paper writes them, others as they are."""
    return next((known for known in PEOPLE if known.casefold() == name.casefold()), name)


def _clips(identity: str, images: Path, points: list[Path], rejected: list[tuple[str, Rejected]]) -> list[ClipSource]:
    whole = [path for path in points if path.name.casefold().startswith("all")]
    annotations = tuple(whole or points)
    test_list = next((path for path in points if path.name.casefold().startswith("test")), None)
    if annotations:
        _report_strays(identity, images, annotations, rejected)
    num_pictures = count_frames(images)
    return [
        ClipSource(
            path=images,
            layout=Layout.CELEBV,
            stretch=Stretch(first, min(first + STRETCH_FRAMES, num_pictures)),
            annotations=annotations,
            test_list=test_list,
        )
        for first in range(0, num_pictures, STRETCH_FRAMES)
    ]


def _report_strays(
    identity: str, images: Path, annotations: tuple[Path, ...], rejected: list[tuple[str, Rejected]]
) -> None:
    """Lines without a picture; pictures without a line show when they are read."""
    pictures = {entry.name.casefold() for entry in images.iterdir()}
    for path in annotations:
        strays = sorted(read_names(path) - pictures)
        if strays:
            text = f"{len(strays)} lines without a picture in {images.name}, {strays[0]} among them"
            rejected.append((identity, Rejected(str(path), text)))


def _image_folder(person: Path) -> Path | None:
    """The folder of a person's pictures, if there is one that can be listed."""
    try:
        folder = next((e for e in visible(person) if e.is_dir() and e.name.casefold() in ("image", "images")), None)
        if folder is not None:
            visible(folder)
    except DataError:
        return None
    return folder


def _points_files(person: Path) -> list[Path]:
    names = ("all_98pt.txt", "train_98pt.txt", "test_98pt.txt")
    return [entry for entry in visible(person) if entry.name.casefold() in names]


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from file
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error}); wanted lines of 196 numbers and a file name") from (
            error
        )


def _parse(line: str) -> tuple[str, NDArray[np.float32]]:
    """Why a line cannot be used ("" if it can), and its landmarks [68, 2]."""
    nothing = np.zeros((NUM_LANDMARKS, 2), np.float32)
    tokens = line.split(maxsplit=2 * NUM_POINTS)
    if len(tokens) <= 2 * NUM_POINTS:
        return f"{len(tokens)} fields, wanted {2 * NUM_POINTS} numbers and a file name", nothing
    try:
        numbers = np.array([parse_number(token) for token in tokens[:-1]])
    except ValueError as error:
        return f"{error}, wanted {2 * NUM_POINTS} numbers before the file name", nothing
    if _starts_with_number(tokens[-1]):
        return f"more than {2 * NUM_POINTS} numbers before the file name", nothing
    with np.errstate(over="ignore"):
        points_PC = numbers.astype(np.float32).reshape(NUM_POINTS, 2)
    if not np.isfinite(points_PC).all():
        return "a point is NaN or infinite", nothing
    landmarks_KC = points_PC[list(WFLW_TO_68)]
    if not np.ptp(landmarks_KC, axis=0).all():
        return "all points are in one place", nothing
    return "", landmarks_KC


def _starts_with_number(name: str) -> bool:
    first, *rest = name.split(maxsplit=1)
    try:
        parse_number(first)
    except ValueError:
        return False
    return bool(rest)
