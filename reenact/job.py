"""`fedreenact reenact`: a source person and a driving picture or clip in, a picture or video out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch

from data_partition.shards.images import write_image
from data_partition.sources.video import is_clip
from model.checkpoint import load_checkpoint
from model.errors import ConfigError
from model.frames import Frame
from model.progress import Progress
from reenact.faces import DrivingClip, annotate_clip, face_of_picture
from reenact.guidance import LandmarkStatistics
from reenact.guidance_choice import Guidance
from reenact.person import Person, SteadyChoice, person_of
from reenact.reenactor import Drawing, FaceFrame, Reenactor
from reenact.video_writer import VideoWriter

_FRAMES_AT_ONCE = 8
_Item = TypeVar("_Item")
_PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReenactRequest:
    """What to reenact."""

    checkpoint: Path
    """A round folder, or a run folder for its newest intact round."""
    sources: tuple[Path, ...]
    """Pictures, clips, folders of pictures or shards of the person to draw, one at least."""
    driving: Path
    """Picture, video or folder of pictures that gives head movement and expression."""
    out: Path
    """.jpg or .png for a picture, .mp4 for a clip."""
    landmarks: Guidance = Guidance.AUTO
    """AUTO: driving landmarks if both show one person, LGAN for a known source, base or else LSt otherwise."""
    face: int = 0
    """Number of the source's face where pictures or clips show several, from 1 on the left; 0 is the largest."""
    driving_face: int = 0
    """The same of the driving picture or clip."""
    identity: str = ""
    """Source identity; "" takes it from the shard the source lies in or is, if any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReenactReport:
    """What was written."""

    out: Path
    guidance: Guidance
    num_frames: int
    num_sources: int
    """Frames of the source person that each result was drawn from."""
    num_references: int
    """Frames of the source person that these were chosen from."""
    num_without_face: int
    """Driving frames without a face; each repeats the result before it."""


def run_request(request: ReenactRequest, *, device: torch.device, progress: Progress) -> ReenactReport:
    """Reenact and write the result; the output appears only when it is complete.

    Args:
        request: what to do.
        device: where the networks run.
        progress: called for every frame of a clip.

    Raises:
        CheckpointError: if the checkpoint cannot be used.
        ConfigError: for an unknown identity, sources that show different people, or an output name that does not fit
            the driving input.
        DataError: if an input cannot be read or shows no face.
    """
    has_clip = is_clip(request.driving)
    _check_output(request, has_clip)
    reenactor = Reenactor(load_checkpoint(request.checkpoint), device)
    source = person_of(request.sources, reenactor.size_px, progress, request.face)
    if request.identity:
        source = replace(source, identity=reenactor.known_identity(request.identity))
    run = _reenact_clip if has_clip else _reenact_picture
    return run(request, reenactor, source, progress)


def _reenact_picture(
    request: ReenactRequest, reenactor: Reenactor, source: FaceFrame, progress: Progress
) -> ReenactReport:
    driving = face_of_picture(request.driving, reenactor.size_px, request.driving_face)
    drawing, guidance = reenactor.draw_pair(source, driving, request.landmarks)
    request.out.parent.mkdir(parents=True, exist_ok=True)
    write_image(request.out, drawing.result)
    progress("Drawing", 1, 1)
    return _report(request, reenactor, source, guidance, num_frames=1, num_without_face=0)


def _reenact_clip(
    request: ReenactRequest, reenactor: Reenactor, source: FaceFrame, progress: Progress
) -> ReenactReport:
    guidance = reenactor.choose(request.landmarks, source, driving_identity="")
    clip = annotate_clip(request.driving, reenactor.size_px, progress, request.driving_face)
    statistics = reenactor.statistics("", clip.landmarks_NKC())
    results = _draw_clip(reenactor, source, clip, guidance, statistics)
    with VideoWriter(request.out, frame_rate_hz=clip.frame_rate_hz) as writer:
        for done, (timestamp_s, frame) in enumerate(results, start=1):
            writer.add(frame, timestamp_s)
            progress("Drawing", done, clip.num_frames)
    counts = {"num_frames": clip.num_frames, "num_without_face": clip.num_without_face}
    return _report(request, reenactor, source, guidance, **counts)


def _report(
    request: ReenactRequest, reenactor: Reenactor, source: FaceFrame, guidance: Guidance, **counts: int
) -> ReenactReport:
    num_references = len(source.references.frames) if isinstance(source, Person) else 1
    return ReenactReport(
        out=request.out,
        guidance=guidance,
        num_sources=min(reenactor.num_sources, num_references),
        num_references=num_references,
        **counts,
    )


def _draw_clip(
    reenactor: Reenactor,
    source: FaceFrame,
    clip: DrivingClip,
    guidance: Guidance,
    statistics: LandmarkStatistics,
) -> Iterator[tuple[float, Frame]]:
    """Time in seconds and result of every driving frame; before the first face the source crop stands still."""
    last, rest = source.image_HWC, clip.rest()
    reference = clip.face_like(source) if reenactor.takes_reference(guidance) else None
    choice = SteadyChoice(source, reenactor.num_sources)
    for chunk in _chunks(clip.faces(), _FRAMES_AT_ONCE):
        faces = [face for _, face in chunk if face is not None]
        drawings: Iterator[Drawing] = iter(())
        if faces:
            targets_NKC = reenactor.target_landmarks(guidance, source, faces, statistics, rest)
            sources = [choice.next(target_KC, f.pose_C) for target_KC, f in zip(targets_NKC, faces, strict=True)]
            drawings = iter(reenactor.draw_from(sources, faces, targets_NKC, reference))
        for timestamp_s, face in chunk:
            last = next(drawings).result if face is not None else last
            yield timestamp_s, last


def _chunks(faces: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    iterator = iter(faces)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _check_output(request: ReenactRequest, has_clip: bool) -> None:
    """Refuse before the work starts what would fail after it."""
    suffix = request.out.suffix.lower()
    if has_clip and suffix != ".mp4":
        raise ConfigError(f"--out {request.out}: the driving input is a clip, so the output must end in .mp4")
    if not has_clip and suffix not in _PICTURE_SUFFIXES:
        raise ConfigError(
            f"--out {request.out}: the driving input {request.driving} is no video by its name, so it is read as a "
            "picture and the output must end in " + " or ".join(_PICTURE_SUFFIXES)
        )
    if request.out.resolve() in [path.resolve() for path in (*request.sources, request.driving)]:
        raise ConfigError(f"--out {request.out} would overwrite an input; choose another name")
