"""`fedreenact reenact`: a source person and a driving picture or clip in, a picture or a film with sound out."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

from data_partition.consent.kinds import WithoutConsent
from data_partition.consent.withdrawal import refuse_withdrawn
from data_partition.shards.shard import FRAMES_NAME, INFO_NAME, METADATA_NAME, shard_folders
from data_partition.sources.video import is_clip, source_sha256
from model.checkpoint import Checkpoint
from model.errors import ConfigError, DataError
from model.frames import Frame
from model.progress import Progress
from reenact.clips.film import Film, write_film
from reenact.clips.pieces import Pieces
from reenact.clips.sound import sound_of
from reenact.clips.steady import Gap
from reenact.consent import Permission, check_face, likeness_of, permission_for, person_shown
from reenact.faces import AnnotatedClip, annotate_clip, face_of_picture
from reenact.guidance_choice import Guidance, MotionKind
from reenact.live import LiveDrawing, LiveRequest
from reenact.marks.delivery import Marks, deliver_picture, live_marks, record_of
from reenact.marks.kinds import Label, LabelException
from reenact.marks.manifest import Origin
from reenact.marks.watermark import ALGORITHM
from reenact.models import read_model
from reenact.movement import FULL, Reference, Strengths
from reenact.paste import Paste
from reenact.person import Person, person_of
from reenact.preview import check_preview, preview_of, write_preview
from reenact.reenactor import FaceFrame, Reenactor, Transfer

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


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Look:
    """What a request will work with."""

    source: FaceFrame
    """The person to draw."""
    driving: FaceFrame | AnnotatedClip
    """The picture, or the clip as it is steadied."""
    reference: int | None
    """Index of the driving frame that motion is relative to; None for absolute motion."""
    finish: Callable[[Frame], Frame]
    """Makes of a drawn crop the picture that is delivered."""


def _nothing(_look: Look) -> None:
    """For a run that nobody looks at before."""


class Studio:
    """One checkpoint at work on any number of requests.

    People and clips are looked at once for requests that follow one another with the same driving clip.
    """

    def __init__(self, checkpoint: Path, device: torch.device, progress: Progress) -> None:
        """Load the checkpoint.

        Args:
            checkpoint: a round folder, a run folder for its newest intact round, or a file that `export` wrote.
            device: where the networks run; a file's generator runs on the CPU.
            progress: called for every frame of a clip.

        Raises:
            CheckpointError: if it cannot be used, or somebody withdrew whom it learnt.
        """
        self._reenactor = Reenactor(_trained(checkpoint), device)
        self._progress = progress
        self._weights_sha256 = self._reenactor.weights_sha256()
        self._sha256 = lru_cache(maxsize=None)(content_sha256)
        self._person = lru_cache(maxsize=32)(self._look_at_person)
        self._likeness = lru_cache(maxsize=None)(likeness_of)
        self._clip: tuple[tuple[Path, int], AnnotatedClip] | None = None

    @property
    def size_px(self) -> int:
        """Side of what is drawn."""
        return self._reenactor.size_px

    @property
    def has_strengths(self) -> bool:
        """As of `Reenactor`."""
        return self._reenactor.has_strengths

    def made_of(self, request: ReenactRequest) -> dict[str, object]:
        """All that the result of a request depends on, for JSON: contents in place of paths.

        Raises:
            ConfigError, DataError: as `permission_for`.
            OSError: if an input cannot be read.
        """
        contents = {
            "checkpoint": self._weights_sha256,
            "sources": [self._sha256(path) for path in request.sources],
            "driving": self._sha256(request.driving),
            "consents": [(use.role, use.record.sha256) for use in self._permission(request).uses],
            "marks": ALGORITHM,
        }
        choices = {key: value for key, value in asdict(request).items() if key not in ("out", "preview", "consent")}
        return choices | contents

    def look(self, request: ReenactRequest) -> Look:
        """Find all that a request will work with, and draw nothing; errors as of `run`."""
        check_output(request)
        source = self._consented(request)
        if request.identity:
            source = replace(source, identity=self._reenactor.known_identity(request.identity))
        finish = _pasted(source) if request.is_pasted else _as_it_is
        driving, reference = self._look_at_driving(request, source)
        return Look(source=source, driving=driving, reference=reference, finish=finish)

    def run(self, request: ReenactRequest, on_look: Callable[[Look], None] = _nothing) -> ReenactReport:
        """Reenact and write the result; the output appears only when it is complete.

        Args:
            request: what to reenact.
            on_look: called before anything is drawn.

        Raises:
            ConfigError: for an unknown identity, sources that show different people, an output name that does not fit
                the driving input, or motion, strengths or paste-back that these inputs do not allow.
            DataError: if an input cannot be read or shows no face, or may not be used.
        """
        look = self.look(request)
        on_look(look)
        if request.preview is not None:
            write_preview(request.preview, preview_of(look.source, look.driving, look.reference))
        if isinstance(look.driving, AnnotatedClip):
            return self._draw_clip(request, look, look.driving)
        return self._draw_picture(request, look, look.driving)

    def live(self, request: LiveRequest) -> LiveDrawing:
        """Look at the person of a request, to be drawn by a camera's pictures.

        Raises:
            ConfigError: for sources that show different people, and motion or strengths that they do not allow.
            DataError: if an input cannot be read or shows no face, or may not be used.
        """
        made_of = [self._weights_sha256, *map(self._sha256, request.sources), uuid.uuid4().hex]
        source, permission = self._consented(request), self._permission(request)
        origin = Origin(
            label=Label.GENERATED,
            record=record_of(made_of),
            model_sha256=self._weights_sha256,
            consents=permission.uses,
            without_consent=permission.without_consent,
        )
        return LiveDrawing(self._reenactor, source, request, live_marks(origin))

    def forget(self) -> None:
        """Keep nothing of the people and clips of earlier requests."""
        self._sha256.cache_clear()
        self._person.cache_clear()
        self._clip = None

    def _draw_picture(self, request: ReenactRequest, look: Look, driving: FaceFrame) -> ReenactReport:
        drawing, guidance = self._reenactor.draw_pair(look.source, driving, request.landmarks, request.strengths)
        origin = self._origin(request)
        deliver_picture(request.out, look.finish(drawing.result), origin)
        self._progress("Drawing", 1, 1)
        return self._report(request, look, guidance, origin)

    def _draw_clip(self, request: ReenactRequest, look: Look, clip: AnnotatedClip) -> ReenactReport:
        guidance = self._reenactor.choose(request.landmarks, look.source, "", request.strengths)
        transfer = Transfer(
            guidance=guidance,
            driving_statistics=self._reenactor.statistics("", clip.landmarks_NKC()),
            reference=self._reference(clip, look.reference),
            strengths=request.strengths,
        )
        sound = sound_of(request.driving)
        marks = Marks(self._origin(request))
        film = Film(source=look.source, clip=clip, transfer=transfer, finish=look.finish, marks=marks, sound=sound)
        write_film(request.out, film, self._reenactor, self._pieces(request), self._progress)
        return self._report(request, look, guidance, marks.origin, "" if sound is None else str(sound))

    def _consented(self, request: ReenactRequest | LiveRequest) -> FaceFrame:
        """The source, if it may be drawn."""
        permission = self._permission(request)
        source = self._person(request.sources, request.face)
        if permission.likeness is not None:
            check_face(_faces_of(source), self._likeness(permission.likeness), permission.likeness)
        return source

    def _permission(self, request: ReenactRequest | LiveRequest) -> Permission:
        """As the records are now: they may change while a program runs."""
        consent = request.consent
        if consent is not None and consent.is_dir() and (shards := shard_folders(consent)):
            likenesses = {shard: self._likeness(shard) for shard in shards}
            consent = person_shown(_faces_of(self._person(request.sources, request.face)), likenesses, consent)
        return permission_for(
            request.sources,
            request.driving if isinstance(request, ReenactRequest) else None,
            consent=consent,
            without_consent=request.without_consent,
            digest=self._sha256,
        )

    def _origin(self, request: ReenactRequest) -> Origin:
        permission = self._permission(request)
        return Origin(
            label=Label.MODIFIED if request.is_pasted else Label.GENERATED,
            exception=request.label_exception,
            record=record_of(self.made_of(request)),
            model_sha256=self._weights_sha256,
            consents=permission.uses,
            without_consent=permission.without_consent,
        )

    def _look_at_person(self, sources: tuple[Path, ...], face: int) -> FaceFrame:
        return person_of(sources, self._reenactor.size_px, self._progress, face)

    def _look_at_driving(
        self, request: ReenactRequest, source: FaceFrame
    ) -> tuple[FaceFrame | AnnotatedClip, int | None]:
        """What drives, and the index of a clip's reference frame."""
        reenactor, has_clip = self._reenactor, is_clip(request.driving)
        is_relative = reenactor.is_relative(request.motion, has_clip=has_clip)
        if not has_clip:
            return face_of_picture(request.driving, reenactor.size_px, request.driving_face), None
        reenactor.choose(request.landmarks, source, "", request.strengths)
        clip = self._look_at_clip(request)
        return clip, clip.most_like(source) if is_relative else None

    def _look_at_clip(self, request: ReenactRequest) -> AnnotatedClip:
        """The driving clip, steadied; one is remembered, for more sources with the same."""
        key = request.driving, request.driving_face
        if self._clip is None or self._clip[0] != key:
            size_px, (driving, face), pieces = self._reenactor.size_px, key, self._pieces(request)
            try:
                clip = annotate_clip(driving, size_px, self._progress, face, pieces.track)
            except DataError:
                pieces.remove()
                raise
            self._clip = key, clip.steadied()
        return self._clip[1]

    def _pieces(self, request: ReenactRequest) -> Pieces:
        return Pieces.beside(request.out, self.made_of(request))

    def _reference(self, clip: AnnotatedClip, index: int | None) -> Reference | None:
        """What a clip's movement is relative to."""
        if index is None:
            return None
        reference = clip.reference_at(index)
        return replace(reference, image_HWC=clip.image_at(index)) if self._reenactor.takes_reference else reference

    def _report(
        self, request: ReenactRequest, look: Look, guidance: Guidance, origin: Origin, sound: str = ""
    ) -> ReenactReport:
        source, clip = look.source, look.driving if isinstance(look.driving, AnnotatedClip) else None
        num_references = len(source.references.frames) if isinstance(source, Person) else 1
        return ReenactReport(
            out=request.out,
            guidance=guidance,
            num_frames=1 if clip is None else clip.num_frames,
            num_sources=min(self._reenactor.num_sources, num_references),
            num_references=num_references,
            reference=look.reference,
            gaps=() if clip is None else clip.gaps,
            sound=sound,
            record=origin.record,
            permission=self._permission(request),
        )


def _trained(checkpoint: Path) -> Checkpoint:
    """What draws, unless somebody withdrew."""
    refuse_withdrawn(checkpoint.parent if checkpoint.is_file() else checkpoint)
    return read_model(checkpoint)


def _faces_of(source: FaceFrame) -> tuple[FaceFrame, ...]:
    """All that a source is drawn from."""
    return source.references.frames if isinstance(source, Person) else (source,)


def run_request(request: ReenactRequest, *, device: torch.device, progress: Progress) -> ReenactReport:
    """One request; arguments and errors as of `Studio` and its `run`."""
    check_output(request)
    return Studio(request.checkpoint, device, progress).run(request)


def check_output(request: ReenactRequest) -> None:
    """Refuse before the work starts what would fail after it.

    Raises:
        ConfigError: if the output name does not fit the driving input or is an input, or there is nothing to preview.
    """
    suffix, has_clip = request.out.suffix.lower(), is_clip(request.driving)
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


def _as_it_is(result_HWC: Frame) -> Frame:
    return result_HWC


def _pasted(source: FaceFrame) -> Paste:
    if source.place is None:
        raise ConfigError("--paste: the source is of a shard, which holds crops alone; give a picture or a clip")
    return Paste(source.place)
