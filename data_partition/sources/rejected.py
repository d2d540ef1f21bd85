"""What could not be used, and why: never fatal, never silent."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from model.files import csv_text, write_text

REJECTED_NAME = "rejected.csv"


class Rejected(NamedTuple):
    """A file, folder or row that is left out."""

    path: str
    """Of the file or folder; with ":LINE" for a row of a text file."""
    reason: str
    """What was found and wanted, and what to do."""

    @classmethod
    def by_error(cls, path: Path, error: Exception) -> Rejected:
        """From an error whose text may start with the path."""
        return cls(str(path), str(error).removeprefix(f"{path}: "))

    def __str__(self) -> str:
        """One line."""
        return f"{self.path}: {self.reason}"


def write_rejected(path: Path, rejected: Iterable[tuple[str, Rejected]]) -> None:
    """Write a CSV file with the columns identity, path and reason; the header alone if nothing was rejected.

    Args:
        path: replaced at once.
        rejected: identity ("" if it belongs to nobody) and what was left out.
    """
    rows = ((identity, one.path, one.reason) for identity, one in rejected)
    write_text(path, csv_text(("identity", "path", "reason"), rows))
