"""The page in a real browser, with a camera that shows a drawn person: what it does, and pictures of how it looks.

    apt-get install --no-install-recommends chromium
    pip install playwright          # never `playwright install`, which fetches another browser
    python -m tests.reenact.page.in_browser RUN OUT

RUN is a trained run, OUT a folder for pictures. Nothing of the program needs it, and no other test does. Ends with an
AssertionError where the page does not do what it should.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from data_partition.shards.images import write_image
from data_partition.shards.shard import Shard, open_shard
from data_partition.synth.dataset import synthesize
from reenact.marks.key import FOLDER_VARIABLE, MarkingKey, key_folder
from tests.support.films import click_samples, write_film

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
NUM_FRAMES = 80


def people(folder: Path) -> None:
    """anna.png, two.png (two people), ben.mp4 (with sound), ben.mjpeg (a camera's)."""
    drawn = synthesize(folder / "drawn", num_identities=2, num_frames=NUM_FRAMES, size_px=256, num_workers=1, seed=5)
    anna, ben = map(open_shard, drawn)
    write_image(folder / "anna.png", anna.read_frame(0))
    write_image(folder / "two.png", np.concatenate([anna.read_frame(3), ben.read_frame(3)], axis=1))
    pictures = [ben.read_frame(index) for index in range(NUM_FRAMES)]
    sound = {"codec": "aac", "samples": click_samples(1.0, NUM_FRAMES / 25)}
    write_film(folder / "ben.mp4", range(NUM_FRAMES), time_base=Fraction(1, 25), pictures=pictures, **sound)
    write_camera(folder / "ben.mjpeg", ben)


def write_camera(path: Path, shard: Shard) -> None:
    """A person in the middle of pictures of 640 x 480, as Chromium's fake camera reads them."""
    with av.open(str(path), "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuvj420p"
        for index in range(NUM_FRAMES):
            picture = np.full((480, 640, 3), 120, np.uint8)
            picture[112:368, 192:448] = shard.read_frame(index)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@contextmanager
def serving(run: Path, files: Path, *options: str) -> Iterator[str]:
    """The address of a page that ends with the block."""
    command = [
        sys.executable,
        "-m",
        "cli.entry",
        "serve",
        str(run),
        "--port",
        "0",
        "--device",
        "cpu",
        *options,
    ]
    environment = {**os.environ, "TMPDIR": str(files), "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            lines = iter(server.stdout.readline, "")
            yield next(line.split()[-1] for line in lines if line.startswith("Page:"))
        finally:
            server.terminate()
            server.wait(30)
    assert not list(files.glob("fedreenact-page-*")), "something is left"


class Visit:
    """One look at the page."""

    def __init__(self, browser: Browser, address: str, size: dict[str, int], **choices: object) -> None:
        context = browser.new_context(viewport=size, permissions=["camera"], **choices)  # type: ignore[arg-type]
        self.page: Page = context.new_page()
        self.page.set_default_timeout(120_000)  # a busy machine looks at a file for a while
        self.hosts: set[str] = set()
        self.errors: list[str] = []
        self.page.on("request", lambda asked: self.hosts.add(asked.url.partition("//")[2].partition("/")[0]))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.goto(address)

    def give(self, role: str, path: Path) -> None:
        """Choose a file and wait until its faces are shown."""
        self.page.set_input_files(f"#{role}-files", str(path))
        self.page.wait_for_selector(f"#{role}-list img")

    def agree(self) -> None:
        """Fill in the form of consent."""
        self.page.check("#agreed")
        self.page.check("[name=basis][value=synthetic]")
        self.page.fill("#name", "A. Tester")
        self.page.fill("#purpose", "A test with drawn people")

    def wait_for(self, condition: str) -> None:
        """Until it holds, in JavaScript, for two minutes; the page's policy lets nobody wait in the page."""
        end_s = time.monotonic() + 120
        while not self.page.evaluate(condition):
            assert time.monotonic() < end_s, condition
            time.sleep(0.05)

    def says(self, text: str) -> None:
        """Wait until the line that is read aloud says it."""
        self.page.wait_for_selector(f"#told:text-is('{text}')")

    def wait_until_drawn(self) -> None:
        """Raise AssertionError if it is not."""
        self.page.wait_for_selector("#played:not([hidden]), #order-problem:not(:empty)", timeout=300_000)
        assert not self.page.text_content("#order-problem"), self.page.text_content("#order-problem")

    def picture(self, path: Path) -> None:
        """Of the whole page, which must not be wider than the screen."""
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert self.page.evaluate(wide) == 0, f"{path.name}: wider than the screen"
        self.page.screenshot(path=path, full_page=True)


def draws_a_film(visit: Visit, given: Path, out: Path, records: Path) -> str:
    """From a picture of two people and a clip to a film, which is saved and checked."""
    page = visit.page
    page.click("#draw")
    assert "step 1" in str(page.text_content("#order-problem"))
    visit.give("source", given / "two.png")
    visit.give("driving", given / "ben.mp4")
    visit.agree()
    page.check("#source-faces input[value='1']", force=True)
    page.click("#order summary")
    visit.picture(out / "chosen.png")
    page.click("#look")
    page.wait_for_selector("#preview:not([hidden])")
    page.wait_for_selector("#draw:enabled")
    visit.picture(out / "preview.png")
    began_s = time.monotonic()
    page.click("#draw")
    visit.wait_until_drawn()
    drawn_s = time.monotonic() - began_s
    visit.wait_for("document.querySelector('#side-result video').readyState >= 2")
    visit.picture(out / "result.png")
    with page.expect_download() as download:
        page.click("#download")
    saved = out / download.value.suggested_filename
    download.value.save_as(saved)
    delivered = json.loads(records.read_text().splitlines()[-1])["file_sha256"]
    assert hashlib.sha256(saved.read_bytes()).hexdigest() == delivered, "not the delivered bytes"
    page.click("#play")
    visit.wait_for("document.querySelector('#side-result video').currentTime > 1")
    heard, here_s, there_s = page.evaluate(
        "(() => { const [d, r] = ['driving', 'result'].map((one) => document.querySelector(`#side-${one} video`));"
        " return [r.webkitAudioDecodedByteCount, r.currentTime, d.currentTime]; })()"
    )
    assert heard > 0, "no sound"
    assert abs(here_s - there_s) < 0.2, f"the films are apart: {here_s}, {there_s}"
    page.set_input_files("#check-files", str(saved))
    page.wait_for_selector("#check-told.marked")
    visit.picture(out / "verify.png")
    return f"{NUM_FRAMES} frames in {drawn_s:.1f} s, {heard} bytes of sound heard, delivered bytes saved"


def waits_and_cancels(first: Visit, second: Visit, given: Path, out: Path) -> str:
    """Two browsers at once: the second waits, says so, and goes; the first ends its own, begins again, and reloads."""
    for visit in (first, second):
        visit.give("source", given / "anna.png")
        visit.give("driving", given / "ben.mp4")
        visit.agree()
    first.page.click("#draw")
    first.page.wait_for_selector("#preview:not([hidden])")
    second.page.click("#draw")
    second.says("Waiting: one before you.")
    for visit in (second, first):
        visit.page.click("#cancel")
        visit.says("Cancelled.")
    first.page.click("#draw")
    first.page.wait_for_selector("#preview:not([hidden])")
    assert first.page.is_disabled("#source-list button"), "what is drawn from can be removed"
    first.page.reload()
    first.page.wait_for_selector("#cancel:not([hidden])")
    first.wait_until_drawn()
    first.picture(out / "reloaded.png")
    return "told, cancelled, drawn again by a page that was loaded anew"


def is_live(visit: Visit, given: Path, out: Path) -> str:
    """A camera drives for ten seconds."""
    page = visit.page
    page.check("[name=from][value=camera]", force=True)
    visit.give("source", given / "anna.png")
    visit.agree()
    page.click("#draw")
    visit.wait_for("document.getElementById('rate').textContent.includes('a second')")
    time.sleep(10)
    rate = str(page.text_content("#rate"))
    visit.picture(out / "live.png")
    page.click("#rest")
    time.sleep(1)
    page.click("#cancel")
    page.wait_for_selector("#cancel", state="hidden")
    assert not page.text_content("#order-problem"), page.text_content("#order-problem")
    return rate


def goes_by_keyboard(visit: Visit, given: Path) -> str:
    """Nothing but keys, from the first to the drawn picture; files cannot be picked in a dialogue of the system."""
    page, passed = visit.page, []
    visit.give("source", given / "anna.png")
    visit.give("driving", given / "anna.png")
    page.evaluate("document.activeElement.blur()")
    keys: dict[str, Callable[[], None]] = {
        "agreed": lambda: page.keyboard.press("Space"),
        "basis": lambda: page.keyboard.press("ArrowDown"),
        "name": lambda: page.keyboard.type("A. Tester"),
        "purpose": lambda: page.keyboard.type("A test"),
        "draw": lambda: page.keyboard.press("Enter"),
    }
    while "draw" not in passed:
        page.keyboard.press("Tab")
        here = str(page.evaluate("document.activeElement.id || document.activeElement.name"))
        passed.append(here)
        keys.get(here, lambda: None)()
        assert len(passed) < 40, f"the focus goes round: {passed}"
    visit.wait_until_drawn()
    assert page.evaluate("document.activeElement.id") == "result", "the focus is not where the result is"
    return f"{len(passed)} stops of the focus"


def fits_a_phone(visit: Visit, given: Path, out: Path) -> str:
    """The whole way in one column."""
    visit.give("source", given / "anna.png")
    visit.give("driving", given / "ben.mp4")
    visit.agree()
    visit.page.click("#draw")
    visit.wait_until_drawn()
    visit.wait_for("document.querySelector('#side-result video').readyState >= 2")
    visit.picture(out / "phone.png")
    return "not wider than the screen"


def main(run: Path, out: Path) -> None:
    """All of it."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        given, files = Path(folder) / "given", Path(folder) / "files"
        files.mkdir()
        os.environ[FOLDER_VARIABLE] = str(Path(folder) / "key")
        records = MarkingKey(key_folder()).records
        people(given)
        fake = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
        camera = f"--use-file-for-fake-video-capture={given / 'ben.mjpeg'}"
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *fake, camera])
        touch = {"is_mobile": True, "has_touch": True, "device_scale_factor": 2}
        with serving(run, files) as address:
            names = ("film", "first", "second", "live", "keyboard")
            visits = {name: Visit(browser, address, DESKTOP) for name in names}
            visits["phone"] = Visit(browser, address, PHONE, color_scheme="dark", **touch)
            visits["film"].picture(out / "empty.png")
            print("film:", draws_a_film(visits["film"], given, out, records))
            print("queue:", waits_and_cancels(visits["first"], visits["second"], given, out))
            print("live:", is_live(visits["live"], given, out))
            print("keyboard:", goes_by_keyboard(visits["keyboard"], given))
            print("phone, dark:", fits_a_phone(visits["phone"], given, out))
        for visit in visits.values():
            assert not visit.errors, visit.errors
            assert visit.hosts <= {address.split("/")[2], ""}, visit.hosts
        with serving(run, files, "--host", "0.0.0.0") as address:
            port = address.split(":")[2].partition("/")[0]
            Visit(browser, f"http://127.0.0.1:{port}/", PHONE).picture(out / "token.png")
            visit = Visit(browser, f"http://127.0.0.1:{port}/?{address.partition('?')[2]}", DESKTOP)
            assert "token" not in visit.page.url and visit.page.is_visible("#draw"), visit.page.url
            print("token: asked for, and not left in the address")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
