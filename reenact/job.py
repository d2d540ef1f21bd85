"""`fedreenact reenact`: a source picture and a driving picture or clip in, a picture or video out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

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
from reenact.reenactor import Drawing, FaceFrame, Reenactor
from reenact.video_writer import VideoWriter

_FRAMES_AT_ONCE = 8
_PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReenactRequest:
    """What to reenact."""

    checkpoint: Path
    """A round folder, or a run folder for its newest intact round."""
    source: Path
    """Picture of the person to draw."""
    driving: Path
    """Picture, video or folder of pictures that gives head movement and expression."""
    out: Path
    """.jpg or .png for a picture, .mp4 for a clip."""
    landmarks: Guidance = Guidance.AUTO
    """AUTO: driving landmarks if both show one person, LGAN for a known source, base or else LSt otherwise."""
    identity: str = ""
    """Source identity; "" takes it from the shard the source lies in, if any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReenactReport:
    """What was written."""

    out: Path
    guidance: Guidance
    num_frames: int
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
        ConfigError: for an unknown identity, or an output name that does not fit the driving input.
        DataError: if an input cannot be read or shows no face.
    """
    has_clip = is_clip(request.driving)
    _check_output(request, has_clip)
    reenactor = Reenactor(load_checkpoint(request.checkpoint), device)
    source = face_of_picture(request.source, reenactor.size_px)
    if request.identity:
        source = replace(source, identity=reenactor.known_identity(request.identity))
    run = _reenact_clip if has_clip else _reenact_picture
    return run(request, reenactor, source, progress)


def _reenact_picture(
    request: ReenactRequest, reenactor: Reenactor, source: FaceFrame, progress: Progress
) -> ReenactReport:
    driving = face_of_picture(request.driving, reenactor.size_px)
    drawing, guidance = reenactor.draw_pair(source, driving, request.landmarks)
    request.out.parent.mkdir(parents=True, exist_ok=True)
    write_image(request.out, drawing.result)
    progress("Drawing", 1, 1)
    return ReenactReport(out=request.out, guidance=guidance, num_frames=1, num_without_face=0)


def _reenact_clip(
    request: ReenactRequest, reenactor: Reenactor, source: FaceFrame, progress: Progress
) -> ReenactReport:
    guidance = reenactor.choose(request.landmarks, source, driving_identity="")
    clip = annotate_clip(request.driving, reenactor.size_px, progress)
    statistics = reenactor.statistics("", clip.landmarks_NKC())
    results = _draw_clip(reenactor, source, clip, guidance, statistics)
    with VideoWriter(request.out, frame_rate_hz=clip.frame_rate_hz) as writer:
        for done, frame in enumerate(results, start=1):
            writer.add(frame)
            progress("Drawing", done, clip.num_frames)
    return ReenactReport(
        out=request.out,
        guidance=guidance,
        num_frames=clip.num_frames,
        num_without_face=clip.num_without_face,
    )


def _draw_clip(
    reenactor: Reenactor,
    source: FaceFrame,
    clip: DrivingClip,
    guidance: Guidance,
    statistics: LandmarkStatistics,
) -> Iterator[Frame]:
    """One frame per driving frame; before the first face the source crop stands still."""
    last, rest = source.image_HWC, clip.rest()
    for chunk in _chunks(clip.faces(), _FRAMES_AT_ONCE):
        faces = [face for face in chunk if face is not None]
        drawings: Iterator[Drawing] = iter(())
        if faces:
            targets_NKC = reenactor.target_landmarks(guidance, source, faces, statistics, rest)
            drawings = iter(reenactor.draw(source, faces, targets_NKC))
        for face in chunk:
            last = next(drawings).result if face is not None else last
            yield last


def _chunks(faces: Iterable[FaceFrame | None], size: int) -> Iterator[list[FaceFrame | None]]:
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
            f"--out {request.out}: the driving input {request.driving} is one picture, so the output must "
            "end in " + " or ".join(_PICTURE_SUFFIXES)
        )
    if request.out.resolve() in (request.source.resolve(), request.driving.resolve()):
        raise ConfigError(f"--out {request.out} would overwrite an input; choose another name")
