"""What the face metrics need to know of a picture, and who may tell: the plug-in point for face analysers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.frames import Frame

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class FaceAnalysis:
    """One face in one picture."""

    embedding_D: FloatArray
    """[D] identity embedding of unit length."""
    landmarks_KC: FloatArray
    """[68, 2] (x, y) pixels of the picture."""
    pose_C: FloatArray
    """[3] pitch, yaw, roll, degrees."""
    au_presence_A: FloatArray
    """[18] 0 or 1, in AU_ORDER."""
    au_intensity_A: FloatArray
    """[18] 0 to 5, in AU_ORDER; NaN where unknown."""
    irises_EC: FloatArray | None = None
    """[2, 2] (x, y) pixels of the iris centres, the eye at landmark 36 first; None where the analyser has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Backends:
    """Who measured what; figures of different backends are never compared."""

    embedding: str
    landmarks: str
    pose: str
    action_units: str
    irises: str = "not measured"
    perceptual: str = "not measured"
    """Network of the perceptual distance; no analyser's business, filled in by the evaluation."""


class FaceAnalyser(Protocol):
    """Finds and describes the most prominent face of a picture, each picture by itself."""

    @property
    def backends(self) -> Backends:
        """Names for the tables."""

    @property
    def evaluated_aus(self) -> tuple[int, ...]:
        """Action units that the analyser can report at all, in AU_ORDER."""

    def analyse(self, frame_HWC: Frame) -> FaceAnalysis | None:
        """The face in an uint8 [H, W, 3] RGB frame, None if there is none."""


def frame_key(frame_HWC: Frame) -> str:
    """Equal for equal pictures alone, in all practice: hexadecimal SHA-256 of shape and pixels."""
    return hashlib.sha256(repr(frame_HWC.shape).encode() + frame_HWC.tobytes()).hexdigest()


class RememberingAnalyser:
    """Another analyser's results, each picture looked at once however often it is asked for."""

    def __init__(self, analyser: FaceAnalyser) -> None:
        """Start with nothing remembered; a result takes about a kilobyte."""
        self._analyser = analyser
        self._known: dict[str, FaceAnalysis | None] = {}

    @property
    def backends(self) -> Backends:
        """The other analyser's names."""
        return self._analyser.backends

    @property
    def evaluated_aus(self) -> tuple[int, ...]:
        """The other analyser's action units."""
        return self._analyser.evaluated_aus

    def analyse(self, frame_HWC: Frame) -> FaceAnalysis | None:
        """The face in the frame, None if there is none."""
        key = frame_key(frame_HWC)
        if key not in self._known:
            self._known[key] = self._analyser.analyse(frame_HWC)
        return self._known[key]
