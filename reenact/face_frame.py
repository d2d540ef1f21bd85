"""A face that can be drawn from or that drives: a crop with its annotations.

Legend: S image side in pixels, D side of its larger crop, K = 68 landmarks, E = 2 eyes, C coordinates, A = 18 action
units, N faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_partition.faces.crop import CropBox
from model.frames import Frame
from model.landmarks.face_mesh import FaceMesh
from model.landmarks.irises import carried
from reenact.movement import Movement

FloatArray = NDArray[np.float32]

MAX_REFERENCES = 32
"""Frames that are kept of a person, at most, to draw from."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Place:
    """Where a face crop was cut out."""

    picture_HWC: Frame
    """[H, W, 3] uint8 RGB, the whole picture, upright."""
    box: CropBox


@dataclass(frozen=True, kw_only=True, eq=False, slots=True, weakref_slot=True)
class FaceFrame:
    """One annotated face crop at the model's size."""

    image_HWC: Frame
    """[S, S, 3] uint8 RGB."""
    landmarks_KC: FloatArray
    """[68, 2] (x, y) pixels of the crop."""
    pose_C: FloatArray
    """[3] pitch, yaw, roll, degrees."""
    au_presence_A: FloatArray
    """[18] 0 or 1."""
    au_intensity_A: FloatArray
    """[18] 0 to 5; 0 where the annotator does not know."""
    identity: str = ""
    """Who it is; "" for a person without a name."""
    known_NKC: FloatArray | None = None
    """[N, 68, 2] pixels of all frames of the person that are at hand; None where this one is alone."""
    irises_EC: FloatArray | None = None
    """[2, 2] (x, y) pixels of the iris centres, the eye at landmark 36 first; None where they are not known."""
    mesh: FaceMesh | None = None
    """In half sides of the crop; None where it is not known, or was not asked for."""
    detail_HWC: Frame | None = None
    """[D, D, 3] uint8 RGB, the same crop as large as `detail_px` says; None where that is not kept."""
    place: Place | None = None
    """Where it was cut out, of a source's frame; None where that is not kept, and for frames of shards."""

    def frames_for(self, target_KC: FloatArray, driving: FaceFrame, num: int) -> Sequence[FaceFrame]:
        """The frames of the person to draw a result from: of one picture the picture itself.

        Args:
            target_KC: [68, 2] pixels, landmarks of the result.
            driving: the frame whose pose and gaze the result has.
            num: of frames wanted, >= 1.
        """
        return (self,)

    def alone(self) -> FaceFrame:
        """The frame by itself, whatever else is known of the person."""
        return self

    def standing(self) -> Sequence[FaceFrame]:
        """The person as it may stand before it moves: of one picture as it is."""
        return (self,)

    def of_clip_like(self, other: FaceFrame) -> FaceFrame | None:
        """The frame of the same clip that is most like another person's face; None where no clip is known."""
        return None

    def irises_in(self, target_KC: FloatArray) -> FloatArray | None:
        """[2, 2] pixels of irises that look out of the eyes of [68, 2] landmarks as this face's do; None if unknown."""
        return None if self.irises_EC is None else carried(self.irises_EC, self.landmarks_KC, target_KC)


def movement_of(faces: Sequence[FaceFrame]) -> Movement:
    """How N >= 1 faces are moved."""
    return Movement(
        pose_NC=np.stack([face.pose_C for face in faces]),
        au_presence_NA=np.stack([face.au_presence_A for face in faces]),
        au_intensity_NA=np.stack([face.au_intensity_A for face in faces]),
    )
