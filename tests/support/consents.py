"""Records of consent for tests, and their files."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from data_partition.consent.kinds import Role
from data_partition.consent.record import ConsentRecord

TODAY = date.today()
DAY = timedelta(days=1)


def consent_of(person: str, **changes: Any) -> ConsentRecord:
    """A record that holds for everything for a year, but for the changes."""
    record = ConsentRecord(
        id="2026-014",
        person=person,
        roles=tuple(Role),
        purpose="a talking portrait for a museum",
        given=TODAY - 10 * DAY,
        expires=TODAY + 365 * DAY,
        evidence="binder 3",
    )
    return replace(record, **changes)


def write_consent(path: Path, record: ConsentRecord) -> Path:
    """The record as a person would write it."""
    dates = ("given", "expires", "revoked")
    lines = [f"{k} = {v if k in dates else json.dumps(v)}" for k, v in record.to_json().items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


NO_CONSENT = {
    "revoked": {"revoked": TODAY},
    "expired": {"expires": TODAY - DAY},
    "holds from": {"given": TODAY + DAY},
}
"""Words of a refusal to what a record says."""
