"""Paint of a synthetic person: texture atlas and background; per frame eyes, brows, lips and glasses."""

from __future__ import annotations

import functools
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from data_partition.synth.face import Expression, FloatArray, bump, eye_lids, irises_3d, ring, skin_z, smoothstep
from data_partition.synth.look import Colour, Look
from data_partition.synth.mesh import ATLAS_HEIGHT_PX, ATLAS_ROWS_PX, ATLAS_WIDTH_PX
from model.landmarks.geometry import interpolating_spline_matrix

Image = npt.NDArray[np.uint8]
ToPixels = Callable[[FloatArray], FloatArray]
"""Points [P, 3] of the resting frame of the head to pixels [P, 2] of the canvas."""

_SHIFT = 4  # sub-pixel bits of OpenCV's drawing


def paint_atlas(look: Look) -> Image:
    """[A, 512, 3] RGB texture of every mesh."""
    rng = np.random.default_rng(look.seed)
    atlas = np.zeros((ATLAS_HEIGHT_PX, ATLAS_WIDTH_PX, 3), np.float64)
    atlas[ATLAS_ROWS_PX["head"]] = _paint_head(look, rng)
    atlas[ATLAS_ROWS_PX["hair"]] = _paint_hair(look, rng)
    atlas[ATLAS_ROWS_PX["torso"]] = _paint_torso(look)
    atlas[ATLAS_ROWS_PX["skin"]] = look.skin
    return np.clip(atlas, 0, 255).astype(np.uint8)


def paint_background(look: Look, size_px: int) -> Image:
    """[S, S, 3] RGB: an out-of-focus room."""
    rng = np.random.default_rng([look.seed, 1])
    canvas = np.empty((size_px, size_px, 3), np.uint8)
    canvas[:] = look.background
    for _ in range(9):
        corner = rng.uniform(-0.2, 1.0, 2) * size_px
        extent = rng.uniform(0.1, 0.45, 2) * size_px
        shade = np.clip(np.array(look.background) * rng.uniform(0.65, 1.3) + rng.normal(0, 12, 3), 0, 255)
        cv2.rectangle(canvas, corner.astype(int).tolist(), (corner + extent).astype(int).tolist(), shade.tolist(), -1)
    blurred = cv2.GaussianBlur(canvas, (0, 0), size_px / 28)
    fade = np.linspace(1.06, 0.88, size_px)[:, None, None]
    return np.asarray(np.clip(blurred * fade, 0, 255), np.uint8)


def _paint_head(look: Look, rng: np.random.Generator) -> FloatArray:
    shape = look.shape
    rows = ATLAS_ROWS_PX["head"]
    num_rows = rows.stop - rows.start
    y, phi = np.meshgrid(
        np.linspace(shape.crown_y, shape.chin_y, num_rows),
        np.linspace(-np.pi, np.pi, ATLAS_WIDTH_PX),
        indexing="ij",
    )
    x = ring(shape, y)[0] * np.sin(phi)
    side = np.abs(x)
    front = (np.cos(phi) > 0).astype(float)
    skin = np.array(look.skin, float)
    redness = 0.30 * bump(side, y, (0.42, 0.40), (0.15, 0.12)) + 0.22 * bump(x, y, (0, shape.nose_length), (0.1, 0.08))
    socket = 0.16 * bump(side, y, (shape.eye_x, -0.08), (0.17, 0.06)) + 0.10 * bump(
        side, y, (shape.eye_x - 0.02, 0.12), (0.13, 0.04)
    )
    fold = 0.07 * np.exp(-(((side - 0.19 - 0.32 * (y - shape.nose_length)) / 0.025) ** 2))
    fold *= smoothstep(0.40, 0.5, y) * (1 - smoothstep(shape.mouth_y - 0.1, shape.mouth_y + 0.02, y))
    grain = _noise(rng, y.shape, 24) * 0.025
    image = skin * (1 + grain - front * (socket + fold))[..., None]
    image = _mix(image, skin * (1.0, 0.66, 0.64), front * redness)
    if look.freckles:
        spots = _noise(rng, y.shape, 2) > 1.8
        where = bump(side, y, (0.25, 0.30), (0.26, 0.14)) > 0.35
        image = _mix(image, skin * (0.72, 0.58, 0.48), front * cv2.GaussianBlur((spots & where) * 0.55, (0, 0), 0.9))
    return _mix(image, np.array(look.hair, float) * 0.9, _beard(look, x, y, phi, rng))


def _beard(look: Look, x: FloatArray, y: FloatArray, phi: FloatArray, rng: np.random.Generator) -> FloatArray:
    """[A, W] 0 to 1 how much hair covers the skin of the lower face."""
    shape = look.shape
    side = np.abs(x)
    mouth_y = shape.mouth_y
    upper_edge = np.interp(
        side, [0.0, 0.25, 0.4, 0.55, 0.7], [mouth_y + 0.13, mouth_y + 0.04, mouth_y - 0.06, 0.42, 0.1]
    )
    jaw = smoothstep(upper_edge - 0.05, upper_edge + 0.07, y) * (np.abs(phi) < 1.75)
    moustache = bump(x, y, (0, mouth_y - 0.115), (0.19, 0.035)) * 1.2
    mouth = bump(x, y, (0, mouth_y + 0.01), (0.22, 0.06)) * 1.6
    cover = np.clip(np.maximum(jaw * (1 - np.clip(mouth, 0, 1)), moustache), 0, 1)
    strands = np.clip(0.85 + 0.25 * _noise(rng, y.shape, 2), 0, 1)
    return look.beard * cover * strands * (np.cos(phi) > -0.3)


def _paint_hair(look: Look, rng: np.random.Generator) -> FloatArray:
    rows = ATLAS_ROWS_PX["hair"]
    shape = (rows.stop - rows.start, ATLAS_WIDTH_PX)
    if look.hair_style == "curls":
        strands = 0.6 * _noise(rng, shape, 4) + 0.8 * _noise(rng, shape, 1.5)
    else:
        strands = cv2.GaussianBlur(rng.normal(size=shape), (0, 0), sigmaX=1.2, sigmaY=40)
        strands = strands / strands.std()
    lightness = 1 + 0.17 * strands + 0.12 * np.sin(np.linspace(0, 5, shape[0]))[:, None]
    return np.array(look.hair, float) * np.clip(lightness, 0.4, 1.8)[..., None]


def _paint_torso(look: Look) -> FloatArray:
    rows = ATLAS_ROWS_PX["torso"]
    v, phi = np.meshgrid(
        np.linspace(0, 1, rows.stop - rows.start), np.linspace(-np.pi, np.pi, ATLAS_WIDTH_PX), indexing="ij"
    )
    cloth = np.array(look.clothes, float)
    image = np.broadcast_to(cloth, (*v.shape, 3)).copy()
    if look.has_stripes:
        image = _mix(image, cloth * 0.6, 0.8 * smoothstep(0.2, 0.5, np.sin(v * 48)))
    neck_line = 0.05 + (0.22 if look.has_collar else 0.03) * np.clip(1 - np.abs(phi) / 0.8, 0, 1)
    edge = neck_line + 0.05
    trim = np.minimum(255, cloth * 0.75 + (60 if look.has_collar else 0))
    image = _mix(image, trim, smoothstep(0.015, -0.015, v - edge))
    return _mix(image, np.array(look.skin, float), smoothstep(0.015, -0.015, v - neck_line))


def paint_features(canvas: Image, look: Look, expression: Expression, points_K3: FloatArray, to_px: ToPixels) -> None:
    """Draw eyes, brows, nostrils and mouth of one frame over the skin.

    Args:
        canvas: [S, S, 3] RGB albedo, changed in place.
        look: the person.
        expression: what the face does.
        points_K3: [68, 3] landmarks in the frame of the head.
        to_px: projection of such points.
    """
    _paint_nostrils(canvas, look, to_px)
    irises_px = to_px(irises_3d(look.shape, expression))
    for side, iris_px in zip((1, -1), irises_px, strict=True):
        _paint_eye(canvas, look, expression, to_px, side, iris_px)
    for brow in (points_K3[17:22], points_K3[22:27]):
        _paint_brow(canvas, look, brow, to_px)
    _paint_mouth(canvas, look, to_px(points_K3[48:68]))


def _paint_nostrils(canvas: Image, look: Look, to_px: ToPixels) -> None:
    shape = look.shape
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    for side in (-1, 1):
        x = side * 0.5 * shape.nose_half_width + 0.028 * np.cos(turn)
        y = shape.nose_length + 0.083 + 0.014 * np.sin(turn)
        _fill(canvas, to_px(np.stack([x, y, skin_z(shape, x, y)], -1)), _darker(look.skin, 0.45))


def _paint_eye(
    canvas: Image, look: Look, expression: Expression, to_px: ToPixels, side: int, iris_px: FloatArray
) -> None:
    """One eye; side 1 is the viewer's left, -1 its mirror image."""
    shape = look.shape
    mirror = (side, 1, 1)
    s = np.linspace(0, 1, 17)
    upper, lower = (to_px(lid * mirror) for lid in eye_lids(shape, expression, s))
    unit_px = float(abs(np.diff(to_px(np.array([[0.5, 0.0, 0.0], [-0.5, 0.0, 0.0]]))[:, 0])[0]))
    crease = upper - np.array((0, 0.035 * unit_px)) * np.sin(np.pi * s)[:, None]
    _line(canvas, crease[2:-2], _darker(look.skin, 0.72), 0.013 * unit_px)
    almond = np.concatenate([upper, lower[::-1]])
    eye = canvas.copy()
    _fill(eye, almond + (almond - almond.mean(0)) * 0.2, (238, 234, 230))
    _line(eye, upper + np.array((0, 0.02 * unit_px)), (176, 168, 166), 0.03 * unit_px)
    radius = 0.092 * (shape.eye_half_height / 0.07) ** 0.5
    for scale, colour in ((1.0, _darker(look.iris, 0.5)), (0.86, look.iris), (0.45, (12, 10, 12))):
        _disc(eye, iris_px, scale * radius * unit_px, colour)
    _composite(canvas, eye, almond)
    _line(canvas, lower, _darker(look.skin, 0.7), 0.010 * unit_px)
    _line(canvas, upper, (34, 24, 22), (0.024 if look.shape.upper_lip > 0.06 else 0.017) * unit_px)
    glint = iris_px + np.array((-0.03, -0.03)) * unit_px
    if expression.blink < 0.5:
        _disc(canvas, glint, 0.022 * unit_px, (255, 255, 255))


def _paint_brow(canvas: Image, look: Look, brow_53: FloatArray, to_px: ToPixels) -> None:
    centre = _open_curve(brow_53)
    taper = np.abs(centre[:, 0] - centre[0 if abs(brow_53[0, 0]) > abs(brow_53[-1, 0]) else -1, 0])
    half = look.brow_thickness * (0.25 + 0.75 * np.clip(taper / 0.2, 0, 1))
    above, below = centre.copy(), centre.copy()
    above[:, 1] -= half
    below[:, 1] += half
    colour = np.array(look.hair) * 0.45 + np.array(look.skin) * 0.12
    _fill(canvas, np.concatenate([to_px(above), to_px(below)[::-1]]), tuple(colour.astype(int).tolist()))


def _paint_mouth(canvas: Image, look: Look, mouth_px: FloatArray) -> None:
    """Lips, and teeth and tongue where they part; mouth_px [20, 2] are landmarks 48 to 67."""
    upper = _open_curve(mouth_px[[0, 1, 2, 3, 4, 5, 6]])
    lower = _open_curve(mouth_px[[6, 7, 8, 9, 10, 11, 0]])
    inner_upper = _open_curve(mouth_px[[0, 12, 13, 14, 15, 16, 6]])
    inner_lower = _open_curve(mouth_px[[6, 16, 17, 18, 19, 12, 0]])
    width_px = float(np.linalg.norm(mouth_px[6] - mouth_px[0]))
    _fill(canvas, np.concatenate([lower, inner_lower[::-1]]), _lighter(look.lips, 1.06))
    _fill(canvas, np.concatenate([upper, inner_upper[::-1]]), _darker(look.lips, 0.88))
    opening = np.concatenate([inner_upper, inner_lower])
    gap_px = float(np.linalg.norm(mouth_px[18] - mouth_px[14]))
    if gap_px > 0.03 * width_px:
        inside = np.empty_like(canvas)
        inside[:] = (70, 26, 28)
        down = (mouth_px[18] - mouth_px[14]) / max(gap_px, 1e-6)
        _disc(inside, mouth_px[18] + 0.06 * width_px * down, 0.24 * width_px, (176, 84, 84))
        teeth = inner_upper + down * min(0.13 * width_px, 0.55 * gap_px)
        _fill(inside, np.concatenate([inner_upper - down * width_px * 0.1, teeth[::-1]]), (240, 236, 228))
        _composite(canvas, inside, opening)
    _line(canvas, inner_upper, _darker(look.lips, 0.5), 0.022 * width_px)


def paint_glasses(
    canvas: Image, look: Look, to_px: ToPixels, is_visible: Callable[[FloatArray], npt.NDArray[np.bool_]]
) -> None:
    """Draw rims, bridge and the visible part of the temples, after shading."""
    shape = look.shape
    turn = np.linspace(0, 2 * np.pi, 40)
    power = 0.45 if look.glasses == "square" else 1.0
    curve = [np.sign(f(turn)) * np.abs(f(turn)) ** power for f in (np.cos, np.sin)]
    radius_x, radius_y = min(0.23, shape.eye_x - 0.07), 0.175
    front_z = float(skin_z(shape, np.array(shape.eye_x), np.array(-0.1))) - 0.12
    ink = (38, 34, 40) if look.glasses == "square" else (120, 84, 50)
    unit_px = float(abs(np.diff(to_px(np.array([[0.5, 0.0, 0.0], [-0.5, 0.0, 0.0]]))[:, 0])[0]))
    for side in (-1, 1):
        x = side * shape.eye_x + radius_x * curve[0]
        rim = np.stack([x, 0.03 + radius_y * curve[1], np.full_like(x, front_z)], -1)
        lens = canvas.copy()
        _fill(lens, to_px(rim), (255, 255, 255))
        canvas[:] = cv2.addWeighted(lens, 0.10, canvas, 0.90, 0)
        _line(canvas, to_px(rim), ink, 0.03 * unit_px)
        t = np.linspace(0, 1, 24)[:, None]
        hinge = np.array((side * (shape.eye_x + radius_x), -0.03, front_z))
        temple = hinge + t * (np.array((side * (shape.half_width + 0.03), -0.02, 0.0)) - hinge)
        seen = is_visible(temple)
        _line(canvas, to_px(temple)[: int(np.argmin(seen)) if not seen.all() else None], ink, 0.028 * unit_px)
    bridge_x = np.linspace(-1, 1, 9) * (shape.eye_x - radius_x)
    bridge = np.stack([bridge_x, -0.02 - 0.03 * np.cos(bridge_x * 12), np.full(9, front_z - 0.02)], -1)
    _line(canvas, to_px(bridge), ink, 0.03 * unit_px)


def _open_curve(knots: FloatArray) -> FloatArray:
    return np.asarray(_spline(len(knots)) @ knots)


@functools.cache
def _spline(num_knots: int) -> FloatArray:
    return interpolating_spline_matrix(num_knots, closed=False)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> FloatArray:
    noise = cv2.GaussianBlur(rng.normal(size=shape), (0, 0), sigma)
    return np.asarray(noise / noise.std())


def _mix(image: FloatArray, colour: FloatArray, amount: FloatArray) -> FloatArray:
    return image + np.clip(amount, 0, 1)[..., None] * (colour - image)


def _darker(colour: Colour, factor: float) -> Colour:
    return int(colour[0] * factor), int(colour[1] * factor), int(colour[2] * factor)


def _lighter(colour: Colour, factor: float) -> Colour:
    return (
        min(255, int(colour[0] * factor)),
        min(255, int(colour[1] * factor)),
        min(255, int(colour[2] * factor)),
    )


def _fixed(points_px: FloatArray) -> npt.NDArray[np.int32]:
    return np.rint(points_px * (1 << _SHIFT)).astype(np.int32)


def _fill(canvas: Image, points_px: FloatArray, colour: Colour | int) -> None:
    cv2.fillPoly(canvas, [_fixed(points_px)], colour, cv2.LINE_AA, _SHIFT)


def _line(canvas: Image, points_px: FloatArray, colour: Colour, width_px: float) -> None:
    if len(points_px) > 1:
        cv2.polylines(canvas, [_fixed(points_px)], False, colour, max(1, round(width_px)), cv2.LINE_AA, _SHIFT)


def _disc(canvas: Image, centre_px: FloatArray, radius_px: float, colour: Colour) -> None:
    centre = _fixed(centre_px).tolist()
    cv2.circle(canvas, centre, round(radius_px * (1 << _SHIFT)), colour, -1, cv2.LINE_AA, _SHIFT)


def _composite(canvas: Image, above: Image, outline_px: FloatArray) -> None:
    """Copy what `above` shows inside the outline onto the canvas, in place."""
    low = np.clip(np.floor(outline_px.min(axis=0)).astype(int) - 1, 0, None)
    high = np.ceil(outline_px.max(axis=0)).astype(int) + 2
    box = np.s_[low[1] : max(high[1], 0), low[0] : max(high[0], 0)]
    mask = np.zeros(canvas.shape[:2], np.uint8)
    _fill(mask, outline_px, 255)
    amount = mask[box][..., None].astype(np.uint16)
    canvas[box] = (above[box] * amount + canvas[box] * (255 - amount) + 127) // 255
