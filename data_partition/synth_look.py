"""What distinguishes one synthetic person from another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from data_partition.synth_face import HeadShape

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

    Colours and styles are dealt from shuffled lists, so that people next to each other in a cast differ in all
    of them; proportions and details are drawn at random.
    """
    cast = np.random.default_rng([seed, 0])
    rng = np.random.default_rng([seed, 1, index])
    skin, hair, iris = _deal(COMPLEXIONS, index, cast)
    skin = _jitter(skin, rng, 6)
    hair_style = _deal(HAIR_STYLES, index, cast)
    is_soft = hair_style in ("long", "bob", "bun")
    return Look(
        seed=int(rng.integers(2**31)),
        shape=_draw_shape(rng, is_soft=is_soft),
        skin=skin,
        hair=_jitter(hair, rng, 6),
        iris=iris,
        lips=_lip_colour(skin, is_soft=is_soft),
        clothes=_deal(CLOTHES, index, cast),
        background=_jitter(_deal(BACKGROUNDS, index, cast), rng, 10),
        hair_style=hair_style,
        hair_volume=float(rng.uniform(0.08, 0.14)),
        part_side=float(rng.choice([-1, 1]) * rng.uniform(0.5, 1)),
        brow_thickness=float(rng.uniform(0.018, 0.024) if is_soft else rng.uniform(0.026, 0.036)),
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


def _jitter(colour: Colour, rng: np.random.Generator, amount: float) -> Colour:
    red, green, blue = np.clip(np.array(colour) + rng.normal(0, amount, 3), 12, 250).astype(int).tolist()
    return red, green, blue


def _lip_colour(skin: Colour, *, is_soft: bool) -> Colour:
    tint = np.array((0.90, 0.52, 0.54) if is_soft else (0.90, 0.68, 0.66))
    red, green, blue = (np.array(skin) * tint).astype(int).tolist()
    return red, green, blue


def _draw_shape(rng: np.random.Generator, *, is_soft: bool) -> HeadShape:
    """Proportions around the mean; a soft face has a narrower jaw, larger eyes and fuller lips."""
    chin_y = float(rng.uniform(1.04, 1.14) if is_soft else rng.uniform(1.10, 1.24))
    nose_length = float(rng.uniform(0.36, 0.42) if is_soft else rng.uniform(0.40, 0.48))
    mouth_y = nose_length + float(rng.uniform(0.45, 0.50)) * (chin_y - nose_length)
    eye_height = 0.088 if is_soft else 0.076
    return HeadShape(
        half_width=float(rng.uniform(0.68, 0.80)),
        crown_y=float(rng.uniform(-1.16, -1.04)),
        chin_y=chin_y,
        jaw_power=float(rng.uniform(1.8, 2.05) if is_soft else rng.uniform(2.1, 2.7)),
        cheek=float(rng.uniform(0.02, 0.08)),
        nose_length=nose_length,
        nose_height=float(rng.uniform(0.2, 0.26) if is_soft else rng.uniform(0.24, 0.32)),
        nose_half_width=float(rng.uniform(0.115, 0.14) if is_soft else rng.uniform(0.13, 0.175)),
        eye_x=float(rng.uniform(0.29, 0.345)),
        eye_half_width=float(rng.uniform(0.13, 0.155)),
        eye_half_height=float(eye_height * rng.uniform(0.85, 1.15)),
        eye_tilt=float(rng.uniform(-0.02, 0.05)),
        brow_y=float(rng.uniform(-0.25, -0.19)),
        brow_arch=float(rng.uniform(0.02, 0.06)),
        mouth_y=mouth_y,
        mouth_half_width=float(rng.uniform(0.23, 0.29)),
        upper_lip=float(rng.uniform(0.06, 0.085) if is_soft else rng.uniform(0.04, 0.065)),
        lower_lip=float(rng.uniform(0.085, 0.11) if is_soft else rng.uniform(0.06, 0.09)),
    )
