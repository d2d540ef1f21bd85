"""Releases of a run: where they were written, and who is meant by the names in them.

A released model calls people identity-0, identity-1, ... Who they are stands in `releases.json` in the run folder, and
nowhere else, so that a person who withdraws is found in what was released.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.checkpoint import known_people, recorded_weights, round_folders_below
from model.errors import CheckpointError
from model.files import read_json, write_json

RELEASES_NAME = "releases.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """One release of a run."""

    folder: Path
    """Where it was written, absolute."""
    released: str
    """Day, as 2026-11-29."""
    weights_sha256: str
    """Of its weights' file, hexadecimal: by it a copy is known."""
    people: Mapping[str, str]
    """Name in the release to that in the run."""

    def name_of(self, person: str) -> str | None:
        """What the release calls a person of the run; None for somebody else."""
        return next((name for name, known in self.people.items() if known == person), None)

    def copies_below(self, folder: Path) -> list[Path]:
        """Absolute folders that have its weights and its names: where it was written, and any in a folder or deeper."""
        places = dict.fromkeys((self.folder, *(place.resolve() for place in round_folders_below(folder))))
        return [place for place in places if _is_copy(place, self)]


def note_release(run: Path, release: Release) -> None:
    """Write down one more release in a run folder, for its user alone.

    Raises:
        CheckpointError: if the list that is there cannot be read.
        OSError: if it cannot be written.
    """
    path = run / RELEASES_NAME
    noted = [*(read_releases(path) if path.is_file() else ()), release]
    write_json(path, [_to_json(one) for one in noted], indent=2, is_private=True)


def read_releases(path: Path) -> list[Release]:
    """The releases that a run's `releases.json` lists, oldest first.

    Raises:
        CheckpointError: if it cannot be read.
    """
    try:
        return [_from_json(one) for one in read_json(path)]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path}: damaged, so who is in which release is not known; restore it") from error


def _to_json(release: Release) -> dict[str, Any]:
    return {
        "folder": str(release.folder),
        "released": release.released,
        "weights_sha256": release.weights_sha256,
        "people": dict(release.people),
    }


def _from_json(values: Mapping[str, Any]) -> Release:
    return Release(
        folder=Path(values["folder"]),
        released=str(values["released"]),
        weights_sha256=str(values["weights_sha256"]),
        people={str(name): str(person) for name, person in values["people"].items()},
    )


def _is_copy(folder: Path, release: Release) -> bool:
    """Of a run without discriminators and averages a round has the same weights, and names of its own."""
    try:
        return recorded_weights(folder) == release.weights_sha256 and known_people(folder) == list(release.people)
    except CheckpointError:
        return False
