"""One clip into one part shard: annotate every frame, choose steady crops, cut. Memory stays flat.

The clip is decoded twice: the first pass keeps only annotations, the second cuts the frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_partition.faces.annotate import FaceAnnotation
from data_partition.faces.clip_annotators import ClipAnnotator, annotator_of
from data_partition.faces.crop import CropBox, crop_and_resize, find_takes, steady_boxes
from data_partition.shards.writer import ShardWriter
from data_partition.sources.celebv import read_names
from data_partition.sources.records import ClipSource, Layout
from data_partition.sources.rejected import Rejected
from data_partition.sources.video import VideoFrame, read_frames
from model.errors import DataError

MIN_TAKE_FRAMES = 5
"""Takes with fewer frames are dropped: their frames have no partners."""

_CROPPED = (Layout.CELEBV, Layout.VOXCELEB)
"""Layouts whose pictures are crops of heads already."""


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
    num_frames: int = 0
    """Frames that could be decoded."""
    num_kept: int = 0
    num_without_face: int = 0
    num_in_short_takes: int = 0
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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Detection:
    frame_index: int
    timestamp_s: float
    image_HW: tuple[int, int]
    face: FaceAnnotation


_Crops = dict[int, tuple[str, CropBox, _Detection]]
"""Frame index to take name, box and detection of each frame that is kept."""


def prepare_clip(job: ClipJob, annotator: ClipAnnotator, on_frame: Callable[[], None]) -> ClipSummary:
    """Prepare one clip.

    Args:
        job: what to do.
        annotator: a fresh one; it may carry state from frame to frame.
        on_frame: called after each frame of each of the two passes.

    Returns:
        The summary; with `num_kept` 0 nothing was written. A clip that cannot be opened is a problem in it.
    """
    summary = ClipSummary(name=job.source.name, sha256=job.sha256)
    try:
        detections = _detect_all(job, annotator, summary, on_frame)
        crops = _choose_crops(job, detections, summary)
        if crops:
            _write_part(job, crops, summary, on_frame)
    except DataError as error:
        summary.problems.append(Rejected.by_error(job.source.path, error))
    return summary


def _detect_all(
    job: ClipJob, annotator: ClipAnnotator, summary: ClipSummary, on_frame: Callable[[], None]
) -> list[_Detection]:
    source = job.source
    detections = []
    for frame in read_frames(source.path, summary.problems.append, source.stretch):
        face = annotator.annotate(frame)
        summary.num_frames += 1
        if face is None:
            summary.num_without_face += 1
        else:
            height, width = frame.image_HWC.shape[:2]
            detections.append(
                _Detection(
                    frame_index=frame.index,
                    timestamp_s=frame.timestamp_s,
                    image_HW=(height, width),
                    face=face,
                )
            )
        on_frame()
    summary.problems += annotator.problems()
    if not summary.num_frames:
        summary.add_problem(source.path, "no frame could be read")
    elif not detections:
        summary.add_problem(source.path, f"no face found in any of {summary.num_frames} frames")
    return detections


def _choose_crops(job: ClipJob, detections: list[_Detection], summary: ClipSummary) -> _Crops:
    if not detections:
        return {}
    if job.source.layout in _CROPPED and all(height == width for height, width in (d.image_HW for d in detections)):
        return {d.frame_index: (job.source.name, CropBox(left=0, top=0, side=d.image_HW[0]), d) for d in detections}
    landmarks_FKC = np.stack([d.face.landmarks_KC for d in detections])
    timestamp_s = np.array([d.timestamp_s for d in detections])
    take_F = find_takes(
        landmarks_FKC,
        np.array([d.frame_index for d in detections]),
        np.array([d.image_HW for d in detections]),
    )
    num_takes = int(take_F[-1]) + 1
    crops = {}
    for take in range(num_takes):
        rows = np.flatnonzero(take_F == take)
        if len(rows) < MIN_TAKE_FRAMES:
            summary.num_in_short_takes += len(rows)
            continue
        name = job.source.name if num_takes == 1 else f"{job.source.name}-take{take + 1}"
        boxes = steady_boxes(landmarks_FKC[rows], timestamp_s[rows], detections[rows[0]].image_HW)
        for row, box in zip(rows, boxes, strict=True):
            crops[detections[row].frame_index] = (name, box, detections[row])
    if not crops:
        text = f"the face never stays in place for {MIN_TAKE_FRAMES} frames; nothing to use"
        summary.add_problem(job.source.path, text)
    return crops


def _write_part(job: ClipJob, crops: _Crops, summary: ClipSummary, on_frame: Callable[[], None]) -> None:
    source = job.source
    summary.num_kept = len(crops)
    test_names = read_names(source.test_list) if source.test_list else None
    name, version = annotator_of(source)
    with ShardWriter(
        job.part_dir,
        source.part_name,
        job.size_px,
        name,
        annotator_version=version,
        sources=[asdict(summary)],
    ) as writer:
        for frame in read_frames(source.path, lambda _: None, source.stretch):
            if frame.index in crops:
                is_test = source.is_test if test_names is None else frame.name.casefold() in test_names
                _add(writer, frame, job.size_px, is_test, *crops[frame.index])
            on_frame()


def _add(
    writer: ShardWriter,
    frame: VideoFrame,
    size_px: int,
    is_test: bool | None,
    take: str,
    box: CropBox,
    detection: _Detection,
) -> None:
    writer.add(
        crop_and_resize(frame.image_HWC, box, size_px),
        clip=take,
        frame_index=frame.index,
        timestamp_s=frame.timestamp_s,
        landmarks_KC=box.to_crop(detection.face.landmarks_KC, size_px),
        pose_C=detection.face.pose_C,
        au_presence_A=detection.face.au_presence_A,
        au_intensity_A=detection.face.au_intensity_A,
        confidence=detection.face.confidence,
        is_test=is_test,
    )
