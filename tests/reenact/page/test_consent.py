"""What is said of consent is held against the records, before a face is worked on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.reenact.page.conftest import CONSENT, Browser, Served

TOMORROW, YESTERDAY = (date.today() + timedelta(days=days) for days in (1, -1))


def record(path: Path, *, expires: date = TOMORROW, roles: str = '["source"]') -> str:
    """Of anna, about one file."""
    return f"""
id = "c-1"
person = "anna"
roles = {roles}
purpose = "a test"
given = 2020-01-01
expires = {expires.isoformat()}
evidence = "a drawer"
source_sha256 = ["{hashlib.sha256(path.read_bytes()).hexdigest()}"]
"""


def drawn(browser: Browser, picture: Path, consent: dict[str, Any], **wanted: object) -> Any:
    """What comes of a picture that drives itself."""
    number = browser.number(picture)
    said = browser.order(sources=[number], driving=number, consent={**CONSENT, **consent}, **wanted)
    return browser.ended(said["number"]) if "number" in said else said


def test_a_record_that_names_the_file_allows_it_and_is_in_the_manifest(browser: Browser, people: Path) -> None:
    said = drawn(browser, people / "anna.png", {"basis": "record", "record": record(people / "anna.png")})
    assert said["state"] == "done", said["problem"]
    assert "By consent: c-1 of anna as source" in said["outcome"]["lines"]


@pytest.mark.parametrize("only_look", [True, False])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        (lambda people: record(people / "two.png"), "does not name this source"),
        (lambda people: record(people / "anna.png", expires=YESTERDAY), "expired"),
        (lambda people: record(people / "anna.png", roles='["training"]'), "not used as source"),
        (lambda _: "no TOML [", "consent.toml"),
    ],
)
def test_a_record_that_does_not_hold_stops_it(
    browser: Browser, people: Path, text: Callable[[Path], str], says: str, only_look: bool
) -> None:
    said = drawn(browser, people / "anna.png", {"basis": "record", "record": text(people)}, only_look=only_look)
    assert says in said["problem"] and "\n" not in said["problem"]
    assert str(people.parent) not in said["problem"]


@pytest.mark.parametrize(
    ("consent", "says"),
    [
        ({"basis": ""}, "say what allows it: record, known, synthetic, public"),
        ({"basis": "record"}, "choose the person's record"),
        ({"basis": "record", "record": "x" * 40_000}, "choose the person's record"),
        ({"basis": "known"}, "no records of people are known here"),
    ],
)
def test_a_form_that_is_not_filled_in_is_refused(
    browser: Browser, people: Path, consent: dict[str, Any], says: str
) -> None:
    assert says in drawn(browser, people / "anna.png", consent)["problem"]
    with browser.websocket_connect("ws://localhost:8765/live") as talk:
        talk.send_json({"sources": [browser.number(people / "anna.png")], "consent": {**CONSENT, **consent}})
        assert says in talk.receive_json()["problem"]


def test_the_servers_own_records_are_asked_where_it_has_some(serving: Callable[..., Served], people: Path) -> None:
    """The network of this test is too small to compare faces with, which is said before anything is drawn."""
    served = serving(consent=people / "drawn")
    said = drawn(served.browser(), people / "anna.png", {"basis": "known"})
    assert "a model of 32 pixels cannot compare faces" in said["problem"]
    assert 'value="known" checked' in served.browser().get("/").text


def test_live_drawing_asks_the_same_records(browser: Browser, people: Path) -> None:
    consent = {**CONSENT, "basis": "record", "record": record(people / "two.png")}
    with browser.websocket_connect("ws://localhost:8765/live") as talk:
        talk.send_json({"sources": [browser.number(people / "anna.png")], "consent": consent})
        while "problem" not in (said := talk.receive_json()):
            pass
        assert "does not name this source" in said["problem"]
