"""An audit as files: audit.json with its charts as PNG beside it, audit.md, and audit.html, which needs neither."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.audit.section import Section
from experiments.templating import render
from model.errors import DataError
from model.files import read_json, write_bytes, write_json, write_text

AUDIT_NAME = "audit.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """What an audit found."""

    name: str
    """Of the run."""
    head: tuple[str, ...]
    """Paragraphs: what was audited, and what holds for all of it."""
    sections: tuple[Section, ...]
    charts: Mapping[str, bytes]
    """What it shows to PNG."""
    weights_sha256: str
    """Of all that the run draws with; "" in audits of before it was written down."""

    def to_plain(self) -> dict[str, Any]:
        """Ready for JSON, the charts as the names of their files."""
        return {
            "name": self.name,
            "weights_sha256": self.weights_sha256,
            "head": list(self.head),
            "sections": [section.to_plain() for section in self.sections],
            "charts": {title: _chart_name(number) for number, title in enumerate(self.charts, 1)},
        }

    def to_markdown(self) -> str:
        """Everything but the charts."""
        head = [f"# Audit of {self.name}", *self.head]
        return "\n\n".join([*head, *(section.to_markdown().rstrip() for section in self.sections)]) + "\n"


def write_audit(out: Path, audit: Audit) -> dict[str, Path]:
    """Write all files into a folder, replacing those of an earlier audit; returns what is in it to file."""
    for number, chart in enumerate(audit.charts.values(), 1):
        write_bytes(out / _chart_name(number), chart)
    files = {"Page": out / "audit.html", "Tables": out / "audit.md", "Figures": out / AUDIT_NAME}
    write_text(files["Page"], render("audit.html.j2", audit=audit))
    write_text(files["Tables"], audit.to_markdown())
    write_json(files["Figures"], audit.to_plain(), indent=2)
    return files


def read_audit(folder: Path) -> Audit | None:
    """The audit in a folder, or None where there is none.

    Raises:
        DataError: if it is there and cannot be read.
    """
    path = folder / AUDIT_NAME
    if not path.is_file():
        return None
    try:
        plain = read_json(path)
        return Audit(
            name=plain["name"],
            weights_sha256=plain.get("weights_sha256", ""),
            head=tuple(plain["head"]),
            sections=tuple(Section.from_plain(section) for section in plain["sections"]),
            charts={
                title: (folder / _chart_name(number)).read_bytes() for number, title in enumerate(plain["charts"], 1)
            },
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: cannot be read ({reason}); run `fedreenact audit` again, or remove it") from error


def _chart_name(number: int) -> str:
    return f"audit-{number}.png"
