"""Pages from templates: HTML that needs nothing beside it."""

from __future__ import annotations

import base64

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: object) -> str:
    """A template of this package, everything in it escaped."""
    environment = Environment(
        loader=PackageLoader("experiments"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "png": lambda content: data_uri(content, "image/png"),
        "mp4": lambda clip: data_uri(clip.read_bytes(), "video/mp4"),
        "duration": _duration,
    }
    return environment.get_template(template).render(**values)


def data_uri(content: bytes, media_type: str) -> str:
    """The content as a data URI, so that a page can be sent on as one file."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def _duration(seconds: float) -> str:
    """90 as "1 min 30 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
