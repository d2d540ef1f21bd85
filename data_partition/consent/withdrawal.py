"""When somebody withdraws: out of the dataset, and every run that learnt the person is marked.

A mark is `withdrawn.json` in a run folder or in a release, a list of people with the day. Weights do not forget: what
helps is to train anew and to remove the run.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

from data_partition.consent.releases import RELEASES_NAME, Release, read_releases
from data_partition.shards.contact_sheet import CONTACT_SHEET_NAME, write_contact_sheet
from data_partition.shards.names import UNFINISHED_SUFFIXES, check_identity
from data_partition.shards.shard import INFO_NAME, PREPARED_FROM, shard_folders, usable_shards
from model.checkpoint import known_people, round_folders_below, run_folder_of
from model.errors import CheckpointError, DataError
from model.files import read_json, write_json

WITHDRAWN_NAME = "withdrawn.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class LearntRuns:
    """What is known of the runs below some folders."""

    learnt: tuple[Path, ...]
    """Run folders whose checkpoints know the person, and folders of single checkpoints."""
    releases: tuple[Release, ...]
    """Releases that have the person, of runs that may be gone."""
    unreadable: tuple[str, ...]
    """Checkpoints and lists of releases that do not say whom they know, and why."""


def remove_person(dataset: Path, person: str) -> str | None:
    """Take a person out of a dataset: all of the shard, left-overs of a preparation, and the contact sheet's row.

    From the first step on no program takes the shard for one; killed after it, the same call goes on.

    Args:
        dataset: its folder.
        person: name of the shard.

    Returns:
        The source folder that the shard was prepared from, "" if it does not say; None if nobody of this name is there.

    Raises:
        DataError: if the folder does not exist.
        OSError: if something cannot be removed.
    """
    shard = _shard_of(dataset, person)
    left_overs = [dataset / f"{shard.name}{suffix}" for suffix in UNFINISHED_SUFFIXES]
    if not any(folder.is_dir() for folder in (shard, *left_overs)):
        return None
    source = str(_info(shard).get(PREPARED_FROM, ""))
    if shard.is_dir():
        shutil.rmtree(left_overs[0], ignore_errors=True)
        shard.rename(left_overs[0])
    sheet = dataset / CONTACT_SHEET_NAME
    had_sheet = sheet.is_file()
    sheet.unlink(missing_ok=True)
    for folder in left_overs:
        if folder.is_dir():
            shutil.rmtree(folder)
    others = usable_shards(shard_folders(dataset))
    first = next(others, None)
    if had_sheet and first is not None:
        write_contact_sheet(chain([first], others), sheet)
    return source


def runs_that_learnt(folder: Path, person: str) -> LearntRuns:
    """All runs in a folder, or deeper, that learnt a person.

    Args:
        folder: of a run, of one checkpoint, or of any number of them.
        person: by the name that the run knew, or the label that a real site sent.

    Raises:
        DataError: if the folder does not exist.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; wanted one of runs")
    learnt: dict[Path, None] = {}
    unreadable = []
    for checkpoint in round_folders_below(folder):
        try:
            if person in known_people(checkpoint):
                learnt[run_folder_of(checkpoint)] = None
        except CheckpointError as error:
            unreadable.append(str(error))
    releases = _releases_with(person, folder, unreadable)
    return LearntRuns(learnt=tuple(learnt), releases=tuple(releases), unreadable=tuple(unreadable))


def mark_release(release: Release, person: str, folders: Iterable[Path]) -> list[Path]:
    """Note in all copies of a release that can be found that a person withdrew, by the name that they have.

    Args:
        release: has the person.
        person: by the name that the run knew.
        folders: in which copies are looked for, at any depth, besides the place where it was written.

    Returns:
        The copies.
    """
    name = release.name_of(person)
    assert name is not None, person
    copies = dict.fromkeys(copy for folder in folders for copy in release.copies_below(folder))
    for copy in copies:
        mark_withdrawn(copy, name)
    return list(copies)


def mark_withdrawn(run: Path, person: str) -> None:
    """Note in a run that a person withdrew, once.

    Raises:
        CheckpointError: if the note that is there cannot be read.
        OSError: if it cannot be written.
    """
    noted = _noted(run)
    if person not in [one["person"] for one in noted]:
        write_json(run / WITHDRAWN_NAME, [*noted, {"person": person, "withdrawn": date.today().isoformat()}], indent=2)


def withdrawn_people(checkpoint: Path) -> list[str]:
    """Who withdrew of those that a run folder or a round's folder learnt, with the day.

    Raises:
        CheckpointError: if the note cannot be read.
    """
    folders = dict.fromkeys((checkpoint, run_folder_of(checkpoint)))
    return [f"{one['person']} ({one['withdrawn']})" for folder in folders for one in _noted(folder)]


def refuse_withdrawn(checkpoint: Path) -> None:
    """Refuse to draw with, or to train on, what learnt somebody who withdrew.

    Raises:
        CheckpointError: naming whom, and what to do.
    """
    people = withdrawn_people(checkpoint)
    if people:
        raise CheckpointError(
            f"{checkpoint}: learnt {', '.join(people)}, who withdrew; train anew without them (docs/consent.md)"
        )


def _releases_with(person: str, folder: Path, unreadable: list[str]) -> list[Release]:
    """Releases of runs in a folder or deeper that have the person; lists that cannot be read are added to the last."""
    found: list[Release] = []
    for path in sorted(folder.rglob(RELEASES_NAME)):
        try:
            found += [release for release in read_releases(path) if release.name_of(person)]
        except CheckpointError as error:
            unreadable.append(str(error))
    return found


def _noted(run: Path) -> list[dict[str, str]]:
    path = run / WITHDRAWN_NAME
    if not path.is_file():
        return []
    try:
        return [{"person": str(one["person"]), "withdrawn": str(one["withdrawn"])} for one in read_json(path)]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: damaged, so who withdrew is not known; restore it") from error


def _shard_of(dataset: Path, person: str) -> Path:
    """The folder of a person's shard, or where it would be."""
    try:
        check_identity(person)
    except ValueError as error:
        raise DataError(f"withdraw: {error}") from error
    there = [folder for folder in shard_folders(dataset) if person in (folder.name, _info(folder).get("identity"))]
    return there[0] if there else dataset / person


def _info(shard: Path) -> dict[str, Any]:
    """Content of shard.json; empty if it cannot be read."""
    try:
        return dict(read_json(shard / INFO_NAME))
    except (OSError, ValueError, TypeError):
        return {}
