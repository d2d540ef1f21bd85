"""A face as MediaPipe's mesh, with the scores of its expression.

Legend: V = 468 vertices, C = 3 coordinates, B = 52 blendshapes, X points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class FaceMesh:
    """Vertices and expression of one face."""

    vertices_VC: FloatArray
    """[468, 3] (x, y, z) in pixels of a picture, pixel centres at integers, smaller z nearer to the camera; or of a
    square one in half sides from its centre, as `in_half_sides` says."""
    blendshapes_B: FloatArray
    """[52] 0 to 1, in MediaPipe's order."""

    def moved(self, to: Callable[[FloatArray], FloatArray]) -> FaceMesh:
        """The mesh in another picture; `to` shifts and scales (x, y) [X, 2], z is scaled alike."""
        xy_VC = self.vertices_VC[:, :2]
        moved_VC = to(xy_VC)
        z_V1 = self.vertices_VC[:, 2:] * (np.ptp(moved_VC[:, 0]) / np.ptp(xy_VC[:, 0]))
        return replace(self, vertices_VC=np.concatenate([moved_VC, z_V1], axis=1).astype(np.float32))

    def in_half_sides(self, size_px: int) -> FaceMesh:
        """From pixels of a picture of that side: its left and upper edge are at -1, the others at 1."""
        corner_C = np.array([-0.5, -0.5, 0], np.float32)
        half_VC = (self.vertices_VC - corner_C) * np.float32(2 / size_px) - np.array([1, 1, 0], np.float32)
        return replace(self, vertices_VC=half_VC)
