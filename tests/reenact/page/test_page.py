"""The page and its script fit together, and nobody is left out who hears it or uses keys."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

import reenact.page
from reenact.page.desk import State
from tests.reenact.page.conftest import Browser

SCRIPT = (Path(reenact.page.__file__).parent / "static" / "page.js").read_text(encoding="utf-8")
EMPTY = {"input", "img", "meta", "link", "br"}


@dataclass
class Read(HTMLParser):
    """Elements of a page, and in which they are."""

    tags: list[tuple[str, dict[str, str | None], list[str]]] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs), list(self.inside)))
        if tag not in EMPTY:
            self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.inside.pop() == tag

    def of(self, name: str) -> set[str]:
        """Values of an attribute."""
        return {str(attributes[name]) for _, attributes, _ in self.tags if name in attributes}


@pytest.fixture
def page(browser: Browser) -> Read:
    read = Read()
    read.feed(browser.get("/").text)
    assert not read.inside
    return read


def test_all_that_the_script_asks_for_is_on_the_page(page: Read) -> None:
    asked = set(re.findall(r'(?:element|say|show|fill)\("([a-z-]+)"', SCRIPT))
    asked |= {
        f"{role}-{part}" for role in ("source", "driving") for part in ("files", "list", "faces", "problem", "drop")
    }
    assert asked <= page.of("id")
    assert len(page.of("id")) == sum("id" in attributes for _, attributes, _ in page.tags)


def test_whatever_is_pointed_to_is_there(page: Read) -> None:
    for name in ("for", "aria-labelledby", "aria-describedby"):
        assert page.of(name) <= page.of("id")
    assert {target[1:] for target in page.of("href") if len(target) > 1 and target[0] == "#"} <= page.of("id")


def test_every_field_has_a_label_and_every_picture_a_text(page: Read) -> None:
    for tag, attributes, inside in page.tags:
        if tag == "input":
            assert "label" in inside or attributes.get("id") in page.of("for") or attributes.get("aria-label"), (
                attributes
            )
        if tag in ("img", "video", "canvas"):
            assert attributes.get("alt") or attributes.get("aria-label"), attributes
        assert int(attributes.get("tabindex") or 0) <= 0


def test_the_script_knows_the_states_of_jobs() -> None:
    compared = set(re.findall(r'state [!=]== "([a-z]+)"', SCRIPT)) - {"ready"}
    assert compared == set(State)


def test_the_model_and_its_strengths_are_shown_as_they_are(browser: Browser) -> None:
    text = browser.get("/").text
    assert "Model <b>run</b>, results of 32 pixels." in text
    assert "it has no strengths for people it does not know" in text  # the checkpoint has no base
    assert 'type="range" id="strength-' not in text
