"""VoxCeleb1 as first-order-model's preprocessing writes it (Siarohin et al. 2019).

    <root>/{train,test}/<person>#<video>#<start>#<end>.mp4    a video, or a folder of that name with 0000000.png ...
    <root>/vox-metadata.csv                                   which clips are for testing, if there are no such folders

The person is what stands before the first "#". The pictures are crops already and are used whole. People for training
and people for testing become two datasets, and nobody may be in both.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from data_partition.sources.names import Layout
from data_partition.sources.records import NOT_FOLLOWED, ClipSource, People, Sources, leads_to_others, visible
from data_partition.sources.rejected import Rejected
from data_partition.sources.video import is_clip
from model.errors import DataError

SUBSETS = ("train", "test")
METADATA_NAME = "vox-metadata.csv"
_KEY_COLUMNS = ("person_id", "video_id", "start", "end")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipTable:
    """Which subset each clip of vox-metadata.csv belongs to."""

    subset: dict[str, str]
    """Clip's name without its extension to "train" or "test"."""
    rejected: tuple[Rejected, ...]


def read_clip_table(path: Path) -> ClipTable:
    """Read vox-metadata.csv.

    Rows without a person, a video, whole numbers for start and end, or a partition of `train` or `test`, and rows that
    contradict an earlier one are listed with their line.

    Raises:
        DataError: if the file cannot be read or has not the columns.
    """
    subset: dict[str, str] = {}
    rejected: list[Rejected] = []
    wanted = (*_KEY_COLUMNS, "partition")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in wanted if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path}: no column {', '.join(missing)}; wanted the metadata of VoxCeleb's clips")
            for row in reader:
                reason, name = _clip_name({key: row[key] for key in wanted})
                if not reason and subset.get(name, row["partition"]) != row["partition"]:
                    reason = f"{name} is in {subset[name]} by an earlier line"
                if reason:
                    rejected.append(Rejected(f"{path}:{reader.line_num}", reason))
                else:
                    subset[name] = row["partition"]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); wanted the metadata of VoxCeleb's clips") from error
    return ClipTable(subset=subset, rejected=tuple(rejected))


def looks_like_voxceleb(src: Path) -> str:
    """Why `src` seems to be VoxCeleb1: most of its clips are named so; "" if it does not."""
    for folder in [src / subset for subset in SUBSETS if (src / subset).is_dir()] or [src]:
        entries = [entry for entry in visible(folder) if entry.is_dir() or is_clip(entry)]
        named = [entry for entry in entries if _is_named_as_clip(entry)]
        if 2 * len(named) > len(entries):
            return f"{named[0].relative_to(src)} has a person before its first #"
    return ""


def find_voxceleb(src: Path) -> Sources:
    """People of VoxCeleb1, those for training and those for testing apart.

    Raises:
        DataError: if a person is in both, or vox-metadata.csv cannot be read.
    """
    rejected: list[tuple[str, Rejected]] = []
    subsets = [subset for subset in SUBSETS if (src / subset).is_dir()]
    if subsets:
        others = [entry for entry in visible(src) if entry.name not in (*SUBSETS, METADATA_NAME)]
        rejected += [("", Rejected(str(entry), "ignored, neither train nor test")) for entry in others]
        people = {subset: _people(src, visible(src / subset), subset, rejected) for subset in subsets}
    elif (src / METADATA_NAME).is_file():
        people = _split_by_table(src, rejected)
    else:
        people = {"": _people(src, visible(src), None, rejected)}
    both = sorted(set(people.get("train", ())) & set(people.get("test", ())))
    if both:
        raise DataError(
            f"{src}: {', '.join(both[:5])} ({len(both)} in all) in train and in test; results would be of people "
            "seen in training; remove them from one"
        )
    return Sources(people=people, rejected=rejected)


def identity_of(name: str) -> str:
    """The person of a clip of that name."""
    return name.split("#", 1)[0]


def _people(src: Path, entries: list[Path], subset: str | None, rejected: list[tuple[str, Rejected]]) -> People:
    people: People = {}
    for entry in entries:
        identity = identity_of(entry.name)
        if not _is_named_as_clip(entry):
            rejected.append(("", Rejected(str(entry), "ignored, no clip named <person>#<video>#...")))
        elif not is_clip(entry):
            rejected.append((identity, Rejected(str(entry), "ignored, neither a video nor a folder of pictures")))
        elif leads_to_others(entry, src):
            rejected.append((identity, Rejected(str(entry), NOT_FOLLOWED)))
        else:
            is_test = None if subset is None else subset == "test"
            people.setdefault(identity, []).append(ClipSource(path=entry, layout=Layout.VOXCELEB, is_test=is_test))
    return people


def _split_by_table(src: Path, rejected: list[tuple[str, Rejected]]) -> dict[str, People]:
    table = read_clip_table(src / METADATA_NAME)
    rejected += [("", one) for one in table.rejected]
    entries: dict[str, list[Path]] = {subset: [] for subset in SUBSETS}
    for entry in visible(src):
        if entry.name == METADATA_NAME:
            continue
        subset = table.subset.get(entry.name.removesuffix(entry.suffix))
        if subset is None:
            rejected.append(("", Rejected(str(entry), f"ignored, not in {METADATA_NAME}")))
        else:
            entries[subset].append(entry)
    return {subset: _people(src, found, subset, rejected) for subset, found in entries.items() if found}


def _clip_name(row: dict[str, str | None]) -> tuple[str, str]:
    """Why a row cannot be used ("" if it can), and the name that its clip is written under."""
    person, video, start, end = (str(row[key] or "").strip() for key in _KEY_COLUMNS)
    if not person or not video:
        return "no person or no video", ""
    if not (start + end).isascii() or not start.isdigit() or not end.isdigit():
        return f"start {start!r} and end {end!r}, wanted whole numbers", ""
    if row["partition"] not in SUBSETS:
        return f"partition is {row['partition']!r}, wanted train or test", ""
    return "", f"{person}#{video}#{int(start):06d}#{int(end):06d}"


def _is_named_as_clip(entry: Path) -> bool:
    person, hash_sign, rest = entry.name.partition("#")
    return bool(person and hash_sign and rest) and not entry.name.startswith(".")
