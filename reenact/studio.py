"""One checkpoint at work: a source person and a driving picture or clip in, a picture or a film with sound out."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

from data_partition.consent.withdrawal import refuse_withdrawn
from data_partition.sources.video import is_clip
from model.checkpoint import Checkpoint
from model.errors import ConfigError, DataError
from model.frames import Frame
from model.precision import is_quick_in_bfloat16
from model.progress import Progress
from reenact.clips.film import Film, write_film
from reenact.clips.pieces import Pieces
from reenact.clips.sound import sound_of
from reenact.consent import Permission
from reenact.face_frame import FaceFrame
from reenact.faces import AnnotatedClip, annotate_clip, face_of_picture
from reenact.guidance_choice import Guidance
from reenact.live import LiveDrawing, LiveRequest
from reenact.marks.delivery import Marks, deliver_picture, live_marks, record_of
from reenact.marks.kinds import Label, LabelException
from reenact.marks.manifest import Origin
from reenact.marks.watermark import ALGORITHM
from reenact.models import read_model
from reenact.movement import Reference
from reenact.paste import Paste
from reenact.permits import Permits
from reenact.person import Person, person_of
from reenact.preview import preview_of, write_preview
from reenact.reenactor import Reenactor, Transfer
from reenact.request import ReenactReport, ReenactRequest, check_output, content_sha256


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Look:
    """What a request will work with."""

    permission: Permission
    """By which it may be drawn, as the records were."""
    source: FaceFrame
    """The person to draw, with no more frames than are drawn from."""
    driving: FaceFrame | AnnotatedClip
    """The picture, or the clip as it is steadied."""
    reference: int | None
    """Index of the driving frame that motion is relative to; None for absolute motion."""
    finish: Callable[[Frame], Frame]
    """Makes of a drawn crop the picture that is delivered."""


def _nothing(_look: Look) -> None:
    """For a run that nobody looks at before."""


class Studio:
    """One checkpoint at work on any number of requests; it draws in bfloat16 if it was trained so, where that is quick.

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
        trained = _trained(checkpoint)
        is_mixed = bool(trained.settings.get("use-amp")) and is_quick_in_bfloat16(device)
        self._reenactor = Reenactor(trained, device, is_mixed=is_mixed)
        self._progress = progress
        self._weights_sha256 = self._reenactor.weights_sha256()
        self._sha256 = lru_cache(maxsize=None)(content_sha256)
        self._person = lru_cache(maxsize=32)(self._look_at_person)
        self._permits = Permits(self._person, self._sha256)
        self._clip: tuple[tuple[Path, int], AnnotatedClip] | None = None

    @property
    def result_px(self) -> int:
        """Side of results, of sources that are as large."""
        return self._reenactor.result_px

    @property
    def has_strengths(self) -> bool:
        """As of `Reenactor`."""
        return self._reenactor.has_strengths

    def made_of(self, request: ReenactRequest) -> dict[str, object]:
        """All that the result of a request depends on, for JSON: contents in place of paths.

        Raises:
            ConfigError, DataError, OSError: as `Permits.ask`.
        """
        return self._made_of(request, self._permits.ask(request))

    def look(self, request: ReenactRequest) -> Look:
        """Find all that a request will work with, and draw nothing; errors as of `run`."""
        check_output(request)
        permission, source = self._permits.ask(request), self._person(request.sources, request.face)
        if request.identity:
            source = replace(source, identity=self._reenactor.known_identity(request.identity))
        finish = _pasted(source) if request.is_pasted else _as_it_is
        source, driving, reference = self._look_at_driving(request, source, permission)
        return Look(permission=permission, source=source, driving=driving, reference=reference, finish=finish)

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
        permission, source = self._permits.ask(request), self._person(request.sources, request.face)
        made_of = [self._weights_sha256, *map(self._sha256, request.sources), uuid.uuid4().hex]
        return LiveDrawing(self._reenactor, source, request, live_marks(self._origin(permission, made_of)))

    def forget(self) -> None:
        """Keep nothing of the people and clips of earlier requests."""
        self._sha256.cache_clear()
        self._person.cache_clear()
        self._permits.forget()
        self._clip = None

    def _draw_picture(self, request: ReenactRequest, look: Look, driving: FaceFrame) -> ReenactReport:
        drawing, guidance = self._reenactor.draw_pair(look.source, driving, request.landmarks, request.strengths)
        origin = self._origin_of(request, look)
        self._permits.require(request, look.permission)
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
        sound, marks = sound_of(request.driving), Marks(self._origin_of(request, look))
        film = Film(
            source=look.source,
            clip=clip,
            transfer=transfer,
            finish=look.finish,
            marks=marks,
            sound=sound,
            require_permission=lambda: self._permits.require(request, look.permission),
        )
        write_film(request.out, film, self._reenactor, self._pieces(request, look.permission), self._progress)
        return self._report(request, look, guidance, marks.origin, "" if sound is None else str(sound))

    def _made_of(self, request: ReenactRequest, permission: Permission) -> dict[str, object]:
        contents = {
            "checkpoint": self._weights_sha256,
            "result_px": self._reenactor.result_px,
            "is_mixed": self._reenactor.is_mixed,
            "sources": [self._sha256(path) for path in request.sources],
            "driving": self._sha256(request.driving),
            "consents": [(use.role, use.record.sha256) for use in permission.uses],
            "marks": ALGORITHM,
        }
        choices = {key: value for key, value in asdict(request).items() if key not in ("out", "preview", "consent")}
        return choices | contents

    def _origin_of(self, request: ReenactRequest, look: Look) -> Origin:
        """Of a file."""
        return self._origin(
            look.permission,
            self._made_of(request, look.permission),
            label=Label.MODIFIED if request.is_pasted else Label.GENERATED,
            exception=request.label_exception,
        )

    def _origin(
        self,
        permission: Permission,
        made_of: object,
        *,
        label: Label = Label.GENERATED,
        exception: LabelException | None = None,
    ) -> Origin:
        return Origin(
            label=label,
            exception=exception,
            record=record_of(made_of),
            model_sha256=self._weights_sha256,
            consents=permission.uses,
            without_consent=permission.without_consent,
        )

    def _look_at_person(self, sources: tuple[Path, ...], face: int) -> FaceFrame:
        reenactor = self._reenactor
        return person_of(sources, reenactor.size_px, self._progress, face, with_mesh=reenactor.needs_mesh)

    def _look_at_driving(
        self, request: ReenactRequest, source: FaceFrame, permission: Permission
    ) -> tuple[FaceFrame, FaceFrame | AnnotatedClip, int | None]:
        """The source as it stands before it moves, what drives, and the index of a clip's reference frame."""
        reenactor, has_clip = self._reenactor, is_clip(request.driving)
        is_relative = reenactor.is_relative(request.motion, has_clip=has_clip)
        if not has_clip:
            return source, face_of_picture(request.driving, reenactor.size_px, request.driving_face), None
        reenactor.choose(request.landmarks, source, "", request.strengths)
        clip = self._look_at_clip(request, permission)
        if not is_relative:
            return source, clip, None
        standing = (source,) if request.is_pasted else source.standing()  # a whole picture is kept of one frame alone
        chosen, reference = clip.most_like(standing)
        return reenactor.drawn_from(standing[chosen], is_relative=True), clip, reference

    def _look_at_clip(self, request: ReenactRequest, permission: Permission) -> AnnotatedClip:
        """The driving clip, steadied; one is remembered, for more sources with the same."""
        key = request.driving, request.driving_face
        if self._clip is None or self._clip[0] != key:
            reenactor, (driving, face), pieces = self._reenactor, key, self._pieces(request, permission)
            size_px, with_mesh = reenactor.size_px, reenactor.needs_mesh
            try:
                clip = annotate_clip(driving, size_px, self._progress, face, pieces.track, with_mesh=with_mesh)
            except DataError:
                pieces.remove()
                raise
            self._clip = key, clip.steadied()
        return self._clip[1]

    def _pieces(self, request: ReenactRequest, permission: Permission) -> Pieces:
        return Pieces.beside(request.out, self._made_of(request, permission))

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
            permission=look.permission,
        )


def _trained(checkpoint: Path) -> Checkpoint:
    """What draws, unless somebody withdrew."""
    refuse_withdrawn(checkpoint.parent if checkpoint.is_file() else checkpoint)
    return read_model(checkpoint)


def run_request(request: ReenactRequest, *, device: torch.device, progress: Progress) -> ReenactReport:
    """One request; arguments and errors as of `Studio` and its `run`."""
    check_output(request)
    return Studio(request.checkpoint, device, progress).run(request)


def _as_it_is(result_HWC: Frame) -> Frame:
    return result_HWC


def _pasted(source: FaceFrame) -> Paste:
    if source.place is None:
        raise ConfigError("--paste: the source is of a shard, which holds crops alone; give a picture or a clip")
    return Paste(source.place)
