"""Names of people, which are names of folders too."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

UNFINISHED_SUFFIXES = (".partial", ".parts")
"""Folders of an unfinished preparation, never read as shards."""
MAX_NAME_BYTES = 255 - max(map(len, UNFINISHED_SUFFIXES))
"""In UTF-8: what file systems hold, with room for the ending of an unfinished folder."""
_TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def check_identity(identity: str) -> None:
    """Refuse what is no name of a folder; any other text is a person's name.

    Raises:
        ValueError: for an empty name, one with a separator or a control character, one that turns the direction of
            the text around it or has spaces at its ends, one that no file system can hold, the two names that mean
            another folder, and the endings of unfinished shards.
    """
    is_other_folder = identity in ("", ".", "..") or "/" in identity or "\\" in identity
    if is_other_folder or any(unicodedata.category(character) in ("Cc", "Cs") for character in identity):
        raise ValueError(f"identity {identity!r}: not a valid folder name")
    if identity != identity.strip() or any(unicodedata.bidirectional(c) in _TURNING for c in identity):
        raise ValueError(f"identity {identity!a}: begins or ends with a space, or turns the text around it")
    if identity.endswith(UNFINISHED_SUFFIXES):
        raise ValueError(f"identity {identity!r}: ends as folders of an unfinished preparation do")
    if len(identity.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"identity {identity!r}: longer than {MAX_NAME_BYTES} bytes")


def check_distinct(identities: Iterable[str]) -> None:
    """Refuse names that look the same: composed and decomposed accents, wide letters, invisible characters.

    Raises:
        ValueError: naming both, with the characters that differ.
    """
    seen: dict[str, str] = {}
    for identity in identities:
        first = seen.setdefault(_look(identity), identity)
        if first != identity:
            raise ValueError(f"{first!a} and {identity!a} are two names that cannot be told apart")


def _look(identity: str) -> str:
    visible = (c for c in unicodedata.normalize("NFKC", identity) if unicodedata.category(c) != "Cf")
    return " ".join("".join(visible).split())
