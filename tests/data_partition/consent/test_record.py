"""Promises of data_partition.consent.record and template."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_partition.consent.kinds import Role
from data_partition.consent.record import ConsentRecord, consent_file, is_consent_file, read_consent, synthetic_record
from data_partition.consent.template import write_template
from data_partition.sources.video import source_sha256
from model.errors import ConfigError, DataError
from tests.data_partition.conftest import write_picture
from tests.support.consents import DAY, NO_CONSENT, TODAY, consent_of, write_consent
from tests.support.shards import write_random_shard

FULL = {
    "version": 2,
    "resolved_by": "the front desk",
    "audience": "visitors",
    "forbidden": "advertising",
    "revoked": TODAY,
    "obtained": "on paper",
    "text_sha256": "ab" * 32,
    "guardian": "mother",
    "controller": "Example Lab",
    "contact": "lab@example.org",
    "withdrawal": "by letter",
    "source_sha256": ("cd" * 32,),
    "synthetic": True,
}


def test_a_record_comes_back_from_its_file_and_from_json(tmp_path: Path) -> None:
    record = consent_of("ana", **FULL)
    assert read_consent(write_consent(tmp_path / "consent.toml", record)) == record
    assert ConsentRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
    assert record.to_json().keys() == {one.name for one in fields(record)}


def test_a_record_that_notepad_wrote_is_read(tmp_path: Path) -> None:
    path = write_consent(tmp_path / "consent.toml", consent_of("ana"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_consent(path) == consent_of("ana")


def test_the_digest_goes_by_what_a_record_says(tmp_path: Path) -> None:
    record = consent_of("ana")
    path = write_consent(tmp_path / "consent.toml", record)
    path.write_text("# a note\n" + "\n".join(reversed(path.read_text().splitlines())) + "\nversion = 1\n")
    assert read_consent(path).sha256 == record.sha256 != consent_of("ana", audience="all").sha256


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("expire = 2030-01-01", "unknown key 'expire'; did you mean expires?"),
        ("given = '2026-01-01'", "given is '2026-01-01', wanted a date without quotes"),
        ("given = 2026-01-01T10:00:00", "given is datetime.datetime(2026, 1, 1, 10, 0), wanted a date"),
        ("version = true", "version is True, wanted a whole number"),
        ("roles = ['driver']", "roles is ['driver'], wanted a list of source, driving, training"),
        ("roles = ['source', 'source']", "wanted some of source, driving, training, each once"),
        ("roles = 'source'", "roles is 'source', wanted a list"),
        ("roles = []", "does not say roles"),
        ("purpose = ''", "does not say purpose"),
        ("expires = 1999-01-01", "expires 1999-01-01 lies before given"),
        ("text_sha256 = 'AB'", "got 'AB', wanted a SHA-256"),
        ("source_sha256 = [1]", "source_sha256 is [1], wanted a list of texts"),
        ("purpose = ", "Invalid value"),
    ],
)
def test_a_file_that_is_no_record_is_one_line_with_what_is_wrong(tmp_path: Path, line: str, said: str) -> None:
    path = write_consent(tmp_path / "consent.toml", consent_of("ana"))
    key = line.split(" ")[0]
    kept = [one for one in path.read_text().splitlines() if not one.startswith(f"{key} ")]
    path.write_text("\n".join([*kept, line]))
    with pytest.raises(DataError) as refused:
        read_consent(path)
    assert said in str(refused.value) and str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_everything_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "consent.toml").write_text("id = 'x'\nroles = ['source']\n")
    with pytest.raises(DataError, match="does not say person, purpose, given, expires, evidence"):
        read_consent(tmp_path / "consent.toml")


values = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.dates(), st.datetimes()),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=4), inner, max_size=2)),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from([one.name for one in fields(ConsentRecord)]), values, max_size=4))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_values_are_a_record_or_one_clear_error(changes: dict[str, object]) -> None:
    plain = {"id": "1", "person": "ana", "roles": ["source"], "purpose": "p", "evidence": "e"}
    try:
        record = ConsentRecord.from_values(plain | {"given": TODAY, "expires": TODAY} | changes)
    except ValueError as error:
        assert str(error)
    else:
        assert ConsentRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


@pytest.mark.parametrize("said", NO_CONSENT)
def test_a_record_that_does_not_hold_today_allows_nothing(said: str) -> None:
    record = consent_of("ana", **NO_CONSENT[said])
    assert all(said in record.refusal(role, TODAY) for role in Role)


def test_a_record_holds_on_its_first_and_its_last_day_and_for_its_roles() -> None:
    record = consent_of("ana", given=TODAY, expires=TODAY + DAY, roles=(Role.TRAINING,))
    assert record.refusal(Role.TRAINING, TODAY) == record.refusal(Role.TRAINING, TODAY + DAY) == ""
    assert record.refusal(Role.SOURCE, TODAY) == "consent 2026-014 is for training, not for source"
    assert "expired" in record.refusal(Role.TRAINING, TODAY + 2 * DAY)


def test_a_drawn_persons_record_holds_for_everything_and_is_always_the_same() -> None:
    assert all(synthetic_record("p").refusal(role, TODAY) == "" for role in Role)
    assert synthetic_record("p") == synthetic_record("p") and synthetic_record("p").synthetic


def test_a_record_lies_in_the_persons_folder_or_beside_the_only_file(tmp_path: Path) -> None:
    write_picture(tmp_path / "dr. no.png")
    (tmp_path / "m.r").mkdir()
    assert (
        consent_file(tmp_path / "dr. no.png") == consent_file(tmp_path / "dr. no") == tmp_path / "dr. no.consent.toml"
    )
    assert consent_file(tmp_path / "m.r") == tmp_path / "m.r" / "consent.toml"
    assert is_consent_file(tmp_path / "dr. no.consent.toml") and not is_consent_file(tmp_path / "noconsent.toml")


def test_a_template_becomes_a_record_when_it_is_filled_in(tmp_path: Path) -> None:
    (tmp_path / "ana").mkdir()
    path = write_template(tmp_path / "ana")
    with pytest.raises(DataError, match="does not say id, roles, purpose, given, expires, evidence"):
        read_consent(path)
    text = path.read_text().replace('""', '"x"').replace("roles = []", 'roles = ["source"]').replace("#given", "given")
    path.write_text(text.replace("#expires", "expires"))
    assert path == tmp_path / "ana" / "consent.toml" and read_consent(path).person == "ana"
    assert all(f"{one.name} = " in text for one in fields(ConsentRecord))


def test_the_template_of_a_picture_names_it(tmp_path: Path) -> None:
    write_picture(tmp_path / "ana.png")
    path = write_template(tmp_path / "ana.png")
    assert path.name == "ana.consent.toml"
    assert f'\nsource_sha256 = ["{source_sha256(tmp_path / "ana.png")}"]' in path.read_text()


def test_a_template_takes_no_records_place_and_is_of_a_person(tmp_path: Path) -> None:
    shard = write_random_shard(tmp_path, "eva", num_frames=2)
    write_consent(tmp_path / "ana" / "consent.toml", consent_of("ana"))
    for entry, said in (
        (tmp_path / "ana", "is there already"),
        (tmp_path / "x", "wanted the folder"),
        (shard.path, "a shard"),
    ):
        with pytest.raises(ConfigError, match=said):
            write_template(entry)
