"""Which landmarks guide the result: the driving ones, LSt or LGAN (thesis 3.2 and 3.3), or base, beyond the thesis.

Base moves the source's own landmarks by what the landmark GAN's base says of a movement. Another choice is what a
movement is measured from, `MotionKind`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from model.errors import ConfigError

if TYPE_CHECKING:  # the command line names the guidances, and should not wait for PyTorch
    from model.designs.design import Design


class Guidance(StrEnum):
    """How target landmarks are made."""

    AUTO = "auto"
    DRIVING = "driving"
    LST = "lst"
    LGAN = "lgan"
    BASE = "base"


class MotionKind(StrEnum):
    """What a driving movement is measured from."""

    AUTO = "auto"
    """Relative where a clip drives landmarks, absolute otherwise."""
    RELATIVE = "relative"
    """From a reference frame of the driving clip: the source person moves as the driving one does from there."""
    ABSOLUTE = "absolute"
    """From the frontal face at rest: the source person is held as the driving one is."""


def choose_guidance(
    requested: Guidance,
    design: Design,
    *,
    trained: str,
    source_index: int | None,
    same_person: bool,
    has_base: bool = False,
) -> Guidance:
    """The guidance to use: what was asked for, or else by the thesis' rule.

    One person: driving landmarks as they are. Two people: the checkpoint's own setting, LGAN by default, but
    base or else LSt in place of LGAN when the source is unknown, since LGAN knows the federation's identities alone, or
    when the design has no LGAN. A design that is guided by no landmarks gets the driving ones, and does not look at
    them.

    Args:
        requested: AUTO leaves the choice to the rule.
        design: of the checkpoint.
        trained: the checkpoint's setting `landmarks`: driving, lst, lgan or base.
        source_index: row of the source identity in the checkpoint, None for an unknown person.
        same_person: whether source and driving are known to show one person.
        has_base: whether the landmark GAN was trained on a base.

    Raises:
        ConfigError: if LGAN is asked for and the source identity is unknown, base where there is none, or landmarks
            that the design cannot be guided by.
    """
    if requested not in (Guidance.AUTO, Guidance.DRIVING, *design.guidances):
        known = (
            f"can be guided by {' or '.join(design.guidances)}" if design.guidances else "is driven by the frame itself"
        )
        raise ConfigError(f"--landmarks {requested}: {design.name} {known}; use auto")
    if requested is Guidance.LGAN and source_index is None:
        raise ConfigError(
            "--landmarks lgan needs a source identity the checkpoint knows; name it with --identity or use "
            "--landmarks lst"
        )
    if requested is Guidance.BASE and not has_base:
        raise ConfigError(
            f"--landmarks {requested} needs a checkpoint that was trained with lgan-base = closed; use lst or auto"
        )
    if requested is not Guidance.AUTO:
        return requested
    if same_person or not design.guidances:
        return Guidance.DRIVING
    guidance = Guidance(trained)
    has_lgan = Guidance.LGAN in design.guidances and source_index is not None
    if guidance is not Guidance.LGAN or has_lgan:
        return guidance
    return Guidance.BASE if has_base else Guidance.LST


def is_relative(requested: MotionKind, design: Design, *, has_clip: bool) -> bool:
    """Whether the driving movement is measured from a reference frame of the driving clip.

    Args:
        requested: AUTO is relative wherever it can be.
        design: of the checkpoint.
        has_clip: whether a clip drives, and not a picture.

    Raises:
        ConfigError: if relative motion is asked for and a picture drives, or neither landmarks nor a reference
            frame guide the design.
    """
    if requested is MotionKind.RELATIVE and not has_clip:
        raise ConfigError("--motion relative needs a driving clip: one picture shows no movement; use absolute")
    can_be = bool(design.guidances) or design.takes_reference
    if requested is MotionKind.RELATIVE and not can_be:
        raise ConfigError(f"--motion relative: {design.name} is driven by the frame itself; use absolute")
    return has_clip and can_be and requested is not MotionKind.ABSOLUTE
