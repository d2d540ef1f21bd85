"""A page of an untrained model, drawn people to give it, and browsers of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from data_partition.shards.images import write_image
from data_partition.shards.shard import open_shard
from data_partition.synth.dataset import synthesize
from model.checkpoint import save_checkpoint
from reenact.page.app import Page
from reenact.page.desk import Desk, Job
from reenact.studio import Studio
from tests.support.films import click_samples, write_film
from tests.support.small_face import small_checkpoint

ADDRESS = "http://localhost:8765"
CONSENT = {"agreed": True, "basis": "synthetic", "name": "A. Tester", "purpose": "a test"}


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of anna.png, two.png (two people), grey.png (nobody), ben.mp4 (with sound)."""
    root = tmp_path_factory.mktemp("people")
    anna, ben = (
        open_shard(path)
        for path in synthesize(root / "drawn", num_identities=2, num_frames=20, size_px=128, num_workers=1)
    )
    write_image(root / "anna.png", anna.read_frame(0))
    write_image(root / "two.png", np.concatenate([anna.read_frame(0), ben.read_frame(0)], axis=1))
    write_image(root / "grey.png", np.full((128, 128, 3), 90, np.uint8))
    pictures = [ben.read_frame(index) for index in range(12)]
    clip = root / "ben.mp4"
    sound = {"codec": "aac", "samples": click_samples(0.2, 0.48)}
    write_film(clip, range(12), time_base=Fraction(1, 25), pictures=pictures, **sound)
    return root


class Served:
    """A page in this process."""

    def __init__(self, folder: Path, *, token: str = "", consent: Path | None = None) -> None:
        save_checkpoint(folder / "run", small_checkpoint())
        self.root, self.desk = folder / "page", Desk()
        self.root.mkdir()
        self.studio = Studio(folder / "run", torch.device("cpu"), self.desk.progress)
        places = {"checkpoint": folder / "run", "studio": self.studio, "desk": self.desk, "root": self.root}
        self.page = Page(**places, cookie="session", token=token, is_secure=False, consent=consent)
        self.app = self.page.app(frozenset(["localhost"]))

    def browser(self, path: str = "/") -> Browser:
        """That has opened the page."""
        browser = Browser(self.app, base_url=ADDRESS, headers={"origin": ADDRESS}, raise_server_exceptions=False)
        browser.get(path)
        return browser


class Browser(TestClient):
    """What page.js asks."""

    def give(self, path: Path) -> Any:
        """An upload's answer."""
        return self.post("/files", params={"name": path.name}, content=path.read_bytes()).json()

    def number(self, path: Path) -> str:
        """Of an upload."""
        return str(self.give(path)["number"])

    def order(self, **wanted: object) -> Any:
        """The answer to an order."""
        return self.post("/jobs", json=wanted).json()

    def ended(self, number: str) -> Any:
        """What a job says when it is done."""
        while (said := self.get(f"/jobs/{number}").json())["state"] in ("waiting", "working"):
            time.sleep(0.02)
        return said


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts pages, and ends them."""
    with ExitStack() as stack:

        def serve(**choices: Any) -> Served:
            served = Served(tmp_path, **choices)
            stack.enter_context(TestClient(served.app))
            return served

        yield serve


@pytest.fixture
def served(serving: Callable[..., Served]) -> Served:
    """A page that asks for no token."""
    return serving()


@pytest.fixture
def browser(served: Served) -> Browser:
    """That has opened it."""
    return served.browser()


class Held:
    """Work that goes on until it is let go, and says its progress again and again."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self.has_begun, self._may_end = desk, threading.Event(), threading.Event()

    def __call__(self, _job: Job) -> dict[str, object]:
        self.has_begun.set()
        while not self._may_end.wait(0.01):
            self._desk.progress("Holding", 1, 2)
        return {"held": True}

    def let_go(self) -> None:
        self._may_end.set()
