"""Where a synthetic head is and how the camera sees it. Points as in `synth_face`."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from data_partition.synth.face import FloatArray

PIVOT = np.array((0.0, 0.85, 0.25))
"""Where the head turns on the neck."""

CAMERA_DISTANCE = 9.0
FRAME_HEIGHT = 3.3
FRAME_CENTRE_Y = 0.2
"""Height of the frame at the depth of the pivot, head units."""


@dataclass(frozen=True)
class Pose:
    """Where the head is."""

    pitch_deg: float
    """Positive looks down."""
    yaw_deg: float
    """Positive turns the nose to the image's left."""
    roll_deg: float
    """Positive turns clockwise in the image."""
    shift_x: float = 0.0
    shift_y: float = 0.0

    def angles_deg_C(self) -> FloatArray:
        """[3] pitch, yaw, roll in degrees."""
        return np.array([self.pitch_deg, self.yaw_deg, self.roll_deg])

    @functools.cached_property
    def rotation(self) -> FloatArray:
        """[3, 3] R = Rz(roll) Ry(yaw) Rx(pitch)."""
        (cp, cy, cr), (sp, sy, sr) = (
            f(np.radians([self.pitch_deg, self.yaw_deg, self.roll_deg])) for f in (np.cos, np.sin)
        )
        about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        return np.asarray(about_z @ about_y @ about_x)

    def place(self, points: FloatArray, follow: FloatArray | float = 1.0) -> FloatArray:
        """Points [..., 3] of the head in the world, blended with their rest position by `follow` [...]."""
        offset = PIVOT - self.rotation @ PIVOT + np.array((self.shift_x, self.shift_y, 0.0))
        turned = points @ self.rotation.T + offset
        placed: FloatArray = points + np.asarray(follow)[..., None] * (turned - points)
        return placed


def project(points: FloatArray, size_px: int) -> FloatArray:
    """Pixels [..., 2] of world points [..., 3] in a frame of size_px; pixel centres at integers."""
    scale = size_px / FRAME_HEIGHT * CAMERA_DISTANCE / (CAMERA_DISTANCE + points[..., 2:] - PIVOT[2])
    pixels: FloatArray = (points[..., :2] - np.array((0, FRAME_CENTRE_Y))) * scale + size_px / 2 - 0.5
    return pixels
