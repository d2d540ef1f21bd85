"""A person's record of consent: `consent.toml` beside the videos, and the same as JSON in a shard.

The program checks roles and dates. What the words mean, and whether they are true, is for those who keep the record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

from data_partition.consent.kinds import Role
from model.errors import DataError, did_you_mean
from model.files import json_sha256, read_toml

CONSENT_NAME = "consent.toml"
"""In a person's folder; of a person who is one file, `anna.mp4`, it is `anna.consent.toml` beside it."""

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsentRecord:
    """What a person agreed to; without a default is what every record has to say.

    Raises:
        ValueError: if the fields contradict each other or one says nothing.
    """

    id: str
    """Name of the record where it is kept."""
    person: str
    """Pseudonym, which is the name of the person's folder and shard."""
    roles: tuple[Role, ...]
    """What the person may be used for, one at least."""
    purpose: str
    """What for."""
    given: date
    """First day on which it holds."""
    expires: date
    """Last day on which it holds."""
    evidence: str
    """Where the signed text or the recording is kept."""
    version: int = 1
    """Of the record: one more for every change."""
    resolved_by: str = ""
    """Who knows whom the pseudonym means."""
    audience: str = ""
    """Who may see results."""
    forbidden: str = ""
    """What the person ruled out."""
    revoked: date | None = None
    """Day on which the person withdrew; nothing is allowed any more."""
    obtained: str = ""
    """How: on paper, in a recording, by whom."""
    text_sha256: str = ""
    """SHA-256 of the text agreed to, hexadecimal."""
    guardian: str = ""
    """Who agreed in the place of a minor; "" for an adult."""
    controller: str = ""
    """Who answers for the data."""
    contact: str = ""
    """Of the controller."""
    withdrawal: str = ""
    """How the person withdraws."""
    source_sha256: tuple[str, ...] = ()
    """SHA-256 of pictures and clips that may be the source of a result, hexadecimal."""
    synthetic: bool = False
    """Whether nobody is shown: the person is drawn."""

    def __post_init__(self) -> None:
        """Check what one field alone does not tell."""
        if not self.roles or len(set(self.roles)) < len(self.roles):
            raise ValueError(f"roles is {list(map(str, self.roles))}, wanted some of {', '.join(Role)}, each once")
        if self.expires < self.given:
            raise ValueError(f"expires {self.expires} lies before given {self.given}")
        for digest in filter(None, (self.text_sha256, *self.source_sha256)):
            if not _SHA256.fullmatch(digest):
                raise ValueError(f"got {digest!r}, wanted a SHA-256: 64 digits 0-9 a-f, as sha256sum prints it")

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> ConsentRecord:
        """The record of a TOML file's values.

        Raises:
            ValueError: for an unknown or missing key, or a value of another kind; it says what is wanted.
        """
        known = {one.name: one for one in fields(cls)}
        for key in values:
            if key not in known:
                raise ValueError(f"unknown key {key!r}{did_you_mean(key, known)}")
        needed = [one.name for one in known.values() if one.default is MISSING]
        missing = [name for name in needed if values.get(name, "") in ("", [])]
        if missing:
            raise ValueError(f"does not say {', '.join(missing)}; fill in")
        return cls(**{key: _of_kind(key, value, str(known[key].type)) for key, value in values.items()})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ConsentRecord:
        """The record that `to_json` wrote down; raises as `from_values`."""
        dates = {one.name for one in fields(cls) if str(one.type).startswith("date")}
        return cls.from_values({k: date.fromisoformat(v) if k in dates else v for k, v in values.items()})

    def to_json(self) -> dict[str, Any]:
        """All that is not as by default, dates as "2026-11-29"."""
        said = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) != one.default}
        return {key: _plain(value) for key, value in said.items()}

    @property
    def sha256(self) -> str:
        """Of all that the record says, hexadecimal; spaces, comments and order in the file do not count."""
        return json_sha256(self.to_json())

    def refusal(self, role: Role, today: date) -> str:
        """Why the person may not be used so today, in words; "" if nothing is against it."""
        if self.revoked is not None:
            return f"consent {self.id} was revoked on {self.revoked}"
        if today < self.given:
            return f"consent {self.id} holds from {self.given} on"
        if today > self.expires:
            return f"consent {self.id} expired on {self.expires}"
        if role not in self.roles:
            return f"consent {self.id} is for {' and '.join(self.roles)}, not for {role}"
        return ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsentUse:
    """A record by which a person is in a result."""

    role: Role
    record: ConsentRecord


def synthetic_record(person: str) -> ConsentRecord:
    """Of a drawn person, for everything and for good."""
    return ConsentRecord(
        id="synthetic",
        person=person,
        roles=tuple(Role),
        purpose="any: nobody is shown",
        given=date(1970, 1, 1),
        expires=date.max,
        evidence="drawn by fedreenact synth",
        synthetic=True,
    )


def read_consent(path: Path) -> ConsentRecord:
    """The record in a TOML file.

    Raises:
        DataError: if it cannot be read, or is no record: what is wrong, in one line.
    """
    try:
        return ConsentRecord.from_values(read_toml(path))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: {reason}; docs/consent.md has all keys") from error


def consent_file(entry: Path) -> Path:
    """Where the record of a person is or would be, whose folder or only file is given, that also without its ending."""
    if entry.is_dir():
        return entry / CONSENT_NAME
    return entry.with_name(f"{entry.stem if entry.is_file() else entry.name}.{CONSENT_NAME}")


def is_consent_file(path: Path) -> bool:
    """Whether a file is named as a record of consent."""
    return path.name == CONSENT_NAME or path.name.endswith(f".{CONSENT_NAME}")


_DATE = "a date without quotes, as 2026-11-29"
_ROLES = "tuple[Role, ...]"
_KINDS: dict[str, tuple[type, str]] = {
    "str": (str, "text"),
    "int": (int, "a whole number"),
    "bool": (bool, "true or false"),
    "date": (date, _DATE),
    "date | None": (date, _DATE),
    "tuple[str, ...]": (list, "a list of texts"),
    _ROLES: (list, "a list of " + ", ".join(Role)),
}
"""Type of a field to that of its TOML value and what it is called."""


def _of_kind(key: str, value: Any, kind: str) -> Any:
    wanted, words = _KINDS[kind]
    is_fit = type(value) is wanted  # true is no number, and a time is no date
    if isinstance(value, list):
        is_fit = is_fit and all(isinstance(one, str) and (kind != _ROLES or one in list(Role)) for one in value)
    if not is_fit:
        raise ValueError(f"{key} is {value!r}, wanted {words}")
    if kind == _ROLES:
        return tuple(map(Role, value))
    return tuple(value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    return list(map(str, value)) if isinstance(value, tuple) else value
