"""Geometry of a synthetic head: its surface, its expressions and its 68 landmarks.

Frame of the head: x to the image's right, y down, z away from the viewer; the nose points to -z. The eyes
lie at y = 0, one unit is about 100 mm. The face is a height field z(x, y), so a point painted on it and a
landmark are the same closed formula: labels are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_JAW_DROP = 0.24  # chin travel of a fully dropped jaw
_NUM_JAW_LANDMARKS = 17
_FRONT_POWER = 2.5


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadShape:
    """Proportions of one head, in head units unless said otherwise."""

    half_width: float = 0.76
    """Of the skull at eye height."""
    crown_y: float = -1.18
    """Top of the skull."""
    chin_y: float = 1.16
    """Lowest point of the chin."""
    depth: float = 0.95
    """From the ears to the front of the face."""
    jaw_power: float = 2.1
    """Exponent of the lower outline: 1.7 is pointed, 2.8 is square."""
    cheek: float = 0.05
    """Height of the cheekbones."""
    nose_length: float = 0.42
    nose_height: float = 0.27
    nose_half_width: float = 0.14
    eye_x: float = 0.32
    """Distance of an eye's centre from the middle."""
    eye_half_width: float = 0.145
    eye_half_height: float = 0.07
    eye_tilt: float = 0.02
    """How much the outer corner is above the inner one."""
    brow_y: float = -0.21
    brow_arch: float = 0.05
    mouth_y: float = 0.71
    mouth_half_width: float = 0.27
    upper_lip: float = 0.065
    lower_lip: float = 0.085


@dataclass(frozen=True, kw_only=True, slots=True)
class Expression:
    """What the face does: each muscle from 0 (rest) to 1; gaze from -1 to 1."""

    brow_inner: float = 0.0
    brow_outer: float = 0.0
    brow_lower: float = 0.0
    eye_wide: float = 0.0
    squint: float = 0.0
    blink: float = 0.0
    smile: float = 0.0
    frown: float = 0.0
    upper_lip_raise: float = 0.0
    chin_raise: float = 0.0
    stretch: float = 0.0
    pucker: float = 0.0
    jaw: float = 0.0
    lips_part: float = 0.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0


def smoothstep(low: float | FloatArray, high: float | FloatArray, value: FloatArray) -> FloatArray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def bump(x: FloatArray, y: FloatArray, centre: tuple[float, float], sigma: tuple[float, float]) -> FloatArray:
    """A Gaussian of height 1."""
    return np.exp(-(((x - centre[0]) / sigma[0]) ** 2 + ((y - centre[1]) / sigma[1]) ** 2) / 2)


def ring(shape: HeadShape, y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Half width, half depth and centre z of the skull's elliptic cross section at height y."""
    extent = np.where(y < 0, -shape.crown_y, shape.chin_y)
    rise = np.clip(np.abs(y) / extent, 0, 1)
    power = np.where(y < 0, 2.3, shape.jaw_power)
    half_width = shape.half_width * (1 - rise**power) ** (1 / power)
    power = np.where(y < 0, 2.2, 2.6)
    lower = smoothstep(0.1, shape.chin_y, y)
    half_depth = shape.depth * (1 - rise**power) ** (1 / power) * (1 - 0.35 * lower)
    return half_width, half_depth, -0.40 * shape.depth * lower


def relief(shape: HeadShape, x: FloatArray, y: FloatArray) -> FloatArray:
    """How far nose, brows, cheeks, lips and chin stand out of the skull towards the viewer."""
    side = np.abs(x)
    nose = shape.nose_length
    along = smoothstep(-0.22, nose, y) * (1 - smoothstep(nose + 0.02, nose + 0.14, y))
    ridge = np.exp(-((x / (0.08 + 0.03 * smoothstep(0.0, nose, y))) ** 2) / 2)
    height = shape.nose_height * along * ridge
    height += 0.09 * bump(side, y, (shape.nose_half_width * 0.85, nose + 0.03), (0.05, 0.055))
    height -= 0.075 * bump(side, y, (shape.eye_x - 0.02, 0.0), (0.14, 0.09))
    height += 0.055 * bump(side, y, (shape.eye_x, 0.0), (0.09, 0.07))
    height += 0.045 * bump(side, y, (shape.eye_x - 0.03, shape.brow_y), (0.17, 0.06))
    height += shape.cheek * bump(side, y, (0.44, 0.33), (0.16, 0.14))
    height += 0.05 * bump(x, y, (0.0, shape.mouth_y), (0.24, 0.17))
    height -= 0.025 * bump(x, y, (0.0, shape.mouth_y + 0.17), (0.14, 0.05))
    height += 0.06 * bump(x, y, (0.0, shape.chin_y - 0.15), (0.15, 0.11))
    return height


def skin_z(shape: HeadShape, x: FloatArray, y: FloatArray) -> FloatArray:
    """Z of the resting face at frontal position (x, y), which must lie inside the outline."""
    half_width, half_depth, centre_z = ring(shape, y)
    across = np.abs(x) / np.maximum(half_width, 1e-6)
    return centre_z - half_depth * bulge(across) - relief(shape, x, y) * (1 - smoothstep(0.8, 1.0, across))


def bulge(across: FloatArray) -> FloatArray:
    """1 in the middle of the face, 0 at its edge (across = 1): a superellipse, flatter than a circle."""
    return (1 - np.clip(across, 0, 1) ** _FRONT_POWER) ** (1 / _FRONT_POWER)


def move_skin(shape: HeadShape, expression: Expression, points: FloatArray, front: FloatArray) -> FloatArray:
    """The skin's points after the expression's pull.

    Args:
        shape: the head.
        expression: what the face does.
        points: [..., 3] resting points.
        front: [...] 1 on the face, 0 on the back of the head, which does not move.
    """
    x, y = points[..., 0], points[..., 1]
    side, sign = np.abs(x), np.sign(x)
    mouth_x, mouth_y = shape.mouth_half_width, shape.mouth_y
    between_lips = np.exp(-((x / (1.2 * mouth_x)) ** 4))
    lower = between_lips * smoothstep(mouth_y - 0.02, mouth_y + 0.05, y)
    lower += (1 - between_lips) * smoothstep(0.3, 1.05, y)
    jaw = _JAW_DROP * expression.jaw * lower
    corner = bump(side, y, (mouth_x, mouth_y), (0.15, 0.13))
    apple = bump(side, y, (0.42, 0.36), (0.16, 0.13)) * expression.smile
    lips = bump(x, y, (0.0, mouth_y), (0.2, 0.13)) * expression.pucker
    chin = bump(x, y, (0.0, shape.chin_y - 0.16), (0.16, 0.12)) * expression.chin_raise
    moved = np.empty_like(points)
    outwards = 0.05 * expression.smile + 0.035 * expression.stretch
    moved[..., 0] = sign * outwards * corner - 0.3 * x * lips
    moved[..., 1] = jaw - (0.07 * expression.smile - 0.05 * expression.frown) * corner - 0.03 * apple - 0.05 * chin
    moved[..., 2] = 0.2 * jaw - 0.05 * apple - 0.06 * lips - 0.02 * chin
    return points + moved * front[..., None]


def landmarks_3d(shape: HeadShape, expression: Expression) -> FloatArray:
    """[68, 3] iBUG landmarks on the moved face, in the frame of the head."""
    points = np.empty((68, 3))
    points[0:17] = _outline(shape, expression)
    points[17:27] = _brows(shape, expression)
    points[27:36] = _nose(shape)
    points[36:48] = _eyes(shape, expression)
    points[48:68] = _mouth(shape, expression)
    return points


def _outline(shape: HeadShape, expression: Expression) -> FloatArray:
    angle = np.linspace(-1, 1, _NUM_JAW_LANDMARKS) * np.pi / 2
    y = -0.14 + (0.985 * shape.chin_y + 0.14) * np.cos(angle) ** 0.95
    half_width, half_depth, centre_z = ring(shape, y)
    turn = np.sign(angle) * np.minimum(1.25, np.abs(angle) * 2.6)
    across = np.sin(turn)
    points = np.stack([half_width * across, y, centre_z - half_depth * bulge(np.abs(across))], axis=-1)
    return move_skin(shape, expression, points, np.ones(_NUM_JAW_LANDMARKS))


def _brows(shape: HeadShape, expression: Expression) -> FloatArray:
    s = np.linspace(0, 1, 5)  # from the outer end to the inner one
    x = shape.eye_x + 0.25 - s * 0.42 - 0.025 * expression.brow_lower * s
    y = shape.brow_y - 0.01 - shape.brow_arch * 2 * np.sin(np.pi * (0.12 + 0.62 * s)) ** 2 + 0.045 * s
    y -= 0.085 * expression.brow_inner * s**1.5 + 0.075 * expression.brow_outer * (1 - s) ** 0.8
    y += 0.1 * expression.brow_lower * (0.35 + 0.65 * s)
    right = np.stack([-x, y, skin_z(shape, x, y)], axis=-1)
    return np.concatenate([right, (right * (-1, 1, 1))[::-1]])


def _nose(shape: HeadShape) -> FloatArray:
    n = shape.nose_length
    bridge_y = np.linspace(0.0, n, 4)
    x = np.concatenate([np.zeros(4), shape.nose_half_width * np.array([-1.0, -0.5, 0.0, 0.5, 1.0])])
    y = np.concatenate([bridge_y, n + np.array([0.055, 0.085, 0.1, 0.085, 0.055])])
    return np.stack([x, y, skin_z(shape, x, y)], axis=-1)


def eye_lids(shape: HeadShape, expression: Expression, s: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Upper and lower lid of the viewer's left eye.

    Args:
        shape: the head.
        expression: what the face does.
        s: [P] position along the lids, 0 at the outer corner, 1 at the inner one.

    Returns:
        [P, 3] upper and [P, 3] lower lid.
    """
    x = -shape.eye_x + shape.eye_half_width * (2 * s - 1)
    line = shape.eye_tilt * (s - 0.5)
    arch = np.sin(np.pi * s) ** 0.85
    lower = 0.62 * shape.eye_half_height * (1 - 0.45 * expression.squint - 0.35 * expression.smile)
    upper = shape.eye_half_height * (1 + 0.7 * expression.eye_wide - 0.3 * expression.squint)
    upper = upper + (-0.9 * lower - upper) * expression.blink
    skew = 1 + 0.25 * (s - 0.5)
    lids = [line - upper * arch * skew, line + lower * arch]
    return tuple(np.stack([x, y, skin_z(shape, x, y)], axis=-1) for y in lids)  # type: ignore[return-value]


def irises_3d(shape: HeadShape, expression: Expression) -> FloatArray:
    """[2, 3] centres of the irises in the frame of the head, the viewer's left one first."""
    towards_nose = np.array([0.055 * expression.gaze_x + 0.01, -0.055 * expression.gaze_x + 0.01])
    x = (-shape.eye_x + towards_nose) * (1, -1)
    y = np.full(2, -0.2 * shape.eye_half_height + 0.03 * expression.gaze_y)
    return np.stack([x, y, skin_z(shape, x, y)], axis=-1)


def _eyes(shape: HeadShape, expression: Expression) -> FloatArray:
    s = np.array([0.0, 0.3, 0.7, 1.0])
    upper, lower = eye_lids(shape, expression, s)
    right = np.concatenate([upper, lower[[2, 1]]])
    left = (right * (-1, 1, 1))[[3, 2, 1, 0, 5, 4]]
    return np.concatenate([right, left])


def _mouth(shape: HeadShape, expression: Expression) -> FloatArray:
    outer = np.array([-1, -0.6, -0.22, 0, 0.22, 0.6, 1, 0.62, 0.27, 0, -0.27, -0.62])
    inner = np.array([-0.87, -0.32, 0, 0.32, 0.87, 0.32, 0, -0.32])
    xi = np.concatenate([outer, inner])
    upper = np.array([0, 0.62, 1, 0.86, 1, 0.62, 0, *[0] * 5, *[0] * 8]) * shape.upper_lip
    lower = np.array([*[0] * 7, 0.68, 0.97, 1, 0.97, 0.68, *[0] * 8]) * shape.lower_lip
    thick = 1 + 0.3 * expression.pucker - 0.25 * expression.smile
    is_lower = np.zeros(20)
    is_lower[7:12] = is_lower[17:20] = 1
    is_upper = np.zeros(20)
    is_upper[1:6] = is_upper[13:16] = 1
    corner_lift = 0.02 + 0.12 * expression.smile - 0.06 * expression.frown
    drop = _JAW_DROP * expression.jaw
    width = 1 + 0.2 * expression.smile + 0.14 * expression.stretch - 0.38 * expression.pucker - 0.1 * expression.jaw
    x = xi * shape.mouth_half_width * width
    rest_y = shape.mouth_y + (lower - upper) * thick - 0.05 * expression.chin_raise * (0.4 + 0.6 * is_lower)
    bow = (1 - xi**2) ** 0.8
    y = rest_y - corner_lift * xi**2 + drop * (0.35 * xi**2 * (1 - is_lower) + is_lower * (0.35 + 0.65 * bow))
    y += 0.03 * expression.lips_part * bow * (is_lower - 0.4 * is_upper)
    y -= 0.05 * expression.upper_lip_raise * is_upper * bow
    z = skin_z(shape, x, rest_y) + 0.2 * drop * is_lower - 0.025 * bow - 0.07 * expression.pucker
    return np.stack([x, y, z], axis=-1)
