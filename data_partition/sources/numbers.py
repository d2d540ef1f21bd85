"""Numbers in text files, read strictly."""

from __future__ import annotations


def parse_number(text: str) -> float:
    """A decimal number; "nan" and "inf" are numbers too.

    Raises:
        ValueError: for anything else, Python's own "1_000" and digits of other scripts included.
    """
    if "_" in text or not text.isascii():
        raise ValueError(f"could not convert string to float: {text!r}")
    return float(text)
