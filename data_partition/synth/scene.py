"""One synthetic person before the camera: pose and expression in, frame and exact landmarks out."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from data_partition.synth.camera import CAMERA_DISTANCE, PIVOT, Pose, project
from data_partition.synth.face import Expression, FloatArray, irises_3d, landmarks_3d
from data_partition.synth.look import Look
from data_partition.synth.paint import paint_atlas, paint_background, paint_features, paint_glasses
from data_partition.synth.render import Rendered, Renderer
from model.landmarks.geometry import rescaled

_SUPERSAMPLING = 2
_SHADOW_TINT = np.array((0.12, 0.0, -0.02), np.float32)  # light that went through skin is red


class Scene:
    """Renders frames of one person."""

    def __init__(self, look: Look, size_px: int) -> None:
        """Paint what does not change from frame to frame.

        Args:
            look: the person.
            size_px: side of the frames.
        """
        self._look = look
        self._size_px = size_px
        self._canvas_px = _SUPERSAMPLING * size_px
        self._renderer = Renderer(look, self._canvas_px)
        self._atlas = paint_atlas(look)
        self._background = paint_background(look, self._canvas_px)

    def frame(self, pose: Pose, expression: Expression) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        """One frame.

        Returns:
            [S, S, 3] uint8 RGB and its 68 landmarks [68, 2] float32 in pixels, exact by construction.
        """
        points_K3 = landmarks_3d(self._look.shape, expression)

        def to_px(points: FloatArray) -> FloatArray:
            return project(pose.place(points), self._canvas_px)

        rendered = self._renderer.render(pose, expression)
        x, y = rendered.map_HW2[..., 0], rendered.map_HW2[..., 1]
        albedo = cv2.remap(self._atlas, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        paint_features(albedo, self._look, expression, points_K3, to_px)
        canvas = self._shade(albedo, rendered)
        if self._look.glasses != "none":
            paint_glasses(canvas, self._look, to_px, lambda points: self._is_visible(pose.place(points), rendered))
        image = cv2.resize(canvas, (self._size_px, self._size_px), interpolation=cv2.INTER_AREA)
        landmarks_KC = rescaled(to_px(points_K3), _SUPERSAMPLING, 1)
        return image, landmarks_KC.astype(np.float32)

    def irises(self, pose: Pose, expression: Expression) -> npt.NDArray[np.float32]:
        """[2, 2] (x, y) pixels of the iris centres in that frame, the viewer's left one first, open or not."""
        centres_EC = project(pose.place(irises_3d(self._look.shape, expression)), self._canvas_px)
        return np.asarray(rescaled(centres_EC, _SUPERSAMPLING, 1), np.float32)

    def _shade(self, albedo: npt.NDArray[np.uint8], rendered: Rendered) -> npt.NDArray[np.uint8]:
        light = rendered.light_HW[..., None]
        tinted = light + np.maximum(1 - light, 0) * _SHADOW_TINT
        lit = cv2.multiply(albedo, tinted, dtype=cv2.CV_8U)
        return np.where(rendered.is_person_HW[..., None], lit, self._background)

    def _is_visible(self, world: FloatArray, rendered: Rendered) -> npt.NDArray[np.bool_]:
        """[P] whether nothing stands before each world point."""
        column, row = np.clip(np.rint(project(world, self._canvas_px)), 0, self._canvas_px - 1).astype(int).T
        distance = CAMERA_DISTANCE + world[:, 2] - PIVOT[2]
        return np.asarray(rendered.depth_HW[row, column] > distance - 0.03)
