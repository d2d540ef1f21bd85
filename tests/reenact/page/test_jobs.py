"""What is asked for: consent first, one after another, told as it goes, and the delivered file byte for byte."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from pathlib import Path

import pytest

from model.errors import ConfigError, DataError
from reenact.marks.key import marking_key
from reenact.page.desk import MAX_WAITING, Desk, Job, State
from reenact.page.sessions import Session
from tests.reenact.page.conftest import CONSENT, Browser, Held, Served
from tests.support.films import sound_packets


@pytest.mark.integration
def test_the_way_from_two_files_to_a_marked_film(
    served: Served, browser: Browser, people: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="reenact.page")
    anna, ben = browser.number(people / "anna.png"), browser.number(people / "ben.mp4")
    number = browser.order(sources=[anna], driving=ben, consent=CONSENT)["number"]
    said = browser.ended(number)
    assert (said["state"], said["text"], said["done"], said["total"]) == ("done", "Drawing", 12, 12)
    assert said["outcome"]["name"] == "anna-by-ben.mp4"
    assert "12 frame(s)" in said["outcome"]["lines"][0] and "Sound: aac, copied" in said["outcome"]["lines"]
    assert "'A. Tester' says that all agreed, for 'a test'" in caplog.text
    saved = browser.get(f"/jobs/{number}/result?download")
    assert 'attachment; filename="anna-by-ben.mp4"' in saved.headers["content-disposition"]
    delivered = json.loads(marking_key().records.read_text().splitlines()[-1])
    assert hashlib.sha256(saved.content).hexdigest() == delivered["file_sha256"]
    film = served.root / "saved.mp4"
    film.write_bytes(saved.content)
    assert [data for _, data in sound_packets(film)] == [data for _, data in sound_packets(people / "ben.mp4")]
    found = browser.post("/marks", params={"name": "saved.mp4"}, content=saved.content).json()
    assert found["is_marked"] and dict(found["lines"])["Label"] == "AI GENERATED"
    assert "trusted here" in dict(found["lines"])["Manifest"]


def test_a_part_of_the_film_can_be_asked_for_so_that_players_can_seek(browser: Browser, people: Path) -> None:
    anna = browser.number(people / "anna.png")
    number = browser.order(sources=[anna], driving=anna, consent=CONSENT)["number"]
    assert browser.ended(number)["outcome"]["name"] == "anna-by-anna.png"
    part = browser.get(f"/jobs/{number}/result", headers={"range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, b"PNG")
    assert part.headers["content-disposition"].startswith("inline")


def test_a_look_shows_crops_and_needs_consent_as_drawing_does(browser: Browser, people: Path) -> None:
    anna, ben = browser.number(people / "anna.png"), browser.number(people / "ben.mp4")
    look = browser.order(sources=[anna, anna], driving=ben, only_look=True, consent=CONSENT)["number"]
    assert browser.ended(look)["outcome"] == {}
    preview = browser.get(f"/jobs/{look}/preview").json()
    assert len(preview["sources"]) == 2 and preview["source"].startswith("data:image/jpeg")
    assert preview["about_driving"].endswith("the reference of relative motion")
    for consent, says in (
        ({}, "tick the box"),
        ({**CONSENT, "agreed": "yes"}, "tick the box"),
        ({**CONSENT, "name": "  "}, "name: wanted"),
        ({**CONSENT, "purpose": "x" * 201}, "purpose: wanted"),
        ("yes", "tick the box"),
    ):
        for only_look in (False, True):
            said = browser.order(sources=[anna], driving=ben, consent=consent, only_look=only_look)
            assert says in said["problem"]


def test_the_chosen_face_is_the_one_that_is_drawn(browser: Browser, people: Path) -> None:
    two, anna = browser.number(people / "two.png"), browser.number(people / "anna.png")
    crops = []
    for face in (1, 2):
        look = browser.order(sources=[two], driving=anna, face=face, only_look=True, consent=CONSENT)["number"]
        browser.ended(look)
        crops.append(browser.get(f"/jobs/{look}/preview").json()["sources"][0])
    assert crops[0] != crops[1]
    missing = browser.order(sources=[two], driving=anna, face=3, only_look=True, consent=CONSENT)["number"]
    assert browser.ended(missing)["problem"].startswith("two.png: found 2 faces, number 3")


def test_a_face_is_put_back_into_the_whole_picture(browser: Browser, people: Path) -> None:
    two = browser.number(people / "two.png")
    number = browser.order(sources=[two], driving=two, paste=True, consent=CONSENT)["number"]
    browser.ended(number)
    found = browser.post(
        "/marks", params={"name": "x.png"}, content=browser.get(f"/jobs/{number}/result").content
    ).json()
    assert dict(found["lines"])["Label"] == "AI MODIFIED"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sources": []}, "who: choose 1 to 16"),
        ({"sources": "all"}, "who: choose 1 to 16"),
        ({"sources": ["../../etc"]}, "choose it again"),
        ({"sources": [["x"]]}, "choose it again"),
        ({"driving": ""}, "movement: choose"),
        ({"driving": 7}, "choose it again"),
        ({"face": -1}, "face: got -1"),
        ({"face": True}, "face: got True"),
        ({"motion": "sideways"}, "motion: got 'sideways'"),
        ({"strengths": {"nose": 1}}, "strengths: wanted numbers for brows, eyes, mouth, pose"),
        ({"strengths": {"pose": "much"}}, "strengths: wanted numbers"),
        ({"strengths": {"pose": 9}}, "pose=9: wanted 0 to 3"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_in_one_line(
    browser: Browser, people: Path, change: dict[str, object], says: str
) -> None:
    anna = browser.number(people / "anna.png")
    answer = browser.post("/jobs", json={"sources": [anna], "driving": anna, "consent": CONSENT} | change)
    assert answer.status_code == 400
    assert says in answer.json()["problem"] and "\n" not in answer.json()["problem"]


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"[]", 400), (b"[" * 5000, 400), (b" " * 70_000, 413)])
def test_a_body_that_is_no_order_is_refused(browser: Browser, body: bytes, status: int) -> None:
    assert browser.post("/jobs", content=body).status_code == status


def test_an_unmarked_picture_is_said_to_have_no_mark_and_is_not_kept(
    served: Served, browser: Browser, people: Path
) -> None:
    data = (people / "anna.png").read_bytes()
    found = browser.post("/marks", params={"name": "anna.png"}, content=data).json()
    assert not found["is_marked"]
    assert found["lines"][-1] == ["In all", "No mark of this program. That does not show that a camera took it."]
    assert "not a picture" in browser.post("/marks", params={"name": "x.png"}, content=b"?").json()["problem"]
    assert not [path for path in served.root.rglob("*") if path.is_file()]


@pytest.fixture
def desk():
    made = Desk()
    yield made
    made.close()


def waited(desk: Desk, job: Job) -> State:
    """The state of a job after all that was taken before this call."""
    done = threading.Event()
    desk.end(Session(Path("/nonexistent")), done.set)
    assert done.wait(10)
    return job.state


def test_one_after_another_and_each_knows_how_many_are_before_it(desk: Desk, tmp_path: Path) -> None:
    held = Held(desk)
    first, second, third = (
        Job(Session(tmp_path / name), work)
        for name, work in (("a", held), ("b", lambda _: {"drawn": 2}), ("c", lambda _: {}))
    )
    for job in (first, second, third):
        desk.take(job)
    assert held.has_begun.wait(10)
    assert [desk.before(job) for job in (first, second, third)] == [0, 1, 2]
    assert (first.state, second.state, first.told) == (State.WORKING, State.WAITING, first.told)
    held.let_go()
    assert waited(desk, third) is State.DONE
    assert (first.outcome, second.outcome) == ({"held": True}, {"drawn": 2})


def test_a_session_has_one_job_at_a_time_and_the_queue_has_an_end(desk: Desk, tmp_path: Path) -> None:
    held = Held(desk)
    mine = Session(tmp_path / "mine")
    desk.take(Job(mine, held))
    with pytest.raises(ConfigError, match="one thing at a time"):
        desk.take(Job(mine, held))
    for number in range(MAX_WAITING):
        desk.take(Job(Session(tmp_path / str(number)), lambda _: {}))
    with pytest.raises(ConfigError, match="too many people are waiting"):
        desk.take(Job(Session(tmp_path / "late"), lambda _: {}))
    held.let_go()


def test_a_cancelled_job_ends_at_its_next_step_or_never_begins(desk: Desk, tmp_path: Path) -> None:
    held, began = Held(desk), []
    working = Job(Session(tmp_path / "a"), held)
    waiting = Job(Session(tmp_path / "b"), lambda _: began.append(1) or {})
    desk.take(working)
    desk.take(waiting)
    assert held.has_begun.wait(10)
    waiting.cancel()
    assert waiting.state is State.CANCELLED
    working.cancel()
    assert waited(desk, working) is State.CANCELLED
    assert not began


def test_a_failure_is_one_line_and_the_next_job_is_done(
    desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = Session(tmp_path / "mine")

    def refuses(_job: Job) -> dict[str, object]:
        raise DataError(f"{mine.folder}/1a2b/anna.png: no face\nfound")

    def breaks(_job: Job) -> dict[str, object]:
        raise ZeroDivisionError("secret detail")

    refused, broken = Job(mine, refuses), Job(Session(tmp_path / "other"), breaks)
    desk.take(refused)
    desk.take(broken)
    assert waited(desk, broken) is State.FAILED
    assert (refused.state, refused.problem) == (State.FAILED, "anna.png: no face found")
    assert "secret" not in broken.problem and "secret detail" in caplog.text
    after = Job(mine, lambda _: {"is": "done"})
    desk.take(after)
    assert waited(desk, after) is State.DONE


def test_cancelling_on_the_page_ends_the_work(served: Served, browser: Browser, people: Path) -> None:
    held = Held(served.desk)
    served.desk.take(Job(Session(served.root / "other"), held))
    anna = browser.number(people / "anna.png")
    number = browser.order(sources=[anna], driving=anna, consent=CONSENT)["number"]
    said = browser.get(f"/jobs/{number}").json()
    assert (said["state"], said["before"]) == ("waiting", 1)
    assert "there is no result yet" in browser.get(f"/jobs/{number}/result").json()["problem"]
    assert browser.delete(f"/jobs/{number}").status_code == 204
    assert browser.ended(number)["state"] == "cancelled"
    held.let_go()
