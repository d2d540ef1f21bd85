"""Which version of the program this is."""

from __future__ import annotations

from importlib.metadata import version


def own_version() -> str:
    """The version of this program."""
    return version("fedreenact")
