"""Pages from templates: HTML that needs nothing beside it, and Markdown."""

from __future__ import annotations

import base64

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


def templates_of(package: str) -> Environment:
    """The templates of a package; a name that they are not given is an error.

    What they are given is escaped, but for Markdown (`.md.j2`).
    """
    return Environment(
        loader=PackageLoader(package),
        autoescape=select_autoescape(disabled_extensions=("md.j2",), default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def data_uri(content: bytes, media_type: str) -> str:
    """The content as a data URI, so that a page can be sent on as one file."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
