"""What is marked and how, what a label says, and by which exception there is none.

The command line reads it, so it imports nothing.
"""

from __future__ import annotations

from enum import StrEnum


class Label(StrEnum):
    """What it says (Code of Practice on marking and labelling of AI-generated content, 2026)."""

    GENERATED = "AI GENERATED"
    """A model drew the whole picture."""
    MODIFIED = "AI MODIFIED"
    """A model drew a part of a picture that was taken."""


class Kind(StrEnum):
    """What a file with drawn faces is for."""

    RESULT = "result"
    """To be shown: label, watermark and manifest."""
    SHEET = "sheet"
    """Many small pictures in one: the label is smaller, the rest as on a result."""
    TO_MEASURE = "to-measure"
    """For another program to measure: the pixels are as they were drawn, and the manifest says the rest."""


class LabelException(StrEnum):
    """The law's exceptions from a visible label (Regulation (EU) 2024/1689)."""

    ARTISTIC = "artistic"
    """Article 50(4): evidently artistic, creative, satirical or fictional; it is disclosed in another way."""
    LAW_ENFORCEMENT = "law-enforcement"
    """Article 50(4): authorised by law to detect, prevent, investigate or prosecute criminal offences."""
    RESEARCH = "research"
    """Article 2(6): for scientific research and development alone."""
