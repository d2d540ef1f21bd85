"""What distinguishes one synthetic person from another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from data_partition.synth.face import HeadShape

Colour = tuple[int, int, int]
"""sRGB, 0 to 255."""

Choice = TypeVar("Choice")

COMPLEXIONS: tuple[tuple[Colour, Colour, Colour], ...] = (
    ((240, 200, 175), (196, 150, 88), (84, 130, 170)),
    ((120, 78, 56), (28, 23, 22), (52, 34, 24)),
    ((226, 178, 142), (84, 52, 34), (74, 46, 28)),
    ((248, 214, 196), (164, 74, 34), (60, 100, 64)),
    ((164, 110, 78), (36, 27, 25), (60, 38, 24)),
    ((236, 194, 162), (30, 26, 28), (56, 38, 28)),
    ((92, 60, 46), (22, 19, 20), (46, 30, 22)),
    ((232, 190, 166), (160, 156, 152), (96, 116, 126)),
    ((196, 144, 106), (52, 36, 28), (84, 92, 52)),
)
"""Skin, hair and iris that are seen together."""
CLOTHES: tuple[Colour, ...] = (
    (178, 58, 62),
    (232, 186, 76),
    (52, 92, 150),
    (236, 236, 228),
    (58, 116, 92),
    (118, 82, 144),
    (60, 62, 70),
)
BACKGROUNDS: tuple[Colour, ...] = (
    (150, 182, 198),
    (206, 176, 150),
    (124, 150, 128),
    (176, 168, 196),
    (92, 106, 128),
    (214, 206, 186),
)
HAIR_STYLES: tuple[str, ...] = ("long", "curls", "parted", "crop", "bob", "bun", "bald")
BEARDS: tuple[float, ...] = (0.0, 0.35, 0.0, 0.9, 0.0, 0.0, 0.7)
GLASSES: tuple[str, ...] = ("none", "none", "square", "none", "round", "none")


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """One person's appearance; everything that stays the same from frame to frame."""

    seed: int
    """Of the fine detail: freckles, strands, blurred background."""
    shape: HeadShape
    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    clothes: Colour
    background: Colour
    hair_style: str
    """One of HAIR_STYLES."""
    hair_volume: float
    """Thickness of the hair over the skull, head units."""
    part_side: float
    """-1 to 1: where the hair is parted."""
    brow_thickness: float
    """Half thickness in head units."""
    beard: float
    """0 shaved to 1 full."""
    freckles: float
    """0 none to 1 many."""
    glasses: str
    """none, round or square."""
    has_collar: bool
    has_stripes: bool
    light_x: float
    """-1 light from the image's left, 1 from its right."""


def draw_look(index: int, seed: int) -> Look:
    """The look of person `index` in the cast of `seed`.

    Colours and styles are dealt from shuffled lists, so that people next to each other in a cast differ
    in all of them; proportions and details are drawn at random.
    """
    cast = np.random.default_rng([seed, 0])
    rng = np.random.default_rng([seed, 1, index])
    skin, hair, iris = _deal(COMPLEXIONS, index, cast)
    skin = _jitter(skin, rng)
    hair_style = _deal(HAIR_STYLES, index, cast)
    is_soft = hair_style in ("long", "bob", "bun")
    return Look(
        seed=int(rng.integers(2**31)),
        shape=_draw_shape(rng, is_soft=is_soft),
        skin=skin,
        hair=_jitter(hair, rng),
        iris=iris,
        lips=_lip_colour(skin, is_soft=is_soft),
        clothes=_deal(CLOTHES, index, cast),
        background=_jitter(_deal(BACKGROUNDS, index, cast), rng),
        hair_style=hair_style,
        hair_volume=float(rng.uniform(0.08, 0.14)),
        part_side=float(rng.choice([-1, 1]) * rng.uniform(0.5, 1)),
        brow_thickness=float(rng.uniform(0.014, 0.024) if is_soft else rng.uniform(0.022, 0.044)),
        beard=0.0 if is_soft else _deal(BEARDS, index, cast),
        freckles=float(rng.random() < 0.35),
        glasses=_deal(GLASSES, index, cast),
        has_collar=bool(rng.random() < 0.5),
        has_stripes=bool(rng.random() < 0.4),
        light_x=float(rng.uniform(-0.7, 0.7)),
    )


def _deal(choices: Sequence[Choice], index: int, cast: np.random.Generator) -> Choice:
    """The index-th of the shuffled choices, starting over at the end."""
    order = cast.permutation(len(choices))
    return choices[int(order[index % len(choices)])]


def _jitter(colour: Colour, rng: np.random.Generator) -> Colour:
    """A slightly lighter or darker colour of nearly the same hue."""
    shifted = np.array(colour) * rng.normal(1, 0.06) + rng.normal(0, 2, 3)
    red, green, blue = np.clip(shifted, 12, 250).astype(int).tolist()
    return red, green, blue


def _lip_colour(skin: Colour, *, is_soft: bool) -> Colour:
    tint = np.array((0.90, 0.52, 0.54) if is_soft else (0.90, 0.68, 0.66))
    red, green, blue = (np.array(skin) * tint).astype(int).tolist()
    return red, green, blue


def _draw_shape(rng: np.random.Generator, *, is_soft: bool) -> HeadShape:
    """Proportions around the mean; a soft face has a narrower jaw, larger eyes and fuller lips."""

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    chin_y = between(1.0, 1.14) if is_soft else between(1.08, 1.26)
    nose_length = between(0.32, 0.40) if is_soft else between(0.36, 0.45)
    return HeadShape(
        half_width=between(0.66, 0.82),
        crown_y=between(-1.16, -1.04),
        chin_y=chin_y,
        jaw_power=between(1.75, 2.1) if is_soft else between(2.0, 2.9),
        cheek=between(0.01, 0.09),
        nose_length=nose_length,
        nose_height=between(0.18, 0.25) if is_soft else between(0.22, 0.34),
        nose_half_width=between(0.105, 0.15) if is_soft else between(0.12, 0.19),
        eye_x=between(0.285, 0.355),
        eye_half_width=between(0.12, 0.16),
        eye_half_height=between(0.070, 0.105) if is_soft else between(0.058, 0.088),
        eye_tilt=between(-0.04, 0.06),
        brow_y=between(-0.27, -0.18),
        brow_arch=between(0.0, 0.07),
        mouth_y=nose_length + between(0.44, 0.52) * (chin_y - nose_length),
        mouth_half_width=between(0.21, 0.31),
        upper_lip=between(0.055, 0.09) if is_soft else between(0.03, 0.065),
        lower_lip=between(0.08, 0.125) if is_soft else between(0.055, 0.095),
    )
