from __future__ import annotations

from federation.settings import Settings
from server.run_folder.history import RoundRow
from server.sites.conduct import Conduct
from tests.support.rows import round_row

CONFIG = Settings.from_flat({"quarantine-after": 2, "quarantine-rounds": 3}).defence


def row(number: int, accepted: dict[int, str], rejected: dict[int, str]) -> RoundRow:
    """Accepted sites with their fingerprints, rejected ones with the kind."""
    clients: dict[int, dict[str, float]] = {client: {} for client in accepted}
    return round_row(number, clients=clients, rejected_kinds=rejected, fingerprints=accepted)


def test_an_update_is_known_by_site() -> None:
    conduct = Conduct([row(1, {0: "aa", 1: "bb"}, {}), row(2, {0: "cc"}, {})], CONFIG)
    assert conduct.has_sent(0, "aa") and conduct.has_sent(0, "cc") and conduct.has_sent(1, "bb")
    assert not conduct.has_sent(1, "aa") and not conduct.has_sent(7, "aa")


def test_quarantine_begins_after_some_in_a_row_and_ends() -> None:
    conduct = Conduct([row(4, {}, {3: "opposed"}), row(5, {}, {3: "not-finite"})], CONFIG)
    assert list(conduct.quarantined(6)) == list(conduct.quarantined(8)) == [3]
    assert conduct.quarantined(9) == {}
    assert conduct.quarantined(6)[3] == (
        "in quarantine until the end of round 8, after 2 updates in a row that could not be used"
    )


def test_a_good_update_in_between_starts_the_count_anew() -> None:
    rows = [row(1, {}, {3: "opposed"}), row(2, {3: "aa"}, {}), row(3, {}, {3: "opposed"})]
    assert Conduct(rows, CONFIG).quarantined(4) == {}


def test_a_site_that_fails_or_is_late_is_not_suspicious_and_keeps_its_count() -> None:
    kinds = ("failed", "late", "lost", "loss-not-finite")
    assert Conduct([row(n, {}, {"3": kind}) for n, kind in enumerate(kinds, 1)], CONFIG).quarantined(5) == {}
    rows = [row(1, {}, {3: "replayed"}), row(2, {}, {3: "late"}), row(3, {}, {3: "replayed"})]
    assert list(Conduct(rows, CONFIG).quarantined(4)) == [3]


def test_after_quarantine_a_site_has_as_many_tries_as_before() -> None:
    rows = [row(1, {}, {3: "opposed"}), row(2, {}, {3: "opposed"})]
    rows += [row(number, {}, {3: "quarantined"}) for number in (3, 4, 5)]
    conduct = Conduct([*rows, row(6, {}, {3: "opposed"})], CONFIG)
    assert conduct.quarantined(7) == {}
    conduct.note(7, [], {3: "opposed"}, {})
    assert list(conduct.quarantined(8)) == [3]


def test_quarantine_can_be_off() -> None:
    config = Settings.from_flat({"quarantine-after": 0}).defence
    assert Conduct([row(number, {}, {3: "opposed"}) for number in range(1, 9)], config).quarantined(9) == {}


def test_rows_of_before_there_were_fingerprints_can_be_read() -> None:
    assert not Conduct([round_row(1, clients={0: {}})], CONFIG).has_sent(0, "aa")
