"""Meshes of a synthetic person (head, ears, hair, neck, torso) and their rendering.

Every mesh is a grid of R x C vertices, rows from top to bottom, columns once around from behind over the image's
left and the front to behind again. Points as in `synth_face`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from data_partition.synth_face import (
    Expression,
    FloatArray,
    HeadShape,
    bulge,
    move_skin,
    relief,
    ring,
    smoothstep,
)
from data_partition.synth_look import Look

ATLAS_WIDTH_PX = 512
HEAD_ROWS_PX, HAIR_ROWS_PX, TORSO_ROWS_PX, SKIN_ROWS_PX = 320, 160, 96, 8
ATLAS_ROWS_PX: dict[str, slice] = {
    "head": slice(0, 320),
    "hair": slice(320, 480),
    "torso": slice(480, 576),
    "skin": slice(576, 584),
}
"""Rows of the atlas that hold each texture."""

PIVOT = np.array((0.0, 0.85, 0.25))
"""Where the head turns on the neck."""

CAMERA_DISTANCE = 9.0
FRAME_HEIGHT = 3.3
FRAME_CENTRE_Y = 0.2
"""Height of the frame at the depth of the pivot, head units."""

_AMBIENT = 0.5
_GLINT = {"head": 0.09, "skin": 0.05, "hair": 0.05, "torso": 0.0}


@dataclass(frozen=True, slots=True)
class Grid:
    """One mesh at rest."""

    texture: str
    """Key of ATLAS_ROWS_PX."""
    points_RC3: FloatArray
    uv_RC2: FloatArray
    """Position in the texture, 0 to 1."""
    follow_RC: FloatArray
    """1 turns with the head, 0 stays with the body."""
    shade_RC: FloatArray
    """Static darkening, 1 is none."""


@dataclass(frozen=True, slots=True)
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
        turned = (points - PIVOT) @ self.rotation().T + PIVOT
        turned = turned + (self.shift_x, self.shift_y, 0.0)
        return points + np.asarray(follow)[..., None] * (turned - points)


def project(points: FloatArray, size_px: int) -> FloatArray:
    """Pixels [..., 2] of world points [..., 3] in a frame of size_px; pixel centres at integers."""
    scale = size_px / FRAME_HEIGHT * CAMERA_DISTANCE / (CAMERA_DISTANCE + points[..., 2:] - PIVOT[2])
    return (points[..., :2] - (0, FRAME_CENTRE_Y)) * scale + size_px / 2 - 0.5


def build_grids(look: Look) -> list[Grid]:
    """All meshes of a person; the head comes first."""
    grids = [head_grid(look.shape), *(_ear(look.shape, side) for side in (-1, 1))]
    grids += [_neck(look.shape), _torso()]
    if look.hair_style != "bald":
        grids.append(hair_grid(look))
    if look.hair_style == "bun":
        grids.append(_bun(look.shape))
    return grids


def head_grid(shape: HeadShape) -> Grid:
    """The skull with the face's relief; densest at the front."""
    y, phi = _parameters(shape.crown_y, shape.chin_y, num_rows=112, num_columns=144)
    half_width, half_depth, centre_z = ring(shape, y)
    x = half_width * np.sin(phi)
    front = smoothstep(-0.05, 0.4, np.cos(phi))
    across = np.abs(np.sin(phi))
    z = centre_z + np.where(
        np.cos(phi) > 0,
        -half_depth * bulge(across) - relief(shape, x, y) * (1 - smoothstep(0.8, 1.0, across)),
        half_depth * np.abs(np.cos(phi)),
    )
    v = (y - shape.crown_y) / (shape.chin_y - shape.crown_y)
    under_nose = np.exp(-((x / 0.1) ** 2) - ((y - shape.nose_length - 0.13) / 0.05) ** 2)
    shade = (1 - 0.16 * under_nose * front) * (1 - 0.25 * smoothstep(0.93, 1.0, v) * (1 - front * 0.5))
    return Grid(
        "head", np.stack([x, y, z], -1), np.stack([phi / (2 * np.pi) + 0.5, v], -1), np.ones_like(x), shade
    )


def _parameters(
    top: float, bottom: float, *, num_rows: int, num_columns: int
) -> tuple[FloatArray, FloatArray]:
    """Heights [R, C], denser at the poles, and azimuths [R, C] in [-pi, pi], denser at the front."""
    t = np.linspace(-1, 1, num_rows)
    y = np.where(t < 0, top, bottom) * np.sin(np.abs(t) * np.pi / 2)
    s = np.linspace(-1, 1, num_columns)
    phi = np.pi * (0.5 * s + 0.5 * s**3)
    grids = np.meshgrid(y, phi, indexing="ij")
    return grids[0], grids[1]


def _ball(centre: tuple[float, float, float], radii: tuple[float, float, float], texture: str) -> Grid:
    y, phi = _parameters(-1, 1, num_rows=20, num_columns=24)
    around = np.sqrt(1 - y**2)
    unit = np.stack([around * np.sin(phi), y, -around * np.cos(phi)], -1)
    uv = np.stack([phi / (2 * np.pi) + 0.5, (y + 1) / 2], -1)
    return Grid(texture, unit * radii + centre, uv, np.ones_like(y), np.ones_like(y))


def _ear(shape: HeadShape, side: int) -> Grid:
    ear = _ball((side * (shape.half_width + 0.01), 0.14, -0.02), (0.075, 0.21, 0.11), "skin")
    ear.shade_RC[:] = 0.92
    return ear


def _bun(shape: HeadShape) -> Grid:
    return _ball((0.0, shape.crown_y - 0.12, 0.15), (0.36, 0.3, 0.34), "hair")


def _neck(shape: HeadShape) -> Grid:
    y, phi = _columns(0.5, 1.75, num_rows=24)
    radius = 0.60 * shape.half_width * (1 + 0.16 * smoothstep(1.25, 1.7, y))
    points = np.stack([radius * np.sin(phi), y, 0.12 - radius * 0.95 * np.cos(phi)], -1)
    shadow = 0.72 + 0.28 * smoothstep(shape.chin_y, shape.chin_y + 0.5, y)
    uv = np.stack([phi / (2 * np.pi) + 0.5, np.full_like(y, 0.5)], -1)
    return Grid("skin", points, uv, 1 - smoothstep(0.8, 1.6, y), shadow)


def _torso() -> Grid:
    y, phi = _columns(1.38, 2.6, num_rows=40)
    open_ = np.sqrt(np.clip((y - 1.36) / 0.5, 0, 1))
    shoulder = np.sign(np.sin(phi)) * np.abs(np.sin(phi)) ** 0.8
    points = np.stack([(0.36 + 1.1 * open_) * shoulder, y, 0.2 - (0.38 + 0.3 * open_) * np.cos(phi)], -1)
    uv = np.stack([phi / (2 * np.pi) + 0.5, (y - 1.38) / 1.22], -1)
    return Grid("torso", points, uv, np.zeros_like(y), np.ones_like(y))


def _columns(top: float, bottom: float, *, num_rows: int) -> tuple[FloatArray, FloatArray]:
    grids = np.meshgrid(np.linspace(top, bottom, num_rows), np.linspace(-np.pi, np.pi, 64), indexing="ij")
    return grids[0], grids[1]


def hair_line(look: Look, phi: FloatArray) -> FloatArray:
    """Height y down to which hair grows at azimuth phi (0 is the front)."""
    back = np.abs(phi)
    front_y, temple_y, side_y, nape_y = {
        "long": (-0.62, -0.35, 1.75, 1.85),
        "bob": (-0.38, -0.30, 0.92, 0.98),
        "bun": (-0.66, -0.45, -0.08, 0.62),
        "parted": (-0.64, -0.50, 0.08, 0.62),
        "curls": (-0.58, -0.50, 0.10, 0.66),
        "crop": (-0.70, -0.62, -0.05, 0.55),
    }[look.hair_style]
    y = front_y + (temple_y - front_y) * smoothstep(0.35, 0.95, back)
    y = y + (side_y - temple_y) * smoothstep(0.95, 1.32, back)
    y = y + (nape_y - side_y) * smoothstep(1.5, 2.2, back)
    if look.hair_style in ("parted", "long"):
        sweep = np.exp(-(((phi - 0.35 * look.part_side) / 0.28) ** 2))
        y = y - 0.12 * sweep + 0.14 * smoothstep(0.1, 0.8, -phi * np.sign(look.part_side)) * (back < 0.95)
    return y


def hair_grid(look: Look) -> Grid:
    """A shell around the skull that dives below the skin where no hair grows."""
    shape = look.shape
    y, phi = _parameters(shape.crown_y, 1.9, num_rows=96, num_columns=120)
    half_width, half_depth, centre_z = ring(shape, np.minimum(y, 0.15))
    fullness = {"curls": 2.6, "crop": 0.45, "bun": 0.5}.get(look.hair_style, 1.0)
    thickness = look.hair_volume * fullness * (1 + 0.35 * smoothstep(0.3, -0.9, y))
    if look.hair_style == "curls":
        thickness = thickness + 0.03 * np.sin(17 * phi + 3 * np.sin(9 * y)) * np.sin(
            16 * y + 2 * np.cos(7 * phi)
        )
    else:
        thickness = thickness + 0.008 * np.sin(26 * phi + 4 * np.sin(3 * y))
    covered = 1 - smoothstep(-0.035, 0.035, y - hair_line(look, phi))
    hidden = 0.72 - 0.47 * smoothstep(0.0, 0.5, y)  # inside the skull, lower down inside the neck
    reach = (1 + thickness) * covered + hidden * (1 - covered)
    reach = reach * (1 - 0.10 * smoothstep(0.3, 1.8, y))
    lift = np.where(y < 0, 1 + thickness, 1.0)
    front = np.where(np.cos(phi) > 0, bulge(np.abs(np.sin(phi))), np.cos(phi))
    points = np.stack([half_width * reach * np.sin(phi), y * lift, centre_z - half_depth * reach * front], -1)
    uv = np.stack([phi / (2 * np.pi) + 0.5, (y - shape.crown_y) / (1.9 - shape.crown_y)], -1)
    return Grid("hair", points, uv, 1 - 0.85 * smoothstep(0.7, 1.7, y), 0.8 + 0.2 * covered)


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
        atlas_size = np.array((ATLAS_WIDTH_PX - 1, atlas_height_px() - 1), np.float32)
        return Rendered(colour[..., :2] * atlas_size, colour[..., 2] * 2, depth, depth < 99)

    def _attributes(self, grid: Grid, world: FloatArray) -> FloatArray:
        """[R, C, 3] atlas x, atlas y (both 0 to 1) and half the light of each vertex."""
        normal = -np.cross(np.gradient(world, axis=1), np.gradient(world, axis=0))
        normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
        facing = normal @ self._light
        light = _AMBIENT + (1 - _AMBIENT) * np.clip((facing + 0.3) / 1.3, 0, 1)
        half_way = self._light + (0, 0, -1)
        glint = np.clip(normal @ (half_way / np.linalg.norm(half_way)), 0, 1) ** 28
        light = light * grid.shade_RC + _GLINT[grid.texture] * glint
        rows = ATLAS_ROWS_PX[grid.texture]
        row = rows.start + 0.5 + grid.uv_RC2[..., 1] * (rows.stop - rows.start - 2)
        return np.stack([grid.uv_RC2[..., 0], row / (atlas_height_px() - 1), np.clip(light / 2, 0, 1)], -1)


def atlas_height_px() -> int:
    """Rows of the texture atlas."""
    return max(rows.stop for rows in ATLAS_ROWS_PX.values())


def _triangles(grid_shapes: list[tuple[int, ...]]) -> npt.NDArray[np.int32]:
    """[T, 3] vertex indices of all grids."""
    parts, start = [], 0
    for rows, columns in grid_shapes:
        index = start + np.arange(rows * columns).reshape(rows, columns)
        a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
        parts += [np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)]
        start += rows * columns
    return np.concatenate(parts).astype(np.int32)
