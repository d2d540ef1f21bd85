"""Videos and pictures of people in, one annotated shard per person out: `fedreenact prepare`.

Every clip is one job of a process pool and leaves a finished part in <out>/<identity>.parts. When all clips are done,
the parts of each person become the shard. A killed run loses only the clips that were under way, and the run after it
leaves the same bytes as one that was not disturbed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from data_partition.consent.check import refusals
from data_partition.consent.kinds import Role
from data_partition.consent.record import ConsentRecord, consent_file, read_consent
from data_partition.faces.annotate import FaceAnnotator
from data_partition.faces.people import others_than_main
from data_partition.preparation.clip import ClipJob, ClipSummary
from data_partition.preparation.clip_pool import run_clips
from data_partition.shards.contact_sheet import CONTACT_SHEET_NAME, write_contact_sheet
from data_partition.shards.lock import sole_writer
from data_partition.shards.shard import (
    INFO_NAME,
    MAX_SIZE_PX,
    PREPARED_FROM,
    is_shard,
    open_shard,
    shard_folders,
    usable_shards,
)
from data_partition.shards.writer import ShardWriter, record_consent, remove_shard, require_free
from data_partition.sources.layouts import annotator_of, detect_layout, find_sources, people_with_entry
from data_partition.sources.names import Layout
from data_partition.sources.records import ClipSource, People, Sources, visible
from data_partition.sources.rejected import REJECTED_NAME, Rejected, write_rejected
from data_partition.sources.video import is_clip, source_sha256
from data_partition.sources.voxceleb import SUBSETS
from model.errors import ConfigError, DataError
from model.files import read_json
from model.progress import Progress, no_progress

PARTS_SUFFIX = ".parts"
MIN_SIZE_PX = 16
"""Smallest side of a crop: nothing can be learnt from less."""
COMPARING = "Comparing clips"
"""The work of finding out what is done already, in clips."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IdentityReport:
    """What became of one person's clips."""

    identity: str
    clips: list[ClipSummary]
    was_done: bool
    """True if an earlier run had finished the same clips at the same size."""
    annotated_before_by: str = ""
    """Annotator and version by which the same clips had been annotated, if it was another."""
    damage: str = ""
    """Why the shard that was there could not be used; "" if it could, or there was none."""

    @property
    def num_given(self) -> int:
        """Frames that the clips announce, those that could not be read included."""
        return sum(max(clip.num_given, clip.num_frames) for clip in self.clips)

    @property
    def num_frames(self) -> int:
        """Frames that could be decoded."""
        return sum(clip.num_frames for clip in self.clips)

    @property
    def num_kept(self) -> int:
        """Frames in the shard."""
        return sum(clip.num_kept for clip in self.clips)

    def to_line(self) -> str:
        """The report in words."""
        if not self.num_kept:
            return f"{self.identity}: nothing usable, left out"
        share = 100 * self.num_kept / self.num_given
        unread = self.num_given - self.num_frames
        dropped = sum(clip.num_without_face for clip in self.clips)
        short = sum(clip.num_in_short_takes for clip in self.clips)
        others = sum(clip.num_of_others for clip in self.clips)
        return (
            f"{self.identity}: kept {self.num_kept} of {self.num_given} frames ({share:.1f} %) of "
            f"{len({clip.name for clip in self.clips})} clip(s), {dropped} without a face, {short} in takes too "
            "short to use"
            + (f", {others} of other people" if others else "")
            + (f", {unread} that could not be read" if unread else "")
            + (", done before" if self.was_done else "")
            + (f", prepared again: was annotated by {self.annotated_before_by}" if self.annotated_before_by else "")
            + (f", prepared again: the shard was damaged ({self.damage})" if self.damage else "")
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetReport:
    """One dataset that `prepare` wrote."""

    path: Path
    identities: list[IdentityReport]
    """Those that could not be used, too."""
    contact_sheet: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareReport:
    """What `prepare` did."""

    layout: Layout
    reason: str
    """Why this layout."""
    datasets: list[DatasetReport]
    """One, or one for training and one for testing."""
    rejected: list[tuple[str, Rejected]]
    """Identity ("" for none) and what was left out; all of it is in `rejected_csv`."""
    rejected_csv: Path
    removed: tuple[str, ...] = ()
    """People whose shards were removed, because the source folder that they came from has no entry of theirs now."""
    kept: tuple[str, ...] = ()
    """People of whom nothing can be used now, though they are in the source folder; their shards are as they were."""
    strangers: tuple[str, ...] = ()
    """People in the dataset who came from another source folder."""
    not_to_train: tuple[str, ...] = ()
    """Who may not be trained on and why, a line a reason."""

    def to_lines(self, max_rejected: int = 20) -> list[str]:
        """The report in words, one line each; of what was left out `max_rejected`, notes and broken clips first."""
        shown = sorted(self.rejected, key=lambda who: (not who[1].is_note, _rank(who)))
        lines = [f"layout: {self.layout} ({self.reason})"]
        for dataset in self.datasets:
            lines += [one.to_line() for one in dataset.identities if one.identity not in self.kept]
        lines += [
            f"{name}: in the source folder, but nothing there can be used now; the shard of before is kept, until the "
            "entry is removed from the folder"
            for name in self.kept
        ]
        lines += [f"{name}: not in the source folder any more, removed from the dataset" for name in self.removed]
        lines += [f"{name}: in the dataset from another source folder, kept" for name in self.strangers]
        lines += [f"not to be trained on: {line}" for line in self.not_to_train]
        lines += [f"{'note' if one.is_note else 'left out'}: {one}" for _, one in shown[:max_rejected]]
        if len(self.rejected) > max_rejected:
            lines.append(f"left out: {len(self.rejected) - max_rejected} more, see {self.rejected_csv}")
        return lines


def _rank(rejected: tuple[str, Rejected]) -> tuple[bool, bool]:
    """By how little something left out tells of why nothing came of it, the least first."""
    return rejected[1].reason.startswith("ignored"), rejected[1].is_note


def is_prepared(src: Path) -> bool:
    """Whether a folder is a dataset already, one shard of one, or the two datasets for training and for testing.

    Raises:
        ConfigError: if it holds shards and clips side by side.
    """
    folders = [folder for folder in (src, *(src / subset for subset in SUBSETS)) if folder.is_dir()]
    if any((folder / INFO_NAME).is_file() for folder in folders):
        return True
    for folder in folders:
        shards = shard_folders(folder)
        clips = [entry for entry in visible(folder) if entry not in shards and is_clip(entry)]
        if shards and clips:
            raise ConfigError(f"{folder}: holds shards ({shards[0].name}) and clips ({clips[0].name}); separate them")
    return any(shard_folders(folder) for folder in folders)


def prepare(
    src: Path,
    out: Path,
    *,
    layout: Layout | None = None,
    size_px: int = 256,
    num_workers: int | None = None,
    progress: Progress = no_progress,
    faces: Mapping[str, int] = MappingProxyType({}),
    with_mesh: bool = False,
) -> PrepareReport:
    """Prepare every person in `src`.

    What cannot be used is left out and listed in <out>/rejected.csv. A finished shard leaves <out> when its person has
    no entry in `src` any more, and stays when there is one of which nothing can be used now. Everybody's record of
    consent is put into the shard, a finished one too; whoever has one that cannot be read is left out, and a finished
    shard loses its own.

    Args:
        src: source folder of one of the layouts.
        out: dataset folder, or the folder of the two datasets `train` and `test` where the layout has these; shards
            finished there from the same files at the same size are kept as they are.
        layout: of `src`; None finds out.
        size_px: side of the crops.
        num_workers: processes; None is one per core, at most one per clip.
        progress: told how far it is.
        faces: person to the number of their face in frames with several, from 1 on the left; without one the largest.
        with_mesh: whether the mesh and blendshapes of every face are kept; finished shards that have them keep them.

    Returns:
        Kept and dropped frames of every person, and where the contact sheets are.

    Raises:
        ConfigError: if `out` is `src`, inside of it or around it, or has something else where a shard would be, another
            preparation writes to it, the size is out of range, `faces` names nobody there, or there are no meshes to
            keep.
        DataError: if nobody is in `src`, or nobody has a usable frame, or a clip's part was replaced meanwhile.
        WeightsError: if the face landmarker file is missing and needed.
    """
    _check_request(src, out, size_px)
    layout, reason = (layout, "as asked for") if layout else detect_layout(src)
    sources = find_sources(src, layout, faces, with_mesh=with_mesh)
    for subset, people in sources.people.items():
        for identity in (name for name, clips in people.items() if clips):
            require_free(out / subset / identity)
    with sole_writer(out):
        return _prepare(src, out, layout, reason, sources, size_px, num_workers, progress)


def _prepare(
    src: Path,
    out: Path,
    layout: Layout,
    reason: str,
    sources: Sources,
    size_px: int,
    num_workers: int | None,
    progress: Progress,
) -> PrepareReport:
    """`prepare`, once it is known who is in the source folder."""
    entries = _entries(src, layout, sources)
    consents, unread = _take_consents(src, out, sources, entries)
    sha256 = _fingerprints(sources, progress)
    clips = [clip for people in sources.people.values() for some in people.values() for clip in some]
    if any(annotator_of(clip).needs_model for clip in clips):
        FaceAnnotator(is_video=True).close()  # a missing model file is reported before any work
    plans = [
        _Plan(src, out, subset, people, sha256, size_px, consents) for subset, people in sorted(sources.people.items())
    ]
    unfinished = [job for plan in plans for job in plan.unfinished()]
    fresh = run_clips(unfinished, num_workers, progress)
    reports = [plan.finish(fresh, consents) for plan in plans]
    for plan in plans:
        plan.record_kept(consents, unread)
    rejected = sources.rejected + [one for plan in plans for one in plan.left_out]
    rejected += [(one.identity, problem) for report in reports for one in report for problem in _problems_of(one)]
    write_rejected(out / REJECTED_NAME, rejected)
    for plan, report in zip(plans, reports, strict=True):
        if not any(one.num_kept for one in report):
            first = f", {min(rejected, key=_rank)[1]}" if rejected else ""
            text = f"{len(rejected)} things left out{first}; all of them are in {out / REJECTED_NAME}"
            raise DataError(f"{plan.out}: nobody with a usable frame ({text})")
    removed = tuple(name for plan in plans for name in plan.remove_gone(entries[plan.subset], unread))
    kept = [plan.kept(unread) for plan in plans]
    return PrepareReport(
        layout=layout,
        reason=reason,
        datasets=[
            DatasetReport(path=plan.out, identities=report, contact_sheet=_contact_sheet(plan.out, report, some_kept))
            for plan, report, some_kept in zip(plans, reports, kept, strict=True)
        ],
        rejected=rejected,
        rejected_csv=out / REJECTED_NAME,
        removed=removed,
        kept=tuple(chain.from_iterable(kept)),
        strangers=tuple(name for plan in plans for name in plan.others(unread)),
        not_to_train=tuple(refusals(_used(plans, reports, kept, consents), Role.TRAINING)),
    )


def _entries(src: Path, layout: Layout, sources: Sources) -> dict[str, set[str]]:
    """Everybody with an entry by dataset; who is in another dataset now has none."""
    elsewhere = {
        subset: {name for other, people in sources.people.items() if other != subset for name in people}
        for subset in sources.people
    }
    return {subset: people_with_entry(src, layout, subset) - elsewhere[subset] for subset in sources.people}


def _take_consents(
    src: Path, out: Path, sources: Sources, entries: Mapping[str, set[str]]
) -> tuple[dict[str, ConsentRecord | None], set[str]]:
    """Everybody's record, None for whoever has none; and who has one that cannot be used: they are rejected.

    Of people with an entry and without a clip only a record that is found counts: the rest may be where it is.
    """
    consents: dict[str, ConsentRecord | None] = {}
    unread = set()
    for subset, people in sources.people.items():
        for identity in sorted(people.keys() | entries[subset]):
            try:
                is_there = is_shard(out / subset / identity)
                record = _consent_of(src / identity, identity, is_there=is_there)
                if record is not None or people.get(identity):
                    consents[identity] = record
            except DataError as error:
                people.pop(identity, None)
                unread.add(identity)
                sources.rejected.append((identity, Rejected.by_error(consent_file(src / identity), error)))
    return consents, unread


def _consent_of(entry: Path, identity: str, *, is_there: bool) -> ConsentRecord | None:
    """The record that lies with a person's videos, whose shard `is_there` or would be made anew."""
    path = consent_file(entry)
    try:
        if not path.exists():
            return None
    except OSError:  # a folder that may not be looked into
        return None
    record = read_consent(path)
    if record.person != identity:
        raise DataError(f"{path}: is of {record.person!r}, wanted {identity!r}, whose videos it lies with")
    if record.revoked is not None and not is_there:
        raise DataError(f"{path}: consent {record.id} was revoked on {record.revoked}; remove the person's videos")
    return record


def _check_request(src: Path, out: Path, size_px: int) -> None:
    if not MIN_SIZE_PX <= size_px <= MAX_SIZE_PX:
        raise ConfigError(f"--size: got {size_px}, wanted {MIN_SIZE_PX} to {MAX_SIZE_PX} pixels")
    if src.resolve() in (out.resolve(), *out.resolve().parents):
        raise ConfigError(f"{out}: inside of the source folder {src}; write the dataset to a folder beside it")
    if out.resolve() in src.resolve().parents:
        raise ConfigError(f"{out}: holds the source folder {src}; write the dataset to a folder beside it")


class _Plan:
    """One dataset to write: what is to be done and what is done already."""

    def __init__(
        self,
        src: Path,
        out: Path,
        subset: str,
        people: People,
        sha256: Mapping[ClipSource, str],
        size_px: int,
        consents: Mapping[str, ConsentRecord | None],
    ) -> None:
        self.out, self.subset = out / subset, subset
        self._src = str(src.resolve())
        self._jobs = {
            identity: [
                ClipJob(
                    source=clip,
                    identity=identity,
                    sha256=sha256[clip],
                    part_dir=self.out / f"{identity}{PARTS_SUFFIX}",
                    size_px=size_px,
                )
                for clip in clips
            ]
            for identity, clips in people.items()
        }
        self._damage = {identity: _damage_of(self.out / identity) for identity in self._jobs}
        self._done = {
            identity: None if self._damage[identity] else _finished(self.out / identity, jobs, or_more=True)
            for identity, jobs in self._jobs.items()
        }
        self._annotated_before_by = {
            identity: _annotated_by(self.out / identity)
            for identity, jobs in self._jobs.items()
            if not (self._done[identity] or self._damage[identity]) and _of_clips(self.out / identity, jobs) is not None
        }
        self.left_out: list[tuple[str, Rejected]] = []
        """People of whom nothing is prepared though they have clips, and why; their shards are as they were."""
        self._withdrawn: set[str] = set()
        for identity in [name for name in self._jobs if self._done[name] is None]:
            record = consents.get(identity)
            if self._is_of_namesake(identity):
                self._leave_namesake(identity)
            elif record is not None and record.revoked is not None:
                self._leave_withdrawn(identity, consent_file(src / identity), record)
        self._parts: dict[ClipJob, ClipSummary] = {}
        self._usable: set[str] = set()

    def _is_of_namesake(self, identity: str) -> bool:
        """Whether a shard came from another source folder, and has no clip in common with what is there now."""
        info, digests = _info(self.out / identity), {job.sha256 for job in self._jobs[identity]}
        if not (info and digests) or info.get(PREPARED_FROM) == self._src:
            return False
        sources = info.get("sources")
        known = [one.get("sha256") for one in sources if isinstance(one, dict)] if isinstance(sources, list) else []
        return digests.isdisjoint(known)

    def _leave_namesake(self, identity: str) -> None:
        shard = self.out / identity
        source = _info(shard).get(PREPARED_FROM) or "another source folder"
        text = (
            f"a shard of other files, from {source}, is kept and {identity} not prepared; give one of the two people "
            "another name, or remove the shard if it is to be replaced"
        )
        self.left_out.append((identity, Rejected(str(shard), text)))
        del self._jobs[identity]

    def _leave_withdrawn(self, identity: str, path: Path, record: ConsentRecord) -> None:
        text = (
            f"consent {record.id} was revoked on {record.revoked}, so nothing is prepared anew; the shard of before is "
            f"kept until `fedreenact withdraw {identity} {self.out}` takes it out"
        )
        self.left_out.append((identity, Rejected(str(path), text)))
        self._withdrawn.add(identity)
        del self._jobs[identity]
        shutil.rmtree(self.out / f"{identity}{PARTS_SUFFIX}", ignore_errors=True)

    def unfinished(self) -> Iterator[ClipJob]:
        """Jobs whose parts are not there."""
        self.out.mkdir(parents=True, exist_ok=True)
        for identity, jobs in self._jobs.items():
            for job in jobs if self._done[identity] is None else ():
                part = None if _damage_of(job.part) else _finished(job.part, [job])
                if part is None:
                    yield job
                else:
                    self._parts[job] = part[0]

    def finish(
        self, fresh: Mapping[ClipJob, ClipSummary], consents: Mapping[str, ConsentRecord | None]
    ) -> list[IdentityReport]:
        """Turn parts into shards."""
        parts = self._parts | dict(fresh)
        return [self._finish_one(identity, parts, consents.get(identity)) for identity in self._jobs]

    def record_kept(self, consents: Mapping[str, ConsentRecord | None], unread: set[str]) -> None:
        """Bring shards of which nothing is prepared their people's records.

        Args:
            consents: of people with a record, or with clips and without one.
            unread: people with a record that cannot be used; their shards stay, without one.
        """
        for name, source in self._there().items():
            is_own = source == self._src or name in self._withdrawn
            if name in unread or (is_own and name in consents and name not in self._usable):
                with contextlib.suppress(DataError):  # nobody trains on a shard that cannot be read
                    record_consent(self.out / name, None if name in unread else consents[name])

    def remove_gone(self, entries: set[str], unread: set[str]) -> list[str]:
        """Remove shards of this source folder's people of whom it has no entry now; their names.

        Somebody who withdraws consent is taken out of the source folder, and so leaves the dataset. A video that cannot
        be read today (a disk that is not there, a copy under way) takes nobody out.

        Args:
            entries: people with an entry.
            unread: people with a record that cannot be used.
        """
        there = self._there()
        staying = self._usable | entries | unread
        gone = [name for name, source in there.items() if source == self._src and name not in staying]
        for name in gone:
            remove_shard(self.out / name)
            shutil.rmtree(self.out / f"{name}{PARTS_SUFFIX}", ignore_errors=True)
        return gone

    def kept(self, unread: set[str]) -> list[str]:
        """People in the dataset, once the others are removed, of whom the source folder gives nothing usable now."""
        there = self._there()
        return sorted(
            name
            for name, source in there.items()
            if (source == self._src or name in self._jobs.keys() | self._withdrawn)
            and name not in self._usable | unread
        )

    def others(self, unread: set[str]) -> list[str]:
        """People in the dataset that came from elsewhere."""
        there = self._there()
        return sorted(
            name
            for name, source in there.items()
            if source != self._src and name not in unread | self._withdrawn | self._jobs.keys()
        )

    def _there(self) -> dict[str, str]:
        """Name of each shard's folder in the dataset to the source folder that it was made of; "" if unknown."""
        return {folder.name: str(_info(folder).get(PREPARED_FROM, "")) for folder in shard_folders(self.out)}

    def _finish_one(
        self, identity: str, parts: Mapping[ClipJob, ClipSummary], consent: ConsentRecord | None
    ) -> IdentityReport:
        jobs, done = self._jobs[identity], self._done[identity]
        clips = [parts[job] for job in jobs] if done is None else done
        others = _others(clips) if done is None else set()
        if done is None:
            clips = [_told_of_others(job, clip, others) for job, clip in zip(jobs, clips, strict=True)]
        report = IdentityReport(
            identity=identity,
            clips=clips,
            was_done=done is not None,
            annotated_before_by=self._annotated_before_by.get(identity, ""),
            damage=self._damage[identity],
        )
        if done is not None:
            record_consent(self.out / identity, consent)
        if done is None and report.num_kept:
            self._merge(jobs, report, others, consent)
        if report.num_kept:
            self._usable.add(identity)
        shutil.rmtree(self.out / f"{identity}{PARTS_SUFFIX}", ignore_errors=True)
        return report

    def _merge(
        self, jobs: Sequence[ClipJob], report: IdentityReport, others: set[str], consent: ConsentRecord | None
    ) -> None:
        kind = annotator_of(jobs[0].source)
        with ShardWriter(
            self.out,
            report.identity,
            jobs[0].size_px,
            kind.name,
            annotator_version=kind.version,
            sources=[asdict(clip) for clip in report.clips],
            consent=consent,
            prepared_from=self._src,
        ) as writer:
            for job, clip in zip(jobs, report.clips, strict=True):
                if not clip.num_kept:
                    continue
                if _of_clips(job.part, [job]) is None:
                    raise DataError(f"{job.part}: not made of {job.source.path}, which it is named for; prepare again")
                writer.adopt(open_shard(job.part), others)


def _used(
    plans: Iterable[_Plan],
    reports: Iterable[Iterable[IdentityReport]],
    kept: Iterable[Iterable[str]],
    consents: Mapping[str, ConsentRecord | None],
) -> dict[str, ConsentRecord | None]:
    """Records of those who are in a dataset now."""
    used = {one.identity: consents.get(one.identity) for report in reports for one in report if one.num_kept}
    folders = [plan.out / name for plan, names in zip(plans, kept, strict=True) for name in names]
    return used | {shard.path.name: shard.consent for shard in usable_shards(folders)}


def _others(clips: Sequence[ClipSummary]) -> set[str]:
    """Takes of a person's clips that show somebody else."""
    people = {take: np.asarray(who, np.float32) for clip in clips for take, who in clip.people.items()}
    return others_than_main(people, {take: count for clip in clips for take, count in clip.num_by_take.items()})


def _told_of_others(job: ClipJob, clip: ClipSummary, others: set[str]) -> ClipSummary:
    """The summary of a clip without the takes of others, and without what tells who anybody is."""
    left_out = sorted(others & clip.people.keys())
    num_left_out = sum(clip.num_by_take[take] for take in left_out)
    problems = list(clip.problems)
    if left_out:
        text = (
            f"{num_left_out} frames show another person than most of {job.identity}'s ({', '.join(left_out)}); "
            "give that person a folder of their own"
        )
        problems.append(Rejected(str(job.source.path), text))
    num_kept = clip.num_kept - num_left_out
    return replace(clip, num_kept=num_kept, num_of_others=num_left_out, people={}, num_by_take={}, problems=problems)


def _contact_sheet(out: Path, identities: Iterable[IdentityReport], kept: Sequence[str]) -> Path:
    names = [one.identity for one in identities if one.num_kept]
    return write_contact_sheet(usable_shards(out / name for name in (*names, *kept)), out / CONTACT_SHEET_NAME)


def _problems_of(report: IdentityReport) -> list[Rejected]:
    if not report.clips:
        return [Rejected(report.identity, "no clip in this person's folder; add a video or pictures, or remove it")]
    return list(chain.from_iterable(clip.problems for clip in report.clips))


def _fingerprints(sources: Sources, progress: Progress) -> dict[ClipSource, str]:
    """SHA-256 of each clip with its annotations; a clip that cannot be read is moved to the rejected."""
    owners = [
        (people, identity, clip)
        for people in sources.people.values()
        for identity, clips in people.items()
        for clip in clips
    ]
    found = {}
    with ThreadPoolExecutor() as threads:
        once = functools.cache(source_sha256)  # clips may share an annotation file
        digests = threads.map(lambda owner: _fingerprint(owner[2], once), owners)
        for number, ((people, identity, clip), digest) in enumerate(zip(owners, digests, strict=True), start=1):
            if isinstance(digest, Rejected):
                people[identity].remove(clip)
                sources.rejected.append((identity, digest))
            else:
                found[clip] = digest
            progress(COMPARING, number, len(owners))
    return found


def _fingerprint(clip: ClipSource, annotation_sha256: Callable[[Path], str]) -> str | Rejected:
    try:
        others = [annotation_sha256(file) for file in (*clip.annotations, clip.test_list) if file]
        others += [f"face {clip.face}"] if clip.face else []
        sha256 = source_sha256(clip.path, clip.stretch)
    except OSError as error:
        return Rejected(str(error.filename or clip.path), f"cannot be read ({error.strerror}); bring the file back")
    return hashlib.sha256("".join([sha256, *others]).encode()).hexdigest() if others else sha256


def _info(shard_dir: Path) -> dict[str, Any]:
    """Content of a shard's shard.json; empty if it cannot be read."""
    try:
        info = read_json(shard_dir / INFO_NAME)
    except (OSError, ValueError):
        return {}
    return info if isinstance(info, dict) else {}


def _damage_of(shard_dir: Path) -> str:
    """Why a shard (or part) cannot be used; "" if it can, or there is none."""
    if not is_shard(shard_dir):
        return ""
    try:
        open_shard(shard_dir).check_frames()
    except DataError as error:
        return str(error).split("; ")[0]  # what to do is done
    return ""


def _finished(shard_dir: Path, jobs: Sequence[ClipJob], *, or_more: bool = False) -> list[ClipSummary] | None:
    """Summaries stored in a shard (or part) that was made from exactly these clips by their annotator, else None.

    With `or_more` it may have meshes that are not asked for; parts of one shard are to be alike.
    """
    clips = _of_clips(shard_dir, jobs)
    if clips is None:
        return None
    kind = annotator_of(jobs[0].source)
    kinds = (kind, kind.keeping_meshes()) if or_more else (kind,)
    return clips if _annotated_by(shard_dir) in [f"{one.name} {one.version}" for one in kinds] else None


def _of_clips(shard_dir: Path, jobs: Sequence[ClipJob]) -> list[ClipSummary] | None:
    """Summaries stored in a shard (or part) that was made from exactly these clips at their size, else None."""
    if not jobs:
        return None
    try:
        info = _info(shard_dir)
        clips = [ClipSummary.from_json(source) for source in info["sources"]]
        made = (info["size_px"], [clip.sha256 for clip in clips])
    except (KeyError, TypeError):
        return None
    return clips if made == (jobs[0].size_px, [job.sha256 for job in jobs]) else None


def _annotated_by(shard_dir: Path) -> str:
    """Annotator and version that a shard names."""
    info = _info(shard_dir)
    return f"{info.get('annotator')} {info.get('annotator_version')}"
