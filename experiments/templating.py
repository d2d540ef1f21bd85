"""Pages from templates: HTML that needs nothing beside it, and Markdown."""

from __future__ import annotations

from data_partition.pages import data_uri, templates_of


def render(template: str, **values: object) -> str:
    """A template of this package, everything in it escaped, but for Markdown (`.md.j2`)."""
    environment = templates_of("experiments")
    environment.filters |= {
        "png": lambda content: data_uri(content, "image/png"),
        "mp4": lambda clip: data_uri(clip.read_bytes(), "video/mp4"),
        "duration": _duration,
    }
    return environment.get_template(template).render(**values)


def _duration(seconds: float) -> str:
    """90 as "1 min 30 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
