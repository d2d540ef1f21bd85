"""What somebody says before a face is looked at or drawn, and what that allows by the records of consent.

Whether a record holds and is about the face that is shown is for `reenact/consent.py`, in the job itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from data_partition.consent.kinds import WithoutConsent
from data_partition.consent.record import CONSENT_NAME
from model.errors import ConfigError
from model.files import write_text

logger = logging.getLogger(__name__)
_MAX_LENGTH, _MAX_RECORD_LENGTH = 200, 32_000


class Basis(StrEnum):
    """What allows a face to be drawn."""

    RECORD = "record"
    """A record of consent that comes with the order."""
    KNOWN = "known"
    """The record of whoever of the server's dataset is shown."""
    SYNTHETIC = "synthetic"
    """As `WithoutConsent` has it, as is the next."""
    PUBLIC = "public"


@dataclass(frozen=True, kw_only=True, slots=True)
class Declaration:
    """Somebody's word that the people who are shown agreed to it, and where that stands."""

    name: str
    """Of who draws."""
    purpose: str
    basis: Basis
    record: str
    """Text of a record of consent, TOML; "" unless the basis is one."""

    @classmethod
    def of(cls, said: object) -> Declaration:
        """Of what the page sent.

        Raises:
            ConfigError: if the box is not ticked, or something lacks or is too long.
        """
        fields = said if isinstance(said, Mapping) else {}
        if fields.get("agreed") is not True:
            raise ConfigError("tick the box: everybody who is shown has to have agreed to it")
        texts = {key: " ".join(str(fields.get(key) or "").split()) for key in ("name", "purpose")}
        for key, text in texts.items():
            if not 1 <= len(text) <= _MAX_LENGTH or not text.isprintable():
                raise ConfigError(f"{key}: wanted 1 to {_MAX_LENGTH} characters; say who draws, and what for")
        if fields.get("basis") not in list(Basis):
            raise ConfigError(f"consent: say what allows it: {', '.join(Basis)}")
        basis = Basis(fields["basis"])
        return cls(**texts, basis=basis, record=_record_text(fields) if basis is Basis.RECORD else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowance:
    """What a request says of consent; fields as of `ReenactRequest`."""

    consent: Path | None = None
    without_consent: WithoutConsent | None = None

    def as_arguments(self) -> dict[str, Any]:
        """For `dataclasses.replace` of a request."""
        return asdict(self)


def allow(
    declaration: Declaration, inputs: tuple[Path, ...], what: str, *, folder: Path, known: Path | None
) -> Allowance:
    """Write down who answers for a drawing, and say by what it is allowed if that holds.

    Args:
        declaration: what was said.
        inputs: sources, and what drives.
        what: is asked for.
        folder: of the session, for its record.
        known: dataset whose people may be drawn; None if the server has none.

    Raises:
        ConfigError: if nobody is known here.
        OSError: if the record cannot be written.
    """
    files = ", ".join(repr(path.name) for path in inputs)
    said = (what, files, declaration.name, declaration.purpose, declaration.basis)
    logger.info("%s of %s: %r says that all agreed, for %r; consent: %s", *said)
    if declaration.basis is Basis.RECORD:
        record = folder / "consent" / CONSENT_NAME
        write_text(record, declaration.record)
        return Allowance(consent=record)
    if declaration.basis is Basis.KNOWN:
        if known is None:
            raise ConfigError("no records of people are known here; `fedreenact serve --consent DATASET` names them")
        return Allowance(consent=known)
    return Allowance(without_consent=WithoutConsent(declaration.basis))


def _record_text(fields: Mapping[str, Any]) -> str:
    text = fields.get("record")
    if not isinstance(text, str) or not 1 <= len(text) <= _MAX_RECORD_LENGTH:
        raise ConfigError(f"consent: choose the person's record, a file {CONSENT_NAME}")
    return text
