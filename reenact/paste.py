"""A drawn face back in the whole picture that its source was cut out of.

Legend: S side of the box in pixels of the picture.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from model.frames import Frame
from reenact.face_frame import Place

FEATHER = 0.2
"""Share of the box's side over which the drawn crop fades out at each border that is not the picture's own. The box is
about twice as large as the face, so that neck and hair lie further in and are drawn whole."""


class Paste:
    """Puts results of one source into its picture, which keeps its size."""

    def __init__(self, place: Place) -> None:
        """Prepare the picture; a side of an odd number of pixels, which video does not have, becomes one longer."""
        height_px, width_px = place.picture_HWC.shape[:2]
        even = cv2.copyMakeBorder(place.picture_HWC, 0, height_px % 2, 0, width_px % 2, cv2.BORDER_REPLICATE)
        self.picture: Frame = np.asarray(even, np.uint8)
        box, (height_px, width_px) = place.box, self.picture.shape[:2]
        rows = slice(max(box.top, 0), min(box.top + box.side, height_px))
        columns = slice(max(box.left, 0), min(box.left + box.side, width_px))
        self._inside = rows, columns
        self._seen = (
            slice(rows.start - box.top, rows.stop - box.top),
            slice(columns.start - box.left, columns.stop - box.left),
        )
        self._side_px = box.side
        weight_S1 = fade(box.side, at_start=box.top > 0, at_end=box.top + box.side < height_px)[:, None]
        weight_1S = fade(box.side, at_start=box.left > 0, at_end=box.left + box.side < width_px)[None]
        self._weight_SS1 = (weight_S1 * weight_1S)[self._seen][..., None]

    def __call__(self, result_HWC: Frame) -> Frame:
        """The picture with a result in place, [H, W, 3] even sides; outside of the box nothing changes."""
        interpolation = cv2.INTER_CUBIC if self._side_px > result_HWC.shape[0] else cv2.INTER_AREA
        drawn_HWC = cv2.resize(result_HWC, (self._side_px, self._side_px), interpolation=interpolation)[self._seen]
        whole_HWC = self.picture.copy()
        behind_HWC = whole_HWC[self._inside]
        mixed_HWC = behind_HWC + self._weight_SS1 * (drawn_HWC.astype(np.float32) - behind_HWC)
        whole_HWC[self._inside] = np.rint(mixed_HWC).astype(np.uint8)
        return whole_HWC


def fade(side_px: int, *, at_start: bool, at_end: bool) -> NDArray[np.float32]:
    """[S] weight of the drawn crop along one axis: 1 inside, smoothly to almost 0 where an end fades."""
    from_start_S = np.arange(side_px) + 0.5
    share_S = np.ones(side_px)
    if at_start:
        share_S = np.minimum(share_S, from_start_S / (FEATHER * side_px))
    if at_end:
        share_S = np.minimum(share_S, from_start_S[::-1] / (FEATHER * side_px))
    return np.asarray(share_S**2 * (3 - 2 * share_S), np.float32)
