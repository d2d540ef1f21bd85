"""Who may be trained on: every person of a dataset needs a record of consent that holds today."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

from data_partition.consent.kinds import Role, WithoutConsent
from data_partition.consent.record import ConsentRecord
from data_partition.shards.shard import Shard, open_dataset
from model.errors import DataError, listed

NO_RECORD = "no record of consent"
WHEN_WITHDRAWN = 'docs/consent.md, "When a person withdraws", says what to do'
_HOW_TO_CONSENT = (
    "`fedreenact consent` writes a record to fill in, `prepare` takes it into the dataset; without-consent = "
    f"{' or '.join(WithoutConsent)} is for people who need none (docs/consent.md)"
)
_MAX_SHOWN = 20
"""People that one line names."""


def open_for_training(dataset: Path, without_consent: str) -> list[Shard]:
    """Every shard of a dataset whose people may all be trained on.

    Args:
        dataset: its folder, or one shard.
        without_consent: a `WithoutConsent` that is said of people without a record; "" if nothing is. A record that
            does not hold is never passed over.

    Raises:
        DataError: as `open_dataset`, and naming everybody who may not be trained on.
    """
    shards = open_dataset(dataset)
    asked = {shard.identity: shard.consent for shard in shards if shard.consent is not None or not without_consent}
    lines = refusals(asked, Role.TRAINING)
    if lines:
        gone = withdrawn(asked)
        advice = [f"{listed(gone, _MAX_SHOWN)} withdrew: {WHEN_WITHDRAWN}"] if gone else []
        if refusals({name: record for name, record in asked.items() if name not in gone}, Role.TRAINING):
            advice.append(_HOW_TO_CONSENT)
        raise DataError(f"{dataset}: not trained: {'; '.join(lines)}. {'. '.join(advice)}")
    return shards


def withdrawn(people: Mapping[str, ConsentRecord | None]) -> list[str]:
    """Who withdrew, of people by name."""
    return [name for name, record in people.items() if record is not None and record.revoked is not None]


def refusals(people: Mapping[str, ConsentRecord | None], role: Role) -> list[str]:
    """Everybody who may not be used so today, one line a reason.

    Args:
        people: name to record, None for no record.
        role: in which they are to be used.
    """
    by_reason: dict[str, list[str]] = {}
    for name, record in people.items():
        reason = NO_RECORD if record is None else record.refusal(role, date.today())
        if reason:
            by_reason.setdefault(reason, []).append(name)
    return [f"{listed(names, _MAX_SHOWN)}: {reason}" for reason, names in by_reason.items()]
