"""Who may ask, and what a browser may do with the answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.websockets import WebSocketDisconnect

import reenact.page
from reenact.page.guard import is_loopback
from tests.reenact.page.conftest import ADDRESS, Browser, Served

FOREIGN = "https://elsewhere.example"


def test_nothing_of_the_page_is_asked_of_another_host_and_nothing_runs_that_is_not_a_file_of_it() -> None:
    folder = Path(reenact.page.__file__).parent
    for file in [*folder.glob("templates/*"), *folder.glob("static/*")]:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"https?://|\b(src|href|url\()=?[\"']?//", text), file
        assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=|\beval\(|innerHTML", text), file


def test_every_answer_forbids_the_browser_all_but_the_pages_own(browser: Browser) -> None:
    for path in ("/", "/page.js", "/page.css", "/jobs/none"):
        headers = browser.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", ["elsewhere.example", "elsewhere.example:8765", "localhost.example", "", "[x]:8765"])
def test_a_name_that_is_not_this_machines_is_refused(browser: Browser, host: str) -> None:
    answer = browser.get("/", headers={"host": host})
    assert (answer.status_code, answer.headers.get("set-cookie")) == (403, None)
    assert "not this machine's" in answer.json()["problem"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8765", "127.0.0.1:8765", "[::1]:8765", "192.0.2.7"])
def test_addresses_and_own_names_are_answered(browser: Browser, host: str) -> None:
    assert browser.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", [FOREIGN, "null", "http://localhost", "https://localhost:8765", ""])
@pytest.mark.parametrize(("method", "path"), [("POST", "/files"), ("POST", "/jobs"), ("DELETE", "/session")])
def test_what_changes_something_must_come_from_the_page(
    browser: Browser, people: Path, method: str, path: str, origin: str
) -> None:
    browser.give(people / "anna.png")
    answer = browser.request(method, path, headers={"origin": origin}, content=b"{}")
    assert answer.status_code == 403
    assert "not asked by the page itself" in answer.json()["problem"]


def test_a_websocket_of_another_site_is_not_opened(browser: Browser) -> None:
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        browser.websocket_connect("ws://localhost:8765/live", headers={"origin": FOREIGN}),
    ):
        pass
    assert refused.value.code == 1008


def test_without_a_session_nothing_is_taken_shown_or_drawn(served: Served, people: Path) -> None:
    stranger = Browser(served.app, base_url=ADDRESS, headers={"origin": ADDRESS})
    asked = [
        stranger.post("/files", params={"name": "anna.png"}, content=(people / "anna.png").read_bytes()),
        stranger.post("/marks", params={"name": "anna.png"}, content=b"x"),
        stranger.post("/jobs", json={}),
        stranger.get("/jobs/1"),
        stranger.get("/jobs/1/result"),
        stranger.delete("/session"),
    ]
    assert {answer.status_code for answer in asked} == {403}
    with pytest.raises(WebSocketDisconnect), stranger.websocket_connect("ws://localhost:8765/live"):
        pass
    assert not list(served.root.iterdir())


def test_the_session_is_a_cookie_that_scripts_and_other_sites_do_not_get(served: Served) -> None:
    cookie = served.browser().get("/", headers={"cookie": ""}).headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie


def test_a_token_is_asked_for_and_a_wrong_one_refused(serving: Callable[..., Served], people: Path) -> None:
    served = serving(token="right-token")
    for path, says in (
        ("/", "printed it"),
        ("/?token=wrong", "not the token"),
        ("/?token=right-token ", "not the token"),
    ):
        browser = Browser(served.app, base_url=ADDRESS, headers={"origin": ADDRESS})
        answer = browser.get(path)
        assert (answer.status_code, answer.headers.get("set-cookie")) == (403, None)
        assert says in answer.text
        assert browser.post("/files", params={"name": "a.png"}, content=b"").status_code == 403
    let_in = served.browser("/?token=right-token")
    assert let_in.get("/").status_code == 200
    assert let_in.give(people / "anna.png")["kind"] == "picture"


def test_loopback_is_told_from_other_addresses() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.0.2.7", "example.org", "")))
