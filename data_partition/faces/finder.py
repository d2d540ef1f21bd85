"""Where all faces of a picture are, and which way up they stand: YuNet, which sees small ones and several.

It proposes; the landmarks come from `annotate.py`. Legend: H, W picture size in pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data_partition.faces.annotate import quiet_native_log
from model.errors import WeightsError
from model.weights import resolve

MAX_SIDE_PX = 1280
"""Larger pictures are shrunk to this before they are looked at."""
TURN_SIDE_PX = 480
"""The same, where only the way up is asked for."""
MIN_SCORE = 0.6
NOTABLE = 0.4
"""A face smaller than this share of the largest one's height is taken for background."""
MIN_TURN_SCORE, MIN_TURN_LEAD = 0.8, 0.015
"""How sure of a face a turned picture must make YuNet, and by how much more than the picture as it is. Over three
frames real and drawn people, upright, upside down and on their sides, led by 0.03 and more."""

_log = logging.getLogger(__name__)
_LIMIT = 50


@dataclass(frozen=True, slots=True)
class FoundFace:
    """The box of a face, pixels of the picture."""

    left: float
    top: float
    width: float
    height: float
    score: float
    """0 to 1."""

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y)."""
        return self.left + self.width / 2, self.top + self.height / 2


class FaceFinder:
    """Finds the faces of a picture."""

    def __init__(self) -> None:
        """Load the network.

        Raises:
            WeightsError: if its file is missing.
        """
        path = str(resolve("yunet"))
        with quiet_native_log():
            self._network = cv2.FaceDetectorYN.create(path, "", (320, 320), MIN_SCORE, 0.3, _LIMIT)

    def find(self, image_HWC: NDArray[np.uint8], max_side_px: int = MAX_SIDE_PX) -> list[FoundFace]:
        """The faces of a picture that stand out, from left to right.

        Args:
            image_HWC: [H, W, 3] uint8 RGB.
            max_side_px: larger pictures are shrunk to this.
        """
        scale = min(1.0, max_side_px / max(image_HWC.shape[:2]))
        if scale < 1:
            image_HWC = np.asarray(cv2.resize(image_HWC, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
        self._network.setInputSize((image_HWC.shape[1], image_HWC.shape[0]))
        _, rows = self._network.detect(np.ascontiguousarray(image_HWC[..., ::-1]))
        boxes = [] if rows is None else [row for row in np.asarray(rows, np.float64) if np.isfinite(row).all()]
        faces = [FoundFace(*map(float, (*(row[:4] / scale), row[14]))) for row in boxes]
        tallest = max((face.height for face in faces), default=0.0)
        return sorted((face for face in faces if face.height >= NOTABLE * tallest), key=lambda face: face.left)


def open_finder() -> FaceFinder | None:
    """A finder, or None and a warning where its file is missing."""
    try:
        return FaceFinder()
    except WeightsError as error:
        _log.warning("turned pictures, small faces and several faces are not looked for: %s", error)
        return None


def chosen(faces: Sequence[FoundFace], number: int) -> FoundFace:
    """The face of that number.

    Args:
        faces: from left to right, at least one.
        number: from 1; 0, or more than there are, is the largest.
    """
    if 1 <= number <= len(faces):
        return faces[number - 1]
    return max(faces, key=lambda face: face.width * face.height)


def quarter_turns(finder: FaceFinder, images: Iterable[NDArray[np.uint8]]) -> int:
    """Quarter turns to the left, 0 to 3, after which the faces of pictures stand upright.

    Args:
        finder: to look with.
        images: [H, W, 3] uint8 RGB each, of one clip.
    """
    scores_F4 = [[_score(finder, np.rot90(image, turns)) for turns in range(4)] for image in images]
    if not scores_F4:
        return 0
    mean_4 = np.mean(scores_F4, axis=0)
    best = int(mean_4.argmax())
    return best if mean_4[best] >= max(MIN_TURN_SCORE, mean_4[0] + MIN_TURN_LEAD) else 0


def _score(finder: FaceFinder, image_HWC: NDArray[np.uint8]) -> float:
    """Of the largest face."""
    faces = finder.find(np.ascontiguousarray(image_HWC), TURN_SIDE_PX)
    return chosen(faces, 0).score if faces else 0.0
