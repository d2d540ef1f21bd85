"""Pages lead somewhere, and name commands and options that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from cli.entry import app
from tests.support.paths import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
MAX_README_WORDS = 700
MAX_IMAGE_BYTES = 200_000


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def named(page: Path) -> list[tuple[str, list[str]]]:
    """Commands of ours that a page shows, each with its options."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    shown = re.findall(r"`([^`\n]+)`", text) + [
        line for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) for line in block.splitlines()
    ]
    calls = [match for one in shown for match in re.findall(r"(?<!/)\bfedreenact ([a-z]+)\b([^#;&|]*)", one)]
    return [(command, re.findall(r"(?<!\S)(--[a-z-]+)", rest)) for command, rest in calls]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8").replace("(thesis", "")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in anchors(file), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_options_that_a_page_shows_are_there(page: Path) -> None:
    for command, options in named(page):
        assert command in COMMANDS, f"fedreenact {command}"
        known = {option for parameter in COMMANDS[command].params for option in parameter.opts} | {"--help"}
        assert set(options) <= known, f"fedreenact {command} {' '.join(options)}"


def test_the_tutorial_shows_every_command() -> None:
    assert {command for command, _ in named(ROOT / "docs" / "tutorial.md")} == set(COMMANDS)


def test_the_readme_is_short_and_pictures_are_small() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= MAX_README_WORDS
    images = sorted((ROOT / "docs" / "images").iterdir())
    assert images and all(image.stat().st_size < MAX_IMAGE_BYTES for image in images)
