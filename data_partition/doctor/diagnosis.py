"""What is wrong with a dataset, in words a site's engineer understands: `fedreenact doctor`.

An error keeps the dataset from being used; a warning tells why a model trained on it may disappoint.
`doctor_numbers` measures, `doctor_checks` judges, `doctor_page` draws; this module puts them in order.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data_partition.consent.check import WHEN_WITHDRAWN, refusals, withdrawn
from data_partition.consent.kinds import Role
from data_partition.doctor.checks import Finding, check_dataset, check_faces, check_person
from data_partition.doctor.duplicates import SharedPictures, shared_pictures
from data_partition.doctor.faces import sample_faces
from data_partition.doctor.numbers import ShardNumbers, measure
from data_partition.shards.names import UNFINISHED_SUFFIXES
from data_partition.shards.shard import INFO_NAME, Shard, open_shard, shard_folders
from model.errors import DataError, listed
from model.progress import Progress, no_progress

MAX_NAMED = 20
"""People in the verdict."""
MAX_THUMBNAILS = 24
"""Of one person."""
MAX_THUMBNAILS_IN_ALL = 2400
"""Above a hundred people each gets fewer, but one at least: a page of 3 kB pictures should still open."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """All that is known of a dataset."""

    dataset: Path
    findings: tuple[Finding, ...]
    """Of the whole dataset, then of each shard; a shard always has at least one."""
    people: tuple[ShardNumbers, ...]
    """One entry a shard that could be opened, in the order of the folders."""
    shared: tuple[SharedPictures, ...]
    """What two people have in common."""

    @property
    def has_errors(self) -> bool:
        """Whether the dataset cannot be used as it is."""
        return any(finding.severity == "error" for finding in self.findings)

    @property
    def is_for_evaluation_only(self) -> bool:
        """Whether no shard has a training frame."""
        return bool(self.people) and all(person.is_for_evaluation_only for person in self.people)

    @property
    def verdict(self) -> str:
        """What the dataset is fit for, in a few words."""
        if self.has_errors:
            return "not fit for training"
        if self.is_for_evaluation_only:
            return "for evaluation only"
        consents = {person.shard.identity: person.shard.consent for person in self.people}
        if gone := withdrawn(consents):
            return f"not to be trained on: {listed(gone, MAX_NAMED)} withdrew; {WHEN_WITHDRAWN}"
        return "fit for training" + (", once consent is on record" if refusals(consents, Role.TRAINING) else "")


def diagnose(dataset: Path, progress: Progress = no_progress) -> Diagnosis:
    """Check every shard of a dataset; reads every frame once.

    Args:
        dataset: dataset folder, or one shard.
        progress: told how many frames are read.

    Raises:
        DataError: if there is no shard at all.
    """
    folders = [dataset] if (dataset / INFO_NAME).is_file() else shard_folders(dataset)
    if not folders:
        raise DataError(_nothing_to_check(dataset))
    findings = _left_overs(dataset, folders) + _check_access(dataset)
    shards = []
    for folder in folders:
        try:
            shards.append(open_shard(folder))
        except DataError as error:
            findings.append(Finding("error", folder, str(error)))
    people = _measured(shards, progress)
    shared = shared_pictures(people) if people else []
    faces = sample_faces(shards)
    findings += check_dataset(dataset, people, shared, faces)
    for person, seen in zip(people, faces, strict=True):
        findings += check_faces(seen) + check_person(person)
    return Diagnosis(dataset=dataset, findings=tuple(findings), people=tuple(people), shared=tuple(shared))


def _nothing_to_check(dataset: Path) -> str:
    """Why a folder without a shard is no dataset, and what to name instead."""
    inner = [str(entry) for entry in sorted(dataset.iterdir()) if entry.is_dir() and _holds_shards(entry)]
    if inner:
        return f"{dataset}: a folder of datasets, wanted one dataset; name one of {', '.join(inner)}"
    unfinished = [entry.name for entry in sorted(dataset.iterdir()) if entry.suffix in UNFINISHED_SUFFIXES]
    if unfinished:
        return f"{dataset}: only unfinished shards ({', '.join(unfinished)}); run `fedreenact prepare` again"
    return f"{dataset}: no shard found; run `fedreenact prepare` or `fedreenact synth` first"


def _holds_shards(folder: Path) -> bool:
    try:
        return bool(shard_folders(folder))
    except DataError:  # it may not be looked into
        return False


def _left_overs(dataset: Path, folders: Sequence[Path]) -> list[Finding]:
    findings = []
    for entry in sorted(set(dataset.iterdir()) - set(folders)) if dataset not in folders else []:
        if entry.suffix in UNFINISHED_SUFFIXES:
            findings.append(
                Finding("warning", entry, "an unfinished preparation; run `fedreenact prepare` again to finish it")
            )
        elif entry.is_dir() and not entry.name.startswith("."):
            findings.append(Finding("warning", entry, "a folder without a shard; move it elsewhere"))
    return findings


def _check_access(dataset: Path) -> list[Finding]:
    """Whether every user of the machine may read the folder: its own mode, and a way through all folders above it."""
    mode = dataset.resolve().stat().st_mode
    if not mode & stat.S_IROTH or not all(p.stat().st_mode & stat.S_IXOTH for p in (dataset / "x").resolve().parents):
        return []
    text = f"every user of this machine can read these faces (mode {stat.S_IMODE(mode):o})"
    return [Finding("warning", dataset, f"{text}; run chmod -R go-rwx {dataset}")]


def _measured(shards: Sequence[Shard], progress: Progress) -> list[ShardNumbers]:
    num_frames = sum(shard.num_frames for shard in shards)
    num_thumbnails = max(1, min(MAX_THUMBNAILS, MAX_THUMBNAILS_IN_ALL // max(len(shards), 1)))
    people: list[ShardNumbers] = []
    for shard in shards:
        num_before = sum(person.shard.num_frames for person in people)
        on_frame = partial(_pass_on, progress, num_before, num_frames)
        people.append(measure(shard, num_thumbnails=num_thumbnails, on_frame=on_frame))
    return people


def _pass_on(progress: Progress, num_before: int, num_frames: int, num_done: int) -> None:
    progress("Reading frames", num_before + num_done, num_frames)
