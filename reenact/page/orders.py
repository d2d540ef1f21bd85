"""What the page asks for, read from JSON: nothing in it is believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from data_partition.sources.video import is_clip
from model.errors import ConfigError
from reenact.guidance_choice import MotionKind
from reenact.live import LiveRequest
from reenact.movement import Strengths
from reenact.page.consent import Declaration
from reenact.page.sessions import Session
from reenact.request import ReenactRequest

_MAX_SOURCES = 16
_MAX_FACE = 99


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """A picture or film to draw, or to look at before."""

    request: ReenactRequest
    declaration: Declaration
    only_look: bool
    """Whether nothing is drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveOrder:
    """A person to draw by a camera's pictures."""

    request: LiveRequest
    declaration: Declaration


def order_of(body: Mapping[str, Any], session: Session, checkpoint: Path) -> Order:
    """Of the page's form.

    Args:
        body: has `sources` and `driving` (numbers of uploads) and `consent`, and may have `face`, `driving_face`,
            `motion`, `strengths`, `paste` and `only_look`.
        session: has the uploads, and gets the result.
        checkpoint: what draws.

    Raises:
        ConfigError: for what is missing or makes no sense, saying what to do.
    """
    live = _live_request(body, session)
    if not body.get("driving"):
        raise ConfigError("movement: choose a picture or a clip of somebody who moves")
    driving = session.file(body["driving"])
    request = ReenactRequest(
        checkpoint=checkpoint,
        sources=live.sources,
        face=live.face,
        driving=driving,
        driving_face=_face(body.get("driving_face", 0)),
        out=_out(session, live.sources[0], driving),
        motion=live.motion,
        strengths=live.strengths,
        is_pasted=body.get("paste") is True,
    )
    declaration = Declaration.of(body.get("consent"))
    return Order(request=request, declaration=declaration, only_look=body.get("only_look") is True)


def live_order_of(body: Mapping[str, Any], session: Session) -> LiveOrder:
    """The same for a camera, which needs no `driving`; errors as of `order_of`."""
    return LiveOrder(request=_live_request(body, session), declaration=Declaration.of(body.get("consent")))


def _live_request(body: Mapping[str, Any], session: Session) -> LiveRequest:
    numbers = body.get("sources")
    if not isinstance(numbers, list) or not 1 <= len(numbers) <= _MAX_SOURCES:
        raise ConfigError(f"who: choose 1 to {_MAX_SOURCES} pictures or clips of one person")
    return LiveRequest(
        sources=tuple(map(session.file, numbers)),
        face=_face(body.get("face", 0)),
        motion=_motion(body.get("motion", "auto")),
        strengths=_strengths(body.get("strengths", {})),
    )


def _out(session: Session, source: Path, driving: Path) -> Path:
    suffix = ".mp4" if is_clip(driving) else ".png"
    return session.folder / "result" / f"{source.stem}-by-{driving.stem}{suffix}"


def _face(number: object) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= _MAX_FACE:
        raise ConfigError(f"face: got {number!r}, wanted a number from 0 to {_MAX_FACE}")
    return number


def _motion(name: object) -> MotionKind:
    if name not in list(MotionKind):
        raise ConfigError(f"motion: got {name!r}, wanted {', '.join(MotionKind)}")
    return MotionKind(str(name))


def _strengths(numbers: object) -> Strengths:
    regions = {one.name for one in fields(Strengths)}
    if not isinstance(numbers, dict) or not numbers.keys() <= regions:
        raise ConfigError(f"strengths: wanted numbers for {', '.join(sorted(regions))}")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers.values()):
        raise ConfigError("strengths: wanted numbers")
    return Strengths(**{region: float(value) for region, value in numbers.items()})
