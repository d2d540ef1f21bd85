"""The people of a model card: under names that say nothing, with what they agreed to."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from data_partition.consent.check import refusals
from data_partition.consent.kinds import Role, WithoutConsent
from data_partition.consent.record import ConsentRecord
from data_partition.shards.content import ShardContent
from data_partition.shards.shard import Shard, open_dataset
from evaluation.figures.tables import TextTable
from model.checkpoint import unnamed
from model.errors import DataError
from server.run_folder.record import People

_HEADER = ("who", "may be used as", "for", "seen by", "ruled out", "until")
_NOBODY_HERE = "its record is not on the machine that wrote this card"
_IN_PLACE_OF_A_RECORD = {
    WithoutConsent.SYNTHETIC: "no record: nobody is shown, the operator says",
    WithoutConsent.PUBLIC: "no record: published for this kind of use, the operator says",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class CardPeople:
    """What a card may say of the people that a model learnt; I of them."""

    consents: TextTable
    """[I] rows, by the names that a release has."""
    first_end: date | None
    """Last day of the consent that ends first; None where no record that is known has an end."""
    are_drawn: bool
    """Whether nobody is shown: a record says so of everybody, or the operator of those without."""
    num_clips: int | None
    """None unless the shards of everybody are here, with the frames that the run had, as below."""
    num_held_out: int | None
    """Frames that nobody trained on."""

    @property
    def num_people(self) -> int:
        """I."""
        return len(self.consents.rows)


def read_people(
    identities: Sequence[str], shards: Mapping[str, Shard], learnt: People, without_consent: str
) -> CardPeople:
    """What the records of a dataset say today of the people of a model.

    Args:
        identities: [I] their names in the checkpoint.
        shards: of those who are on this machine, by name.
        learnt: what the run had of each; nobody where it did not see or did not write that down.
        without_consent: what the run's operator said of people without a record; "" if nothing.

    Raises:
        DataError: if somebody may not be trained on today.
    """
    _refuse_without_consent(shards, without_consent)
    here, is_everybody = shards.values(), len(shards) == len(identities)
    is_whole = is_everybody and not any(_changes(learnt, name, shard) for name, shard in shards.items())
    rows = tuple(_row(index, shards.get(name), identities, without_consent) for index, name in enumerate(identities))
    return CardPeople(
        consents=TextTable(title="People and their consent", header=_HEADER, rows=rows),
        first_end=min((end for shard in here if (end := _end(shard.consent)) is not None), default=None),
        are_drawn=is_everybody and all(_is_drawn(shard.consent, without_consent) for shard in here),
        num_clips=sum(len(set(shard.clip.tolist())) for shard in here) if is_whole else None,
        num_held_out=sum(int(shard.is_test_F.sum()) for shard in here) if is_whole else None,
    )


def shards_of(identities: Sequence[str], dataset: Path | None, data_dir: str) -> dict[str, Shard]:
    """The shards of a model's people, by name, as far as they are on this machine.

    Args:
        identities: [I] their names in the checkpoint.
        dataset: that has to have some of them; None for where the run found its own.
        data_dir: where that was; "" if it does not say.

    Raises:
        DataError: if the dataset that was given cannot be used, or has none of them.
    """
    try:
        found = open_dataset(dataset or Path(data_dir)) if dataset or data_dir else []
    except DataError:
        if dataset is not None:
            raise
        found = []
    known = {shard.identity: shard for shard in found if shard.identity in identities}
    if dataset is not None and not known:
        raise DataError(f"--dataset {dataset}: has nobody of the run; give the dataset that it was trained on")
    return known


def _refuse_without_consent(known: Mapping[str, Shard], without_consent: str) -> None:
    asked = {name: shard.consent for name, shard in known.items() if shard.consent is not None or not without_consent}
    lines = refusals(asked, Role.TRAINING)
    if lines:
        raise DataError(
            f"people whom the run learnt: {'; '.join(lines)}. Their model is not handed on: mend the records and "
            "`prepare` again, or `withdraw` them and train anew (docs/release.md)"
        )


def _changes(learnt: People, name: str, shard: Shard) -> str:
    return learnt[name].changes(ShardContent.of(shard)) if name in learnt else ""


def _row(index: int, shard: Shard | None, identities: Sequence[str], without_consent: str) -> tuple[str, ...]:
    name = unnamed(index)
    if shard is None:
        return (name, _NOBODY_HERE, "", "", "", "")
    if shard.consent is None:
        return (name, _IN_PLACE_OF_A_RECORD[WithoutConsent(without_consent)], "", "", "", "")
    record, end = shard.consent, _end(shard.consent)
    told = (", ".join(record.roles), record.purpose, record.audience or "not said", record.forbidden or "nothing said")
    return (name, *(_public(text, identities) for text in told), end.isoformat() if end else "no end")


def _end(record: ConsentRecord | None) -> date | None:
    """None for no record, and for people who are drawn, whose records have no end."""
    return None if record is None or record.expires == date.max else record.expires


def _is_drawn(record: ConsentRecord | None, without_consent: str) -> bool:
    return without_consent == WithoutConsent.SYNTHETIC if record is None else record.synthetic


def _public(text: str, identities: Sequence[str]) -> str:
    """A record's text for everybody: names of the run's people replaced, on one line, no HTML.

    A name of a single letter is left: it would be found in any text.
    """
    for index, name in enumerate(identities):
        if len(name) > 1:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", unnamed(index), text, flags=re.IGNORECASE)
    return html.escape(" ".join(text.split()), quote=False)
