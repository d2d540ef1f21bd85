"""Per-pixel geometry of a synthetic person's meshes, by OpenCV's triangle rasteriser."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from data_partition.synth.camera import CAMERA_DISTANCE, FRAME_CENTRE_Y, FRAME_HEIGHT, PIVOT, Pose
from data_partition.synth.face import Expression, FloatArray, move_skin, smoothstep
from data_partition.synth.look import Look
from data_partition.synth.mesh import ATLAS_HEIGHT_PX, ATLAS_ROWS_PX, ATLAS_WIDTH_PX, Grid, build_grids

_AMBIENT = 0.5
_GLINT = {"head": 0.09, "skin": 0.05, "hair": 0.05, "torso": 0.0}


@dataclass(frozen=True, slots=True)
class Rendered:
    """Per-pixel geometry of a frame."""

    map_HW2: npt.NDArray[np.float32]
    """Atlas position (x, y) in pixels."""
    light_HW: npt.NDArray[np.float32]
    """Shading; 1 is fully lit, more is a highlight."""
    depth_HW: npt.NDArray[np.float32]
    is_person_HW: npt.NDArray[np.bool_]


class Renderer:
    """Draws one person's meshes with a depth buffer."""

    def __init__(self, look: Look, size_px: int) -> None:
        """Build the meshes once; they are deformed for each frame."""
        self._look = look
        self._size_px = size_px
        self._grids = build_grids(look)
        self._triangles = _triangles([grid.points_RC3.shape[:2] for grid in self._grids])
        light = np.array((look.light_x, -0.75, -1.0))
        self._light = light / np.linalg.norm(light)
        self._field_of_view = 2 * np.arctan(FRAME_HEIGHT / 2 / CAMERA_DISTANCE)
        self._settings = cv2.TriangleRasterizeSettings()
        self._settings.setCullingMode(cv2.RASTERIZE_CULLING_NONE)
        self._settings.setShadingType(cv2.RASTERIZE_SHADING_SHADED)
        head = self._grids[0]
        self._front_RC = smoothstep(-0.05, 0.4, np.cos((head.uv_RC2[..., 0] - 0.5) * 2 * np.pi))

    def render(self, pose: Pose, expression: Expression) -> Rendered:
        """Geometry buffers of one frame."""
        vertices, attributes = [], []
        for number, grid in enumerate(self._grids):
            points = grid.points_RC3
            if number == 0:
                points = move_skin(self._look.shape, expression, points, self._front_RC)
            world = pose.place(points, grid.follow_RC)
            vertices.append(world.reshape(-1, 3))
            attributes.append(self._attributes(grid, world).reshape(-1, 3))
        camera = (np.concatenate(vertices) - (0, FRAME_CENTRE_Y, PIVOT[2] - CAMERA_DISTANCE)) * (1, -1, -1)
        colour = np.zeros((self._size_px, self._size_px, 3), np.float32)
        depth = np.full((self._size_px, self._size_px), 100, np.float32)
        colour, depth = cv2.triangleRasterize(
            camera.astype(np.float32),
            self._triangles,
            np.concatenate(attributes).astype(np.float32),
            colour,
            depth,
            np.eye(4, dtype=np.float32),
            self._field_of_view,
            0.1,
            100.0,
            self._settings,
        )
        atlas_size = np.array((ATLAS_WIDTH_PX - 1, ATLAS_HEIGHT_PX - 1), np.float32)
        return Rendered(colour[..., :2] * atlas_size, colour[..., 2] * 2, depth, depth < 99)

    def _attributes(self, grid: Grid, world: FloatArray) -> FloatArray:
        """[R, C, 3] atlas x, atlas y (both 0 to 1) and half the light of each vertex."""
        normal = -np.cross(np.gradient(world, axis=1), np.gradient(world, axis=0))
        normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
        facing = normal @ self._light
        light = _AMBIENT + (1 - _AMBIENT) * np.clip((facing + 0.3) / 1.3, 0, 1)
        half_way = self._light - np.array((0, 0, 1))
        glint = np.clip(normal @ (half_way / np.linalg.norm(half_way)), 0, 1) ** 28
        light = light * grid.shade_RC + _GLINT[grid.texture] * glint
        rows = ATLAS_ROWS_PX[grid.texture]
        row = rows.start + 0.5 + grid.uv_RC2[..., 1] * (rows.stop - rows.start - 2)
        return np.stack([grid.uv_RC2[..., 0], row / (ATLAS_HEIGHT_PX - 1), np.clip(light / 2, 0, 1)], -1)


def _triangles(grid_shapes: list[tuple[int, ...]]) -> npt.NDArray[np.int32]:
    """[T, 3] vertex indices of all grids."""
    parts, start = [], 0
    for rows, columns in grid_shapes:
        index = start + np.arange(rows * columns).reshape(rows, columns)
        a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
        parts += [np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)]
        start += rows * columns
    return np.concatenate(parts).astype(np.int32)
