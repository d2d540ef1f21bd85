"""Meshes of a synthetic person: head, ears, hair, neck, torso.

Every mesh is a grid of R x C vertices, rows from top to bottom, columns once around from behind over the
image's left and the front to behind again. Points as in `synth_face`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_partition.synth.face import FloatArray, HeadShape, bulge, relief, ring, smoothstep
from data_partition.synth.look import Look

ATLAS_WIDTH_PX = 512
ATLAS_ROWS_PX: dict[str, slice] = {
    "head": slice(0, 320),
    "hair": slice(320, 480),
    "torso": slice(480, 576),
    "skin": slice(576, 584),
}
"""Rows of the atlas that hold each texture."""

ATLAS_HEIGHT_PX = 584


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


def build_grids(look: Look) -> list[Grid]:
    """All meshes of a person; the head comes first."""
    grids = [head_grid(look.shape), _neck(look.shape), _torso()]
    if look.hair_style not in ("long", "bob"):  # these cover the ears
        grids += [_ear(look.shape, side) for side in (-1, 1)]
    if look.hair_style != "bald":
        grids.append(hair_grid(look))
    if look.hair_style == "bun":
        grids.append(_bun(look.shape))
    return grids


def head_grid(shape: HeadShape) -> Grid:
    """The skull with the face's relief; densest at the front."""
    y, phi = _parameters(shape.crown_y, shape.chin_y, num_rows=80, num_columns=100)
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
    return Grid("head", np.stack([x, y, z], -1), np.stack([phi / (2 * np.pi) + 0.5, v], -1), np.ones_like(x), shade)


def _parameters(top: float, bottom: float, *, num_rows: int, num_columns: int) -> tuple[FloatArray, FloatArray]:
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
    y, phi = _parameters(shape.crown_y, 1.9, num_rows=64, num_columns=96)
    half_width, half_depth, centre_z = ring(shape, np.minimum(y, 0.15))
    fullness = {"curls": 2.6, "crop": 0.45, "bun": 0.5}.get(look.hair_style, 1.0)
    thickness = look.hair_volume * fullness * (1 + 0.35 * smoothstep(0.3, -0.9, y))
    if look.hair_style == "curls":
        thickness = thickness + 0.03 * np.sin(17 * phi + 3 * np.sin(9 * y)) * np.sin(16 * y + 2 * np.cos(7 * phi))
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
