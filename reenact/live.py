"""One person drawn as somebody moves in front of a camera, picture by picture, as they come."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from data_partition.consent.kinds import WithoutConsent
from data_partition.faces.annotate import FaceAnnotation
from data_partition.faces.clip_annotators import MediaPipeAnnotator
from data_partition.faces.crop import FOLLOW_S, CropBox, crop_and_resize, single_image_box
from data_partition.faces.track import FaceCrop
from data_partition.sources.video import VideoFrame
from model.frames import Frame
from reenact.face_frame import FaceFrame, movement_of
from reenact.faces import face_of_crop
from reenact.guidance_choice import Guidance, MotionKind
from reenact.marks.delivery import Marks
from reenact.movement import FULL, Reference, Strengths
from reenact.person import SteadyChoice
from reenact.reenactor import Reenactor, Transfer


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveRequest:
    """Who is drawn, and how the camera's movement becomes theirs."""

    sources: tuple[Path, ...]
    """As of `ReenactRequest`, as are all others."""
    face: int = 0
    motion: MotionKind = MotionKind.AUTO
    strengths: Strengths = FULL
    consent: Path | None = None
    without_consent: WithoutConsent | None = None


class LiveDrawing:
    """Draws a person by a camera's pictures; a context, which holds the face annotator.

    Nothing is smoothed but by MediaPipe's own tracking: what would smooth better needs pictures that are still to come.
    Relative motion is measured from the first face, or from the one after `rest`.
    """

    def __init__(self, reenactor: Reenactor, source: FaceFrame, request: LiveRequest, marks: Marks) -> None:
        """Prepare all but the annotator.

        Args:
            reenactor: what to draw with.
            source: the person to draw.
            request: what for.
            marks: put on every picture.

        Raises:
            ConfigError: for motion or strengths that this source does not allow.
        """
        self._reenactor, self._marks = reenactor, marks
        self._guidance = reenactor.choose(Guidance.AUTO, source, "", request.strengths)
        self._is_relative = reenactor.is_relative(request.motion, has_clip=True)
        self._strengths = request.strengths
        self._source = reenactor.drawn_from(source, is_relative=self._is_relative)
        self._choice = SteadyChoice(self._source, reenactor.num_sources)
        self._transfer: Transfer | None = None
        self._follower = _Follower()
        self._num_frames = 0

    def __enter__(self) -> Self:
        """Load the annotator.

        Raises:
            WeightsError: if a model file is missing.
        """
        self._annotator = MediaPipeAnnotator(is_video=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release it."""
        self._annotator.__exit__(kind, error, trace)

    def rest(self) -> None:
        """Measure movement from the next face on."""
        self._transfer = None

    def draw(self, picture_HWC: Frame, time_s: float) -> Frame | None:
        """The marked result for a picture of the camera, at least 240 pixels a side; None if it shows no face.

        Args:
            picture_HWC: [H, W, 3] uint8 RGB.
            time_s: when it was taken, rising.
        """
        frame = VideoFrame(index=self._num_frames, timestamp_s=time_s, image_HWC=picture_HWC)
        self._num_frames += 1
        annotation = self._annotator.annotate(frame)
        if annotation is None:
            return None
        face = self._cut(picture_HWC, annotation, time_s)
        transfer = self._transfer = self._transfer or self._transfer_from(face)
        target_1KC = self._reenactor.target_landmarks(transfer, self._source, [face])
        (posed,) = self._reenactor.posed(transfer, self._source, [face])
        sources = [self._choice.next(target_1KC[0], posed)]
        (drawing,) = self._reenactor.draw_from(sources, [face], target_1KC, transfer.reference)
        return self._marks(drawing.result)

    def _cut(self, picture_HWC: Frame, annotation: FaceAnnotation, time_s: float) -> FaceFrame:
        size_px, box = self._reenactor.size_px, self._follower.box(annotation, picture_HWC, time_s)
        crop = FaceCrop(
            image_HWC=crop_and_resize(picture_HWC, box, size_px),
            annotation=annotation.moved(lambda points_XC: box.to_crop(points_XC, size_px)),
            picture_HWC=picture_HWC,
            box=box,
        )
        return replace(face_of_crop(crop), place=None)

    def _transfer_from(self, face: FaceFrame) -> Transfer:
        reference = Reference(movement=movement_of([face]), landmarks_KC=face.landmarks_KC, image_HWC=face.image_HWC)
        return Transfer(
            guidance=self._guidance,
            driving_statistics=self._reenactor.statistics("", face.landmarks_KC[None]),
            reference=reference if self._is_relative else None,
            strengths=self._strengths,
        )


class _Follower:
    """A box that follows a head slowly, as boxes of clips do, but of what was seen so far alone."""

    def __init__(self) -> None:
        self._path_C: NDArray[np.float64] | None = None
        self._last_s = 0.0

    def box(self, annotation: FaceAnnotation, picture_HWC: Frame, time_s: float) -> CropBox:
        """For the next face."""
        height_px, width_px = picture_HWC.shape[:2]
        now = single_image_box(annotation.landmarks_KC, (height_px, width_px))
        now_C = np.array([now.left, now.top, now.side], np.float64)
        before_C = now_C if self._path_C is None else self._path_C
        share = 1 - math.exp(-max(0.0, time_s - self._last_s) / FOLLOW_S)
        self._path_C, self._last_s = before_C + share * (now_C - before_C), time_s
        left, top, side = np.rint(self._path_C).astype(int).tolist()
        return CropBox(left=left, top=top, side=side)
