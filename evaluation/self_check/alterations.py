"""Known alterations of a frame, for checking what metrics make of them."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.faces.analysis import FaceAnalysis
from evaluation.metrics.regions import cut_out, part_pixels
from model.frames import Frame


def mirror(frame: Frame) -> Frame:
    """The frame with left and right swapped."""
    return np.ascontiguousarray(frame[:, ::-1])


def jpeg(frame: Frame, quality: int) -> Frame:
    """The frame after JPEG compression of that quality, 1 to 100."""
    _, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)


def blur(frame: Frame, sigma_share: float) -> Frame:
    """The frame after a Gaussian blur; sigma as a share of the width."""
    return np.asarray(cv2.GaussianBlur(frame, (0, 0), sigma_share * frame.shape[1]), np.uint8)


def shrink(frame: Frame, factor: int) -> Frame:
    """The frame at 1/factor of its size, enlarged again."""
    height, width = frame.shape[:2]
    small = cv2.resize(frame, (width // factor, height // factor), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def freeze_part(frame: Frame, face: FaceAnalysis, still: Frame, still_face: FaceAnalysis, part: str) -> Frame:
    """The frame with mouth or eyes, a key of `PARTS`, of another frame of the person in place of its own."""
    pixels = part_pixels(frame, face.landmarks_KC, part)
    size = (pixels[1].size, pixels[0].size)
    frozen = frame.copy()
    frozen[pixels] = cv2.resize(cut_out(still, still_face.landmarks_KC, part), size, interpolation=cv2.INTER_LINEAR)
    return frozen


def turn_back(face: FaceAnalysis, width_px: int) -> FaceAnalysis:
    """The analysis of a mirrored picture as that of the picture: yaw and roll change sign, left becomes right."""
    return replace(
        face,
        landmarks_KC=_mirrored(face.landmarks_KC[_MIRROR_INDEX], width_px),
        pose_C=face.pose_C * np.array([1, -1, -1], np.float32),
        irises_EC=None if face.irises_EC is None else _mirrored(face.irises_EC[::-1], width_px),
    )


def _mirrored(points_NC: NDArray[np.float32], width_px: int) -> NDArray[np.float32]:
    """[N, 2] points of a picture where its mirror image has them."""
    return np.stack([width_px - 1 - points_NC[:, 0], points_NC[:, 1]], axis=1)


def _mirror_index() -> NDArray[np.int64]:
    """[68] iBUG landmark that each one becomes in a mirror: (first, last) runs that swap ends."""
    index = np.arange(68)
    for first, last in ((0, 16), (17, 26), (31, 35), (48, 54), (55, 59), (60, 64), (65, 67)):
        index[first : last + 1] = np.arange(last, first - 1, -1)
    index[36:48] = [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    return index


_MIRROR_INDEX = _mirror_index()
