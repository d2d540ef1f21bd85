"""What `fedreenact reenact` is asked for, and what it tells of the result."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from data_partition.consent.kinds import WithoutConsent
from data_partition.shards.shard import FRAMES_NAME, INFO_NAME, METADATA_NAME
from data_partition.sources.video import is_clip, source_sha256
from model.errors import ConfigError, DataError
from reenact.clips.steady import Gap
from reenact.consent import Permission, require_inputs
from reenact.guidance_choice import Guidance, MotionKind
from reenact.marks.kinds import LabelException
from reenact.movement import FULL, Strengths
from reenact.preview import check_preview

_PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReenactRequest:
    """What to reenact."""

    checkpoint: Path
    """A round folder, a run folder for its newest intact round, or a file that `export` wrote."""
    sources: tuple[Path, ...]
    """Pictures, clips, folders of pictures or shards of the person to draw, one at least."""
    driving: Path
    """Picture, video or folder of pictures that gives head movement and expression."""
    out: Path
    """.jpg or .png for a picture, .mp4 for a clip."""
    landmarks: Guidance = Guidance.AUTO
    """AUTO: driving landmarks if both show one person, LGAN for a known source, base or else LSt otherwise."""
    motion: MotionKind = MotionKind.AUTO
    """AUTO: relative for a clip that drives landmarks, absolute otherwise."""
    strengths: Strengths = FULL
    """Of the regions of the face."""
    face: int = 0
    """Number of the source's face where pictures or clips show several, from 1 on the left; 0 is the largest."""
    driving_face: int = 0
    """The same of the driving picture or clip."""
    identity: str = ""
    """Source identity; "" takes it from the shard the source lies in or is, if any."""
    is_pasted: bool = False
    """Whether the result is the source's whole picture, and not the crop of head and shoulders."""
    consent: Path | None = None
    """Record of the sources, a shard of their person, or a dataset in which the person is looked for by the face; None
    takes what lies with the sources."""
    without_consent: WithoutConsent | None = None
    """What sources are that have no record; None refuses them."""
    label_exception: LabelException | None = None
    """The law's exception by which the result has no visible label; None labels it."""
    preview: Path | None = None
    """Where to draw, before a clip is reenacted, what it is made of."""


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
    reference: int | None
    """Index of the driving frame that motion is relative to; None for absolute motion."""
    gaps: tuple[Gap, ...]
    """Where the driving clip shows no face."""
    sound: str
    """What became of the driving clip's sound; "" if it has none."""
    record: int
    """Number in the watermark and the manifest."""
    permission: Permission
    """By which it was drawn."""

    def __str__(self) -> str:
        """How it was drawn."""
        motion = "absolute" if self.reference is None else f"relative to driving frame {self.reference}"
        return (
            f"{self.num_frames} frame(s), landmarks by {self.guidance}, motion {motion}, "
            f"each from {self.num_sources} of {self.num_references} frame(s) of the source"
        )


def check_output(request: ReenactRequest) -> None:
    """Refuse before the work starts what would fail after it.

    Raises:
        ConfigError: if the output name does not fit the driving input or is an input, or there is nothing to preview.
        DataError: if an input is not there, or the driving input is a folder without pictures.
    """
    require_inputs((*request.sources, request.driving))
    suffix, has_clip = request.out.suffix.lower(), is_clip(request.driving)
    if request.driving.is_dir() and not has_clip:
        raise DataError(
            f"--driving {request.driving}: no pictures in this folder; wanted a picture, a video or a folder of "
            f"pictures (of a shard its folder {FRAMES_NAME})"
        )
    if has_clip and suffix != ".mp4":
        raise ConfigError(f"--out {request.out}: the driving input is a clip, so the output must end in .mp4")
    if not has_clip and suffix not in _PICTURE_SUFFIXES:
        raise ConfigError(
            f"--out {request.out}: the driving input {request.driving} is no video by its name, so it is read as a "
            "picture and the output must end in " + " or ".join(_PICTURE_SUFFIXES)
        )
    if request.out.resolve() in [path.resolve() for path in (*request.sources, request.driving)]:
        raise ConfigError(f"--out {request.out} would overwrite an input; choose another name")
    if request.preview is not None:
        if not has_clip:
            raise ConfigError("--preview shows what a driving clip will do; a picture is drawn at once")
        check_preview(request.preview)


def content_sha256(path: Path) -> str:
    """SHA-256 of an input: a file, a folder of pictures, or the frames and annotations of a shard.

    Raises:
        OSError: if it cannot be read.
    """
    if (path / INFO_NAME).is_file():
        parts = (path / FRAMES_NAME, path / METADATA_NAME, path / INFO_NAME)
        return hashlib.sha256("".join(source_sha256(part) for part in parts).encode()).hexdigest()
    return source_sha256(path)
