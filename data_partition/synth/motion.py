"""Smooth random motion of a synthetic head, and its action units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_partition.synth.camera import Pose
from data_partition.synth.face import Expression, FloatArray
from model.batch import AU_ORDER

FRAME_RATE_HZ = 25.0

_YAW_DEG, _PITCH_DEG, _ROLL_DEG = 25.0, 12.0, 10.0
_BLINK_FRAMES = 7
_MAX_INTENSITY = 5.0
_PRESENT_FROM = 1.0  # FACS intensity A

_AU_OF_MUSCLE: dict[int, str] = {
    1: "brow_inner",
    2: "brow_outer",
    4: "brow_lower",
    5: "eye_wide",
    7: "squint",
    10: "upper_lip_raise",
    12: "smile",
    15: "frown",
    17: "chin_raise",
    20: "stretch",
    26: "jaw",
    45: "blink",
}


@dataclass(frozen=True, slots=True)
class Moment:
    """The state of a head in one frame."""

    pose: Pose
    expression: Expression

    def au_intensity_A(self) -> npt.NDArray[np.float32]:
        """[18] float32 intensities 0 to 5 in AU_ORDER; units that these heads cannot show are 0."""
        e = self.expression
        strength = {au: float(getattr(e, muscle)) for au, muscle in _AU_OF_MUSCLE.items()}
        strength[6] = 0.8 * e.smile
        strength[25] = min(1.0, 0.8 * e.lips_part + 1.5 * e.jaw)
        return np.array([_MAX_INTENSITY * strength.get(au, 0.0) for au in AU_ORDER], np.float32)

    def au_presence_A(self) -> npt.NDArray[np.float32]:
        """[18] float32, 1 where the intensity is at least 1 (FACS grade A)."""
        return (self.au_intensity_A() >= _PRESENT_FROM).astype(np.float32)


def animate(num_frames: int, rng: np.random.Generator) -> list[Moment]:
    """A take of someone who looks around, talks, smiles and blinks.

    Args:
        num_frames: length at 25 frames a second.
        rng: the only source of randomness.
    """
    yaw = _YAW_DEG * _wander(num_frames, rng, fastest_hz=0.35)
    pitch = _PITCH_DEG * _wander(num_frames, rng, fastest_hz=0.4)
    roll = _ROLL_DEG * _wander(num_frames, rng, fastest_hz=0.3)
    shift_x, shift_y = (0.06 * _wander(num_frames, rng, fastest_hz=0.25) for _ in range(2))
    muscles = _muscles(num_frames, rng)
    moments = []
    for i in range(num_frames):
        pose = Pose(float(pitch[i]), float(yaw[i]), float(roll[i]), float(shift_x[i]), float(shift_y[i]))
        moments.append(Moment(pose, Expression(**{name: float(value[i]) for name, value in muscles.items()})))
    return moments


def _muscles(num_frames: int, rng: np.random.Generator) -> dict[str, FloatArray]:
    """Strength of every muscle in every frame; antagonists never pull together."""
    mood = _wander(num_frames, rng, fastest_hz=0.12)
    brows = _wander(num_frames, rng, fastest_hz=0.3)
    raised = np.clip(1.4 * brows - 0.2, 0, 1)
    talk = _talk(num_frames, rng)
    rounding = np.clip(1.3 * _wander(num_frames, rng, fastest_hz=0.5) - 0.3, 0, 1)
    smile = np.clip(0.2 + 1.2 * mood, 0.0, 1)
    return {
        "brow_inner": raised * np.clip(0.8 + 0.4 * _wander(num_frames, rng, fastest_hz=0.2), 0, 1),
        "brow_outer": raised * np.clip(0.7 + 0.5 * _wander(num_frames, rng, fastest_hz=0.2), 0, 1),
        "brow_lower": np.clip(-1.4 * brows - 0.3, 0, 1),
        "eye_wide": np.clip(1.5 * brows - 0.8, 0, 1),
        "squint": _episodes(num_frames, rng),
        "blink": _blinks(num_frames, rng),
        "smile": smile,
        "frown": np.clip(-1.3 * mood - 0.5, 0, 1),
        "upper_lip_raise": _episodes(num_frames, rng) * (1 - talk),
        "chin_raise": _episodes(num_frames, rng) * (1 - talk),
        "stretch": _episodes(num_frames, rng) * (1 - rounding),
        "pucker": rounding * (1 - smile) * 0.9,
        "jaw": talk,
        "lips_part": np.clip(1.6 * talk + 0.5 * smile, 0, 1),
        "gaze_x": _wander(num_frames, rng, fastest_hz=0.5),
        "gaze_y": 0.7 * _wander(num_frames, rng, fastest_hz=0.5),
    }


def _wander(num_frames: int, rng: np.random.Generator, *, fastest_hz: float) -> FloatArray:
    """[F] sum of five sinusoids with random phases; stays within -1 and 1, and comes near both."""
    t = np.arange(num_frames)[:, None] / FRAME_RATE_HZ
    frequency_hz = fastest_hz * rng.uniform(0.2, 1.0, 5)
    weight = rng.uniform(0.4, 1.0, 5)
    waves = np.sin(2 * np.pi * (t * frequency_hz + rng.random(5))) * (weight / weight.sum())
    return np.asarray(np.clip(1.5 * waves.sum(axis=1), -1, 1))


def _episodes(num_frames: int, rng: np.random.Generator) -> FloatArray:
    """[F] 0 most of the time, with smooth rises towards 1."""
    return np.clip(2.2 * _wander(num_frames, rng, fastest_hz=0.35) - 1.1, 0, 1)


def _talk(num_frames: int, rng: np.random.Generator) -> FloatArray:
    """[F] jaw opening: syllables while talking, now and then a wide-open mouth."""
    t = np.arange(num_frames) / FRAME_RATE_HZ
    is_talking = np.clip(2 * _wander(num_frames, rng, fastest_hz=0.25) + 0.4, 0, 1)
    pace = np.cumsum(2 * np.pi * (3.2 + 1.2 * _wander(num_frames, rng, fastest_hz=0.8)) / FRAME_RATE_HZ)
    syllables = 0.5 - 0.5 * np.cos(pace + 0.3 * np.sin(2 * np.pi * 1.7 * t))
    loudness = 0.30 + 0.25 * _wander(num_frames, rng, fastest_hz=1.0)
    wide_open = _episodes(num_frames, rng)
    return np.asarray(np.clip(is_talking * syllables * loudness + 0.8 * wide_open, 0, 1))


def _blinks(num_frames: int, rng: np.random.Generator) -> FloatArray:
    """[F] lid closure: a quarter-second blink every two to four seconds."""
    closure = np.zeros(num_frames + _BLINK_FRAMES)
    shape = np.sin(np.linspace(0, np.pi, _BLINK_FRAMES + 2)[1:-1]) ** 0.7
    start = int(rng.integers(10, 50))
    while start < num_frames:
        closure[start : start + _BLINK_FRAMES] = shape
        start += int(rng.integers(50, 100))
    return closure[:num_frames]
