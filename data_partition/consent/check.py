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
        raise DataError(
            f"{dataset}: not trained: {'; '.join(lines)}. `fedreenact consent` writes a record to fill in, `prepare` "
            f"takes it into the dataset; without-consent = {' or '.join(WithoutConsent)} is for people who need none "
            "(docs/consent.md)"
        )
    return shards


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
