"""What a label says, and by which exception there is none; the command line reads it, so it imports nothing."""

from __future__ import annotations

from enum import StrEnum


class Label(StrEnum):
    """What it says (Code of Practice on marking and labelling of AI-generated content, 2026)."""

    GENERATED = "AI GENERATED"
    """A model drew the whole picture."""
    MODIFIED = "AI MODIFIED"
    """A model drew a part of a picture that was taken."""


class LabelException(StrEnum):
    """The law's exceptions from a visible label (Regulation (EU) 2024/1689)."""

    ARTISTIC = "artistic"
    """Article 50(4): evidently artistic, creative, satirical or fictional; it is disclosed in another way."""
    LAW_ENFORCEMENT = "law-enforcement"
    """Article 50(4): authorised by law to detect, prevent, investigate or prosecute criminal offences."""
    RESEARCH = "research"
    """Article 2(6): for scientific research and development alone."""
