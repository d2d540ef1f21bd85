"""Pages that name tests as proof name tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT


@pytest.mark.parametrize("page", ["security.md", "privacy.md", "attacks.md"])
def test_tests_that_a_page_names_are_there(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    files = {match for match in re.findall(r"`(tests/[\w/.]+\.py)", text)}
    assert files
    assert [file for file in sorted(files) if not (ROOT / file).is_file()] == []
    functions = set(re.findall(r"\b(test_\w+)`", text)) - {Path(file).stem for file in files}
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    missing = [name for name in sorted(functions) if f"def {name}(" not in sources]
    assert missing == []


def test_links_of_the_security_page_lead_somewhere() -> None:
    folder = ROOT / "docs"
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (folder / "security.md").read_text(encoding="utf-8")):
        assert (folder / target).is_file(), target
