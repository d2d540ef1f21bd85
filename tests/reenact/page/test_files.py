"""What browsers give: looked at, limited, deleted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from model.errors import ConfigError
from reenact.page import sessions
from reenact.page.desk import Job
from reenact.page.sessions import KEPT_MINUTES, Session, Sessions, kept_name
from tests.reenact.page.conftest import CONSENT, Browser, Held, Served


def files_of(served: Served) -> list[Path]:
    return [path for path in served.root.rglob("*") if path.is_file()]


@pytest.mark.integration
def test_an_upload_shows_its_faces_from_the_left(browser: Browser, people: Path) -> None:
    one, two, clip = (browser.give(people / name) for name in ("anna.png", "two.png", "ben.mp4"))
    assert [(seen["kind"], len(seen["faces"])) for seen in (one, two, clip)] == [
        ("picture", 1),
        ("picture", 2),
        ("clip", 1),
    ]
    assert one["used"] == 1 and two["used"] in (1, 2)
    assert all(uri.startswith("data:image/jpeg;base64,") for uri in (one["picture"], *two["faces"]))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("grey.png", None, "grey.png: no face found"),
        ("notes.txt", b"x", "neither a picture nor a video"),
        ("", b"x", "neither a picture nor a video"),
        ("x.png", b"not a picture", "x.png: not a picture"),
        ("x.mp4", b"not a film", "x.mp4: cannot be opened as a video"),
        ("empty.jpg", b"", "empty.jpg: truncated picture"),
    ],
)
def test_what_is_no_face_is_refused_in_one_line_and_not_kept(
    served: Served, browser: Browser, people: Path, name: str, content: bytes | None, says: str
) -> None:
    data = (people / name).read_bytes() if content is None else content
    answer = browser.post("/files", params={"name": name}, content=data)
    problem = answer.json()["problem"]
    assert answer.status_code == 400 and says in problem
    assert "\n" not in problem and str(served.root) not in problem
    assert not files_of(served)


def test_limits_of_size_and_number_hold(
    served: Served, browser: Browser, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (people / "anna.png").stat().st_size
    monkeypatch.setattr(sessions, "MAX_FILE_BYTES", size - 1)
    assert "anna.png: more than" in browser.give(people / "anna.png")["problem"]
    monkeypatch.setattr(sessions, "MAX_FILE_BYTES", size)
    monkeypatch.setattr(sessions, "MAX_SESSION_BYTES", 2 * size)
    numbers = [browser.number(people / "anna.png") for _ in range(2)]
    assert "together; remove a file" in browser.give(people / "anna.png")["problem"]
    assert browser.delete(f"/files/{numbers[0]}").status_code == 204
    monkeypatch.setattr(sessions, "MAX_FILES", 2)
    browser.give(people / "anna.png")
    assert browser.give(people / "anna.png")["problem"] == "2 files are here already; remove one, or delete everything"
    assert len(files_of(served)) == 2


def test_a_body_that_says_it_is_too_long_is_not_read(browser: Browser) -> None:
    answer = browser.post("/files", params={"name": "a.png"}, headers={"content-length": "1000000000000"}, content=b"")
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/x.PNG", "x.png"),
        ("C:\\people\\anna.jpg", "anna.jpg"),
        (".hidden.mp4", "hidden.mp4"),
        ("a\nb<c>.png", "a_b_c_.png"),
        ("Zoë (1).jpeg", "Zoë (1).jpeg"),
        ("...png", "file.png"),
        ("x" * 300 + ".png", "x" * 80 + ".png"),
        ("電" * 43 + ".mp4", "電" * 26 + ".mp4"),  # of three bytes each
    ],
)
def test_a_name_is_kept_without_what_could_be_a_path_or_a_command(name: str, kept: str) -> None:
    assert kept_name(name) == kept


def test_what_a_browser_gave_is_shown_to_no_other(served: Served, browser: Browser, people: Path) -> None:
    anna, ben = browser.number(people / "anna.png"), browser.number(people / "ben.mp4")
    number = browser.order(sources=[anna], driving=ben, consent=CONSENT)["number"]
    assert browser.ended(number)["state"] == "done"
    other = served.browser()
    for path in (f"/jobs/{number}", f"/jobs/{number}/result", f"/jobs/{number}/preview"):
        assert other.get(path).status_code == 400
    assert "choose it again" in other.order(sources=[anna], driving=ben, consent=CONSENT)["problem"]
    assert other.delete(f"/files/{anna}").status_code == 400


def test_everything_is_deleted_when_it_is_asked_for(served: Served, browser: Browser, people: Path) -> None:
    anna, ben = browser.number(people / "anna.png"), browser.number(people / "ben.mp4")
    number = browser.order(sources=[anna], driving=ben, consent=CONSENT)["number"]
    browser.ended(number)
    assert len(files_of(served)) == 3
    assert browser.delete("/session").status_code == 204
    served.desk.close()
    assert not files_of(served)
    assert "not here any more" in browser.get(f"/jobs/{number}/result").json()["problem"]
    assert browser.number(people / "anna.png")  # the page itself goes on


def test_what_is_given_after_everything_was_deleted_stays(served: Served, browser: Browser, people: Path) -> None:
    held = Held(served.desk)
    served.desk.take(Job(Session(served.root / "other"), held))
    browser.give(people / "anna.png")
    assert browser.delete("/session").status_code == 204
    assert not files_of(served)
    browser.give(people / "anna.png")
    held.let_go()
    served.desk.close()  # the second removal, which waited behind the other browser's job, has been done
    assert len(files_of(served)) == 1


def test_an_upload_that_comes_while_everything_is_deleted_is_none(tmp_path: Path) -> None:
    session = sessions.Session(tmp_path / "one")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"half"
        session.empty()
        yield b"rest"

    with pytest.raises(ConfigError, match="everything was deleted while it came"):
        asyncio.run(session.take("anna.png", chunks()))
    assert (session.files, session.sizes) == ({}, {})


def test_what_is_being_drawn_from_is_not_touched(served: Served, browser: Browser, people: Path) -> None:
    held = Held(served.desk)
    served.desk.take(Job(Session(served.root / "other"), held))
    anna, ben = browser.number(people / "anna.png"), browser.number(people / "ben.mp4")
    assert browser.get("/session").json() == {"job": None}
    first = {"sources": [anna], "driving": ben, "consent": CONSENT | {"basis": "record", "record": "of the first"}}
    number = browser.order(**first)["number"]
    assert browser.get("/session").json() == {"job": number}
    for refused in (
        browser.order(**first | {"consent": CONSENT | {"basis": "record", "record": "of the second"}}),
        browser.delete(f"/files/{ben}").json(),
    ):
        assert "one thing at a time" in refused["problem"]
    (record,) = [path for path in files_of(served) if path.name == "consent.toml"]
    assert record.read_text() == "of the first" and len(files_of(served)) == 3
    browser.delete(f"/jobs/{number}")
    held.let_go()
    assert browser.delete(f"/files/{ben}").status_code == 204


def test_what_nobody_asks_for_any_more_is_deleted(
    served: Served, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, there = served.browser(), served.browser()
    gone.give(people / "anna.png")
    later = time.monotonic() + 60 * KEPT_MINUTES + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    there.give(people / "anna.png")
    served.page.sweep()
    assert len(files_of(served)) == 1
    assert gone.get("/jobs/1").status_code == 403
    assert there.get("/jobs/1").status_code == 400


def test_everything_is_deleted_at_the_end(tmp_path: Path, people: Path) -> None:
    served = Served(tmp_path)
    with Browser(served.app, base_url=served.browser().base_url):
        served.browser().give(people / "anna.png")
        assert files_of(served)
    assert not served.root.exists()


def test_empty_sessions_make_room_for_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    every = Sessions(tmp_path)
    first, second = every.start(), every.start()
    kept = every.get(second)
    assert kept is not None
    kept.folder.mkdir()
    third = every.start()
    assert every.get(first) is None and every.get(second) is kept
    every.get(third).folder.mkdir()  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="too many people"):
        every.start()


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError("gone")

    session = sessions.Session(tmp_path / "one")
    with pytest.raises(ConnectionResetError):
        asyncio.run(session.take("anna.png", chunks()))
    assert (session.files, session.sizes) == ({}, {})
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
