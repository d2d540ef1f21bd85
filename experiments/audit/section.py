"""A part of an audit: what was tried, what came of it beside chance, and what could not be measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from evaluation.figures.bootstrap import Estimate
from evaluation.figures.tables import TextTable


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One measured figure with its 95 % interval, and what knowing nothing gives."""

    value: float
    low: float
    high: float
    chance: float

    @classmethod
    def of(cls, estimate: Estimate, chance: float) -> Figure:
        """An estimate beside chance."""
        return cls(value=estimate.value, low=estimate.low, high=estimate.high, chance=chance)

    def to_text(self, num_decimals: int, scale: float = 1.0) -> str:
        """0.61 [0.55, 0.66], or - where it could not be measured."""
        if math.isnan(self.value):
            return "-"
        value, low, high = (f"{scale * number:.{num_decimals}f}" for number in (self.value, self.low, self.high))
        return value if low == high or math.isnan(self.low) else f"{value} [{low}, {high}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One question of the audit."""

    title: str
    text: tuple[str, ...]
    """Paragraphs: who attacks, with what, and how to read the figures."""
    tables: tuple[TextTable, ...] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)
    """What was measured, to its figure; those that are shares are drawn as well."""
    not_measured: tuple[str, ...] = ()
    """What could not be measured, with the reason."""

    def to_plain(self) -> dict[str, Any]:
        """Ready for JSON; a figure that could not be measured is null."""
        plain = asdict(self)
        plain["figures"] = {
            name: {key: None if math.isnan(number) else number for key, number in asdict(figure).items()}
            for name, figure in self.figures.items()
        }
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Section:
        """The inverse of `to_plain`."""
        tables = [
            TextTable(title=table["title"], header=tuple(table["header"]), rows=tuple(map(tuple, table["rows"])))
            for table in plain["tables"]
        ]
        figures = {
            name: Figure(**{key: math.nan if number is None else number for key, number in figure.items()})
            for name, figure in plain["figures"].items()
        }
        return cls(
            title=plain["title"],
            text=tuple(plain["text"]),
            tables=tuple(tables),
            figures=figures,
            not_measured=tuple(plain["not_measured"]),
        )

    def to_markdown(self) -> str:
        """Heading, paragraphs, tables."""
        reasons = [f"Not measurable: {reason}" for reason in self.not_measured]
        tables = [table.to_markdown().replace("## ", "### ", 1).rstrip() for table in self.tables]
        return "\n\n".join([f"## {self.title}", *self.text, *tables, *reasons]) + "\n"
