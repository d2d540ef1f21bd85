"""A camera's pictures in, marked pictures out."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from data_partition.shards.images import encode_image
from data_partition.sources.pictures import read_picture
from data_partition.sources.video import read_frames
from reenact.marks.key import marking_key
from reenact.marks.kinds import Label
from reenact.marks.label import find_label
from reenact.marks.watermark import read_watermark
from reenact.page import live
from reenact.page.desk import Job
from reenact.page.sessions import Session
from tests.reenact.page.conftest import CONSENT, Browser, Held, Served


def jpeg(picture_HWC: np.ndarray) -> bytes:
    return encode_image(".jpg", picture_HWC)


def told(talk: Any) -> Any:
    """The next thing said in words that is no news of where the job stands."""
    while (said := talk.receive_json()).get("state") in ("waiting", "working"):
        pass
    return said


def answer(talk: Any) -> bytes | dict[str, Any]:
    """A picture, or what was said in its place."""
    while True:
        message = talk.receive()
        if message.get("bytes") is not None:
            return message["bytes"]
        if "state" not in message["text"]:
            return {"text": message["text"]}


@pytest.mark.integration
def test_each_picture_of_a_face_is_answered_by_one_with_label_and_watermark(browser: Browser, people: Path) -> None:
    frames = [frame.image_HWC for frame in read_frames(people / "ben.mp4", lambda _: None)]
    results = []
    with browser.websocket_connect("ws://localhost:8765/live") as talk:
        talk.send_json({"sources": [browser.number(people / "anna.png")], "consent": CONSENT})
        assert told(talk) == {"state": "ready"}
        for frame in frames[:4]:
            talk.send_bytes(jpeg(frame))
            results.append(answer(talk))
        talk.send_text("rest")
        talk.send_bytes(jpeg(frames[5]))
        results.append(answer(talk))
    pictures = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in results]
    assert all(picture.shape == (256, 256, 3) for picture in pictures)
    assert all(find_label(picture) is Label.GENERATED for picture in pictures)
    assert read_watermark(pictures).is_present
    line = json.loads(marking_key().records.read_text().splitlines()[-1])
    assert line["file_sha256"] == "live"
    assert int(line["record"], 16) == read_watermark(pictures).record


def test_a_picture_without_a_face_is_said_to_have_none(browser: Browser, people: Path) -> None:
    with browser.websocket_connect("ws://localhost:8765/live") as talk:
        talk.send_json({"sources": [browser.number(people / "anna.png")], "consent": CONSENT})
        told(talk)
        talk.send_bytes(jpeg(np.full((96, 128, 3), 90, np.uint8)))
        assert told(talk) == {"face": False}


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ({"sources": ["ANNA"]}, "tick the box"),
        ({"consent": CONSENT}, "who: choose"),
        ({"sources": ["none"], "consent": CONSENT}, "choose it again"),
        ([], "who: choose"),
        (b"a picture before the order", "no order"),
    ],
)
def test_an_order_without_consent_or_person_is_refused(browser: Browser, people: Path, order: Any, says: str) -> None:
    if isinstance(order, dict) and order.get("sources") == ["ANNA"]:
        order = {"sources": [browser.number(people / "anna.png")]}
    with browser.websocket_connect("ws://localhost:8765/live") as talk:
        if isinstance(order, bytes):
            talk.send_bytes(order)
        else:
            talk.send_json(order)
        assert says in talk.receive_json()["problem"]
        assert talk.receive()["type"] == "websocket.close"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"no picture", "cannot be read"),
        (jpeg(np.zeros((8, 2000, 3), np.uint8)), "larger than 1920 pixels"),
        (encode_image(".png", np.zeros((8, 8, 3), np.uint8)), "cannot be read"),
    ],
    ids=["nonsense", "large", "png"],
)
def test_what_is_no_picture_of_a_camera_ends_the_talk_in_one_line(
    browser: Browser, people: Path, data: bytes, says: str
) -> None:
    with browser.websocket_connect("ws://localhost:8765/live") as talk:
        talk.send_json({"sources": [browser.number(people / "anna.png")], "consent": CONSENT})
        told(talk)
        talk.send_bytes(data)
        assert says in told(talk)["problem"]


@pytest.mark.integration
def test_it_waits_for_what_is_before_it_and_a_job_waits_for_it(served: Served, browser: Browser, people: Path) -> None:
    held = Held(served.desk)
    served.desk.take(Job(Session(served.root / "other"), held))
    with browser.websocket_connect("ws://localhost:8765/live") as talk:
        talk.send_json({"sources": [browser.number(people / "anna.png")], "consent": CONSENT})
        said = talk.receive_json()
        assert (said["state"], said["before"]) == ("waiting", 1)
        held.let_go()
        assert told(talk) == {"state": "ready"}
        second = served.browser()
        anna = second.number(people / "anna.png")
        number = second.order(sources=[anna], driving=anna, consent=CONSENT)["number"]
        assert second.get(f"/jobs/{number}").json()["before"] == 1
    assert second.ended(number)["state"] == "done"


def test_the_person_keeps_still_while_the_camera_shows_one_and_the_same_face(browser: Browser, people: Path) -> None:
    """Relative motion from the first face: no movement, no change, wherever the face is."""
    face = read_picture(people / "anna.png")
    camera = cv2.copyMakeBorder(face, 40, 40, 60, 140, cv2.BORDER_REPLICATE)
    with browser.websocket_connect("ws://localhost:8765/live") as talk:
        talk.send_json({"sources": [browser.number(people / "anna.png")], "consent": CONSENT})
        told(talk)
        results = []
        for _ in range(3):
            talk.send_bytes(jpeg(camera))
            results.append(answer(talk))
    first, *others = (np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.int16) for data in results)
    assert all(np.abs(one - first).mean() < 2 for one in others)


@pytest.mark.integration
def test_after_its_turn_it_gives_way_to_those_who_wait(
    served: Served, browser: Browser, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_TURN_S", -1.0)
    with browser.websocket_connect("ws://localhost:8765/live") as talk:
        talk.send_json({"sources": [browser.number(people / "anna.png")], "consent": CONSENT})
        told(talk)
        second = served.browser()
        anna = second.number(people / "anna.png")
        second.order(sources=[anna], driving=anna, consent=CONSENT)
        assert "others are waiting" in told(talk)["problem"]
