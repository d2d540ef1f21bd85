"""One clip into one part shard: the faces that can be trained on, with their annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_partition.faces.clip_annotators import ClipAnnotator
from data_partition.faces.face_table import FaceTable
from data_partition.faces.track import MIN_TAKE_FRAMES, FaceCrop, TrackedClip, cut_faces, track_clip
from data_partition.shards.writer import ShardWriter
from data_partition.sources.celebv import read_names
from data_partition.sources.layouts import LAYOUTS, annotator_of
from data_partition.sources.records import ClipSource
from data_partition.sources.rejected import Rejected
from data_partition.sources.video import VideoFrame, count_frames, picture_names
from model.errors import DataError

MAX_UNSHOWN_SHARE = 0.05
"""Of a video's announced frames; players leave out those before its first whole picture."""

UNRELATED_S = 1.0
"""Between pictures that do not follow one another in time: too far apart to be of one movement, or of one second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipJob:
    """One clip to prepare."""

    source: ClipSource
    identity: str
    sha256: str
    part_dir: Path
    """Folder in which the part shard is written."""
    size_px: int

    @property
    def part(self) -> Path:
        """The part shard."""
        return self.part_dir / self.source.part_name


@dataclass(kw_only=True, slots=True)
class ClipSummary:
    """What became of one clip; stored in shard.json as one of its sources."""

    name: str
    sha256: str
    num_given: int = 0
    """Frames that the source announces or, if there are more, has; 0 in shards of earlier versions."""
    num_frames: int = 0
    """Frames that could be decoded."""
    num_kept: int = 0
    num_without_face: int = 0
    num_in_short_takes: int = 0
    num_of_others: int = 0
    """Usable frames that show another person than the person's other frames, left out."""
    people: dict[str, list[float]] = field(default_factory=dict)
    """Take to the embedding of its face: in parts alone, until it is known who the person is."""
    num_by_take: dict[str, int] = field(default_factory=dict)
    """Take to its frames, where `people` has the take."""
    problems: list[Rejected] = field(default_factory=list)

    @classmethod
    def from_json(cls, source: Mapping[str, Any]) -> ClipSummary:
        """A source as shard.json has it.

        Raises:
            TypeError: if it is none.
        """
        return cls(**dict(source) | {"problems": [Rejected(*problem) for problem in source["problems"]]})

    def add_problem(self, path: Path, reason: str) -> None:
        """Note what could not be used."""
        self.problems.append(Rejected(str(path), reason))


def prepare_clip(job: ClipJob, annotator: ClipAnnotator, on_frame: Callable[[], None]) -> ClipSummary:
    """Prepare one clip.

    Args:
        job: what to do.
        annotator: a fresh one; it may carry state from frame to frame.
        on_frame: called after each frame of each pass: two, or three of photos.

    Returns:
        The summary; with `num_kept` 0 nothing was written. A clip that cannot be opened is a problem in it.
    """
    summary = ClipSummary(name=job.source.name, sha256=job.sha256)
    try:
        clip = track_clip(job.source, annotator, on_problem=summary.problems.append, on_frame=on_frame)
        names = _usable(clip, summary)
        if names:
            _write_part(job, clip, names, summary, on_frame)
    except DataError as error:
        summary.num_kept = 0
        summary.problems.append(Rejected.by_error(job.source.path, error))
    return summary


def _usable(clip: TrackedClip, summary: ClipSummary) -> dict[int, str]:
    """The takes to keep with their names; what is left out goes to the summary."""
    path = clip.source.path
    summary.num_frames = clip.num_frames
    summary.num_given = max(clip.num_frames, count_frames(path, clip.source.stretch))
    if not path.is_dir() and summary.num_given - clip.num_frames > MAX_UNSHOWN_SHARE * summary.num_given:
        text = f"announces {summary.num_given} frames, {clip.num_frames} could be read; it may be cut short"
        summary.add_problem(path, text)
    summary.num_without_face = clip.num_frames - len(clip.faces)
    if not clip.faces:
        text = f"no face found in any of {clip.num_frames} frames" if clip.num_frames else "no frame could be read"
        summary.add_problem(path, text)
        return {}
    num_frames = Counter(clip.faces.rows["take"].tolist())
    name = clip.source.name
    names = {
        take: name if len(num_frames) == 1 else f"{name}-take{take + 1}"
        for take, number in num_frames.items()
        if clip.is_cropped or number >= MIN_TAKE_FRAMES
    }
    if clip.source.is_apart:
        names = _names_of_photos(clip)
    summary.num_kept = sum(num_frames[take] for take in names)
    summary.num_in_short_takes = len(clip.faces) - summary.num_kept
    summary.people = {names[take]: who.tolist() for take, who in clip.people.items() if take in names}
    summary.num_by_take = {names[take]: num_frames[take] for take in clip.people if take in names}
    if not names:
        summary.add_problem(path, f"the face never stays in place for {MIN_TAKE_FRAMES} frames; nothing to use")
    return names


def _names_of_photos(clip: TrackedClip) -> dict[int, str]:
    """That of the folder for the take of most photos, and its own for each that is a take of one."""
    pictures, rows = picture_names(clip.source.path), clip.faces.rows
    alone = rows[rows["take"] > 0]
    places = {int(row["take"]): f"{clip.source.name}/{pictures[row['frame_index']]}" for row in alone}
    return {0: clip.source.name} | {take: replace(clip.source, place=place).name for take, place in places.items()}


def _write_part(
    job: ClipJob,
    clip: TrackedClip,
    names: Mapping[int, str],
    summary: ClipSummary,
    on_frame: Callable[[], None],
) -> None:
    source = job.source
    test_names = read_names(source.test_list) if source.test_list else None
    rows = clip.faces.rows
    usable = replace(clip, faces=FaceTable(rows[np.isin(rows["take"], list(names))]))
    kind, is_in_time = annotator_of(source), LAYOUTS[source.layout].is_in_time and not clip.source.is_apart
    with ShardWriter(
        job.part_dir,
        source.part_name,
        job.size_px,
        kind.name,
        annotator_version=kind.version,
        sources=[asdict(summary)],
    ) as writer:
        for frame, crop in cut_faces(usable, job.size_px, lambda _: None):
            if crop is not None:
                is_test = source.is_test if test_names is None else frame.name.casefold() in test_names
                time_s = frame.timestamp_s if is_in_time else UNRELATED_S * frame.index
                _add(writer, frame, time_s, names[usable.faces[frame.index].take], crop, is_test)
            on_frame()


def _add(
    writer: ShardWriter, frame: VideoFrame, timestamp_s: float, take: str, crop: FaceCrop, is_test: bool | None
) -> None:
    writer.add(
        crop.image_HWC,
        clip=take,
        frame_index=frame.index,
        timestamp_s=timestamp_s,
        landmarks_KC=crop.annotation.landmarks_KC,
        pose_C=crop.annotation.pose_C,
        au_presence_A=crop.annotation.au_presence_A,
        au_intensity_A=crop.annotation.au_intensity_A,
        confidence=crop.annotation.confidence,
        irises_EC=crop.annotation.irises_EC,
        mesh=None if crop.annotation.mesh is None else crop.annotation.mesh.in_half_sides(len(crop.image_HWC)),
        is_test=is_test,
    )
