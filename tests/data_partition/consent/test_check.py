"""Promises of data_partition.consent.check: who may be trained on."""

from pathlib import Path

import pytest

from data_partition.consent.check import open_for_training, refusals
from data_partition.consent.kinds import Role, WithoutConsent
from data_partition.shards.writer import record_consent
from model.errors import DataError
from tests.support.consents import NO_CONSENT, consent_of
from tests.support.shards import write_random_shard


def test_everybody_without_a_record_that_holds_is_named_with_the_reason(tmp_path: Path) -> None:
    write_random_shard(tmp_path, "ana", num_frames=2, consent=consent_of("ana"))
    write_random_shard(tmp_path, "dan", num_frames=2, consent=consent_of("dan", roles=(Role.SOURCE,)))
    for name, changes in zip(("bea", "cem", "eva"), NO_CONSENT.values(), strict=True):
        write_random_shard(tmp_path, name, num_frames=2, consent=consent_of(name, **changes))
    record_consent(write_random_shard(tmp_path, "fin", num_frames=2).path, None)
    with pytest.raises(DataError) as refused:
        open_for_training(tmp_path, "")
    text = str(refused.value)
    assert "ana" not in text and "\n" not in text
    assert "bea: consent 2026-014 was revoked" in text and "cem: consent 2026-014 expired" in text
    assert 'bea withdrew: docs/consent.md, "When a person withdraws", says' in text and "`fedreenact consent`" in text
    assert "dan: consent 2026-014 is for source, not for training" in text and "fin: no record of consent" in text


def test_people_without_a_record_are_trained_on_only_when_it_is_said_what_they_are(tmp_path: Path) -> None:
    shard = write_random_shard(tmp_path, "ana", num_frames=2)
    record_consent(shard.path, None)
    with pytest.raises(DataError, match="ana: no record of consent.*without-consent = synthetic or public"):
        open_for_training(tmp_path, "")
    assert [one.identity for one in open_for_training(tmp_path, WithoutConsent.PUBLIC)] == ["ana"]


@pytest.mark.parametrize("said", NO_CONSENT)
def test_a_record_that_says_no_is_never_passed_over(tmp_path: Path, said: str) -> None:
    write_random_shard(tmp_path, "ana", num_frames=2, consent=consent_of("ana", **NO_CONSENT[said]))
    with pytest.raises(DataError, match=said):
        open_for_training(tmp_path, WithoutConsent.SYNTHETIC)


def test_of_somebody_who_withdrew_no_other_record_is_asked_for(tmp_path: Path) -> None:
    write_random_shard(tmp_path, "ana", num_frames=2, consent=consent_of("ana", **NO_CONSENT["revoked"]))
    with pytest.raises(DataError) as refused:
        open_for_training(tmp_path, "")
    assert "ana withdrew: docs/consent.md" in str(refused.value) and "fedreenact consent" not in str(refused.value)


def test_many_people_are_one_line_that_ends() -> None:
    (line,) = refusals({f"p{index}": None for index in range(1000)}, Role.TRAINING)
    assert line.endswith("p19 and 980 more: no record of consent")
