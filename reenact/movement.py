"""How heads turn and faces move, and how the source person is led along: relative or absolute, region by region.

Legend: N frames, K = 68 landmarks, C coordinates, A = 18 action units.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from model.batch import AU_ORDER
from model.errors import ConfigError
from model.frames import Frame
from model.networks.landmark_base import MAX_AU_INTENSITY

FloatArray = NDArray[np.float32]

MAX_STRENGTH = 3.0
_BROWS, _EYES = (1, 2, 4), (5, 6, 7, 45)
"""Action units that raise and lower the brows, and that open and close the lids; the others move nose and mouth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Movement:
    """How heads are turned and faces moved."""

    pose_NC: FloatArray
    """[N, 3] pitch, yaw, roll, degrees."""
    au_presence_NA: FloatArray
    """[N, 18] 0 or 1; between them, for part of a movement."""
    au_intensity_NA: FloatArray
    """[N, 18] 0 to 5."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """The frame of the driving clip from which relative motion is measured."""

    movement: Movement
    """N = 1."""
    landmarks_KC: FloatArray
    """[68, 2] pixels of the model's frame."""
    image_HWC: Frame | None = None
    """[S, S, 3] uint8 RGB, for designs that look at it; None where it was not decoded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Strengths:
    """How much of the driving movement each region makes: 0 none, 1 as it is driven, up to 3 times as much."""

    pose: float = 1.0
    """Of the head: its turn and its place."""
    mouth: float = 1.0
    """Of nose and mouth."""
    eyes: float = 1.0
    """Of the lids."""
    brows: float = 1.0

    def __post_init__(self) -> None:
        """Check the range.

        Raises:
            ConfigError: naming the first strength that is outside of it.
        """
        for one in fields(self):
            value = getattr(self, one.name)
            if not 0 <= value <= MAX_STRENGTH:
                raise ConfigError(f"--strength {one.name}={value:g}: wanted 0 to {MAX_STRENGTH:g}")

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Self:
        """From "mouth=1.5" and the like; regions that are not named have 1.

        Raises:
            ConfigError: for another region, or what is no number from 0 to 3.
        """
        named: dict[str, float] = {}
        regions = [one.name for one in fields(cls)]
        for text in texts:
            region, _, number = text.partition("=")
            try:
                named[region] = float(number)
            except ValueError:
                region = ""
            if region not in regions:
                raise ConfigError(
                    f"--strength: got {text!r}, wanted REGION=NUMBER with a region of {', '.join(regions)}"
                )
        return cls(**named)

    def of_action_units(self) -> FloatArray:
        """[18] strength of each action unit."""
        by_unit = dict.fromkeys(_BROWS, self.brows) | dict.fromkeys(_EYES, self.eyes)
        return np.array([by_unit.get(unit, self.mouth) for unit in AU_ORDER], np.float32)


FULL = Strengths()
"""Every region as it is driven."""


def led(own: Movement, driving: Movement, origin: Movement, strengths: Strengths) -> Movement:
    """Where the source person's movement goes: own + strength (driving - origin), within what a face can do.

    Args:
        own: of the source, N = 1.
        driving: of N frames.
        origin: of the reference frame for relative motion, `own` for absolute one; N = 1. With strengths of 1 and
            `own` the result is `driving`, to the bit.
        strengths: of the regions.
    """
    units_A = strengths.of_action_units()
    presence_NA = _led(own.au_presence_NA, driving.au_presence_NA, origin.au_presence_NA, units_A)
    intensity_NA = _led(own.au_intensity_NA, driving.au_intensity_NA, origin.au_intensity_NA, units_A)
    return Movement(
        pose_NC=_led(own.pose_NC, driving.pose_NC, origin.pose_NC, np.float32(strengths.pose)),
        au_presence_NA=np.clip(presence_NA, 0, 1),
        au_intensity_NA=np.clip(intensity_NA, 0, MAX_AU_INTENSITY),
    )


def led_centres(own_C: FloatArray, driving_NC: FloatArray, origin_C: FloatArray, strengths: Strengths) -> FloatArray:
    """[N, 2] where the source's landmarks have their mean point, pixels of the model's frame; arguments as of `led`."""
    return _led(own_C, driving_NC, origin_C, np.float32(strengths.pose))


def _led(
    own: FloatArray, driving: FloatArray, origin: FloatArray, strength: np.float32 | NDArray[np.float32]
) -> FloatArray:
    """Written so that nothing is added where own is origin and the strength 1."""
    return np.asarray(strength * driving + (own - strength * origin), np.float32)
