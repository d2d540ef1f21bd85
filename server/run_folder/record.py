"""What a run is besides its settings: name, version of the program, data; a resume is compared with it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_partition.shards.content import ShardContent
from model.errors import CheckpointError, ConfigError, listed
from model.files import json_sha256, read_json, write_json
from model.version import own_version

_log = logging.getLogger(__name__)

RECORD_NAME = "run.json"
_MAX_SHOWN = 10
"""People that one line of a difference names."""

People = Mapping[str, ShardContent]
"""Everybody in a dataset, in its order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """The content of run.json."""

    run_id: str
    """Survives a resume, so that clients recognise their optimiser moments."""
    version: str = ""
    """Of the program that trained it last; empty in runs of versions that did not say it."""
    people: People = field(default_factory=dict)
    """In the dataset; nobody where the server saw none, as that of real sites."""
    site_frames: Mapping[int, int] = field(default_factory=dict)
    """Partition of each real site to its training frames, as it said them to a server that may know them."""

    @classmethod
    def read(cls, run: Path) -> RunRecord:
        """The record in a run folder.

        Raises:
            CheckpointError: if there is none, or a damaged one.
        """
        path = run / RECORD_NAME
        try:
            values = read_json(path)
            recorded = values.pop("sha256", None)  # absent in records of before there was one
            if recorded not in (None, json_sha256(values)):
                raise ValueError("its SHA-256 is not the recorded one")
            return cls(
                run_id=str(values["run-id"]),
                version=str(values.get("version", "")),
                people={name: ShardContent(**content) for name, content in values.get("people", {}).items()},
                site_frames={int(site): int(number) for site, number in values.get("site-frames", {}).items()},
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}); restore it or train in another folder") from error

    def write(self, run: Path) -> None:
        """Write the file, completely or not at all."""
        people = {name: dataclasses.asdict(content) for name, content in self.people.items()}
        sites = {str(site): number for site, number in self.site_frames.items()}
        told = {"run-id": self.run_id, "version": self.version, "people": people, "site-frames": sites}
        write_json(run / RECORD_NAME, told | {"sha256": json_sha256(told)})

    def require_same(self, run: Path, people: People | None) -> None:
        """That a run goes on with the data that it began with, by a version that trains as the one before.

        Other frames, other people and another series of versions are refused. Other annotations of the same frames and
        another version of the series are said in the log, and so is a run that recorded neither.

        Args:
            run: folder of the run, for the messages.
            people: in the dataset now; None where the server does not see it.

        Raises:
            ConfigError: with the differences.
        """
        now = own_version()
        if not self.version:
            _log.warning("%s: begun before runs recorded their data and version; neither is compared", run)
            return
        changed = _version_changes(self.version, now)
        if people is not None and self.people:
            changed += _people_changes(self.people, people)
            _say_other_annotations(run, self.people, people)
        if changed:
            raise ConfigError(
                f"{run}: cannot resume: {'; '.join(changed)}; go on with what the run began with, or use another "
                "output-dir (--out)"
            )
        if self.version != now:
            _log.warning("%s: trained by fedreenact %s so far, now by %s", run, self.version, now)

    def say_other_sites(self, run: Path, site_frames: Mapping[int, int]) -> None:
        """Log which real sites have more or fewer training frames than they had."""
        for site, number in site_frames.items():
            before = self.site_frames.get(site, number)
            if before != number:
                _log.warning("%s: site %d has %d training frames, had %d before", run, site, number, before)


def _version_changes(before: str, now: str) -> list[str]:
    """Of versions that differ in more than their last number; those of a series train alike."""
    if before.split(".")[:2] == now.split(".")[:2]:
        return []
    return [f"trained by fedreenact {before}, now {now}"]


def _people_changes(before: People, now: People) -> list[str]:
    both = {name: before[name].changes(now[name]) for name in before if name in now}
    return [
        *_listed("gone", [name for name in before if name not in now]),
        *_listed("new", [name for name in now if name not in before]),
        *_listed("other frames", [f"{name} ({changes})" for name, changes in both.items() if changes]),
    ]


def _say_other_annotations(run: Path, before: People, now: People) -> None:
    changed = [name for name in before if name in now and before[name].is_annotated_anew(now[name])]
    for line in _listed("the same frames as before with other annotations", changed):
        _log.warning("%s: %s", run, line)


def _listed(what: str, names: Sequence[str]) -> list[str]:
    return [f"{what}: {listed(names, _MAX_SHOWN)}"] if names else []
