"""What is installed is what the lock files name, whatever an index has today."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.support.paths import ROOT

LOCKS = ROOT / "deploy" / "locks"
NAMES = ("python.txt", "torch-pypi.txt", "torch-cpu.txt", "dev.txt", "weights.txt", "tools.txt")
BLOCK = re.compile(
    r"^([a-z0-9-]+)==(\S+)(?: ; [^\n\\]*[^ \\])? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE
)


def versions(name: str) -> dict[str, set[str]]:
    """Package to its locked versions: several where they depend on Python's version."""
    found: dict[str, set[str]] = {}
    for package, version, _ in BLOCK.findall((LOCKS / name).read_text()):
        found.setdefault(package, set()).add(version)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_line_is_one_version_with_hashes_and_no_index(name: str) -> None:
    header, _, rest = (LOCKS / name).read_text().partition("\n")
    assert header.startswith("# Written by `make lock`")
    assert BLOCK.sub("", rest) == ""
    assert versions(name)


def test_every_requirement_of_the_project_is_locked_within_its_range() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = versions("python.txt") | versions("torch-pypi.txt")
    for locked, requirements in (
        (needed, project["dependencies"]),
        (versions("python.txt") | versions("torch-cpu.txt"), project["dependencies"]),
        *((versions("dev.txt"), requirements) for requirements in project["optional-dependencies"].values()),
    ):
        for requirement in map(Requirement, requirements):
            assert locked[requirement.name], requirement
            assert all(requirement.specifier.contains(version) for version in locked[requirement.name]), requirement
            assert any(part.operator in ("==", "<") for part in requirement.specifier), (
                f"{requirement} has no upper end"
            )


def test_both_builds_of_pytorch_are_one_version() -> None:
    cpu, pypi = versions("torch-cpu.txt"), versions("torch-pypi.txt")
    for package in ("torch", "torchvision"):
        assert {f"{version}+cpu" for version in pypi[package]} == cpu[package]


def test_nothing_is_installed_beside_the_locks_or_from_two_indexes() -> None:
    for name in ("Makefile", "deploy/Dockerfile", ".ci/run"):
        text = (ROOT / name).read_text()
        assert "extra-index-url" not in text
        for line in text.replace("\\\n", " ").splitlines():
            if re.search(r"pip (install|download)", line) and "--no-build-isolation" not in line:
                assert "--require-hashes" in line and "--no-deps" in line, f"{name}: {line}"
