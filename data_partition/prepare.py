"""Videos of people in, one annotated shard per person out: `fedreenact prepare`.

Every clip is one job of a process pool and leaves a finished part in <out>/<identity>.parts. When all clips of
a person are done, the parts become the shard. A killed run loses only the clips that were under way.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from data_partition.annotate import ANNOTATOR_NAME, ANNOTATOR_VERSION, FaceAnnotator
from data_partition.clip import ClipJob, ClipSummary
from data_partition.clip_pool import Progress, run_clips
from data_partition.contact_sheet import write_contact_sheet
from data_partition.shard import INFO_NAME, open_shard
from data_partition.shard_writer import ShardWriter, record_consent
from data_partition.sources import find_sources
from data_partition.video import source_sha256
from model.errors import DataError

CONTACT_SHEET_NAME = "contact-sheet.jpg"
PARTS_SUFFIX = ".parts"


@dataclass(frozen=True, kw_only=True, slots=True)
class IdentityReport:
    """What became of one person's clips."""

    identity: str
    clips: list[ClipSummary]
    was_done: bool
    """True if an earlier run had finished the same clips at the same size."""

    @property
    def num_frames(self) -> int:
        """Frames that could be decoded."""
        return sum(clip.num_frames for clip in self.clips)

    @property
    def num_kept(self) -> int:
        """Frames in the shard."""
        return sum(clip.num_kept for clip in self.clips)

    @property
    def problems(self) -> list[str]:
        """One sentence each."""
        return [problem for clip in self.clips for problem in clip.problems]


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareReport:
    """What `prepare` did."""

    identities: list[IdentityReport]
    ignored: list[str] = field(default_factory=list)
    """Entries of the source folder that are no videos."""
    contact_sheet: Path

    def to_lines(self) -> list[str]:
        """The report in words, one line each."""
        lines = []
        for one in self.identities:
            share = 100 * one.num_kept / one.num_frames
            dropped = sum(clip.num_without_face for clip in one.clips)
            short = sum(clip.num_in_short_takes for clip in one.clips)
            lines.append(
                f"{one.identity}: kept {one.num_kept} of {one.num_frames} frames ({share:.1f} %) of "
                f"{len(one.clips)} clip(s), {dropped} without a face, {short} in takes too short to use"
                + (", done before" if one.was_done else "")
            )
            lines += [f"  problem: {problem}" for problem in one.problems]
        return lines + [f"ignored: {entry}" for entry in self.ignored]


def prepare(
    src: Path,
    out: Path,
    *,
    size_px: int = 256,
    num_workers: int | None = None,
    progress: Progress | None = None,
    consent: str = "",
) -> PrepareReport:
    """Prepare every person in `src`.

    Args:
        src: one video file, or one folder of videos or frames, per person.
        out: dataset folder; shards finished there from the same files at the same size are kept as they are.
        size_px: side of the crops.
        num_workers: processes; None is one per core, at most one per clip.
        progress: told how far it is.
        consent: where the people's consent is recorded, stored in every shard, finished ones too; "" if unknown.

    Returns:
        Kept and dropped frames of every person, and where the contact sheet is.

    Raises:
        DataError: if nobody is in `src`, or a person ends up without frames (after all others were finished).
        WeightsError: if the face landmarker file is missing.
    """
    FaceAnnotator(is_video=True).close()  # a missing model file is reported before any work
    sources, ignored = find_sources(src)
    out.mkdir(parents=True, exist_ok=True)
    jobs = {
        identity: [
            ClipJob(
                path=clip,
                identity=identity,
                sha256=source_sha256(clip),
                part_dir=out / f"{identity}{PARTS_SUFFIX}",
                size_px=size_px,
            )
            for clip in clips
        ]
        for identity, clips in sources.items()
    }
    done = {identity: _finished(out / identity, jobs[identity]) for identity in jobs}
    todo = [job for identity, one in jobs.items() if done[identity] is None for job in one]
    parts = {job: part[0] for job in todo if (part := _finished(job.part_dir / job.name, [job]))}
    unfinished = [job for job in todo if job not in parts]
    fresh = parts | run_clips(unfinished, num_workers, progress or (lambda done, total, text: None))
    reports, failures = [], []
    for identity, one in jobs.items():
        clips = done[identity] or [fresh[job] for job in one]
        report = IdentityReport(identity=identity, clips=clips, was_done=done[identity] is not None)
        if report.num_kept:
            _merge_parts(out, one, report, consent)
            reports.append(report)
        else:
            failures.append(_failure(src / identity, report))
    return _finish(out, reports, failures, ignored)


def _finish(out: Path, reports: list[IdentityReport], failures: list[str], ignored: list[str]) -> PrepareReport:
    if failures:
        rest = f"; the other {len(reports)} are finished in {out}" if reports else ""
        raise DataError(" | ".join(failures) + rest)
    sheet = write_contact_sheet([open_shard(out / report.identity) for report in reports], out / CONTACT_SHEET_NAME)
    return PrepareReport(identities=reports, ignored=ignored, contact_sheet=sheet)


def _failure(source: Path, report: IdentityReport) -> str:
    if not report.clips:
        return f"{source}: no video and no picture in this folder; add one or remove the folder"
    return f"{report.identity}: no usable frame ({'; '.join(report.problems)}); replace or remove this source"


def _finished(shard_dir: Path, jobs: Sequence[ClipJob]) -> list[ClipSummary] | None:
    """Summaries stored in a shard (or part) that was made from exactly these clips, else None."""
    try:
        info = json.loads((shard_dir / INFO_NAME).read_text(encoding="utf-8"))
        clips = [ClipSummary(**source) for source in info["sources"]]
        made = (info["annotator"], info["annotator_version"], info["size_px"], [c.sha256 for c in clips])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    wanted = (ANNOTATOR_NAME, ANNOTATOR_VERSION, jobs[0].size_px if jobs else 0, [job.sha256 for job in jobs])
    return clips if made == wanted else None


def _merge_parts(out: Path, jobs: Sequence[ClipJob], report: IdentityReport, consent: str) -> None:
    if report.was_done:
        if consent:
            record_consent(out / report.identity, consent)
        return
    with ShardWriter(
        out,
        report.identity,
        jobs[0].size_px,
        ANNOTATOR_NAME,
        annotator_version=ANNOTATOR_VERSION,
        sources=[asdict(clip) for clip in report.clips],
        consent=consent,
    ) as writer:
        for job, clip in zip(jobs, report.clips, strict=True):
            if clip.num_kept:
                writer.adopt(open_shard(job.part_dir / job.name))
    shutil.rmtree(jobs[0].part_dir, ignore_errors=True)
