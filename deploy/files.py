"""Files that belong to the code: found the same way in a checkout and in an installed package.

Those at the top of a checkout have links in `deploy/top`. A built package holds the files themselves there.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_DEPLOY = Path(__file__).resolve().parent
PRESETS = _DEPLOY / "presets"
"""One TOML file of settings for each preset."""
APPROVED = _DEPLOY / "approved"
"""The approved settings that docker-compose.yml gives its sites, one TOML file for each preset."""
TOP = _DEPLOY / "top"
"""pyproject.toml and the compose files: as a folder of Flower's, it describes the app that is installed here."""
_NOT_COPIED = shutil.ignore_patterns("__pycache__", "certs", "top")
"""Keys among them: `deploy/certs.sh` writes them to deploy/certs."""


def app_packages() -> list[str]:
    """Packages that Flower's apps import, as pyproject.toml lists them."""
    patterns = _project()["tool"]["flwr"]["app"]["fab-include"]
    return [pattern.partition("/")[0] for pattern in patterns]


def all_packages() -> list[str]:
    """Packages that are installed, as pyproject.toml lists them."""
    patterns = _project()["tool"]["setuptools"]["packages"]["find"]["include"]
    return [pattern.removesuffix("*") for pattern in patterns]


def write_app(target: Path) -> None:
    """Write the folder that `flwr run` packs: pyproject.toml and the apps' packages.

    Args:
        target: folder to write; must not exist.
    """
    _copy_packages(app_packages(), target)
    shutil.copy(TOP / "pyproject.toml", target)


def write_deployment(target: Path) -> None:
    """Write the folder in which `docker compose up` works: compose files, and all that images are built of.

    Args:
        target: folder to write; must not exist. It is there when it is whole.
    """
    unfinished = target.with_name(f"{target.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _copy_packages(all_packages(), unfinished)
        links = unfinished / "deploy" / TOP.name
        links.mkdir()
        for file in sorted(TOP.iterdir()):
            shutil.copy(file, unfinished)
            (links / file.name).symlink_to(Path("..", "..", file.name))
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _copy_packages(packages: Iterable[str], target: Path) -> None:
    for package in packages:
        shutil.copytree(_DEPLOY.parent / package, target / package, ignore=_NOT_COPIED)


def _project() -> dict[str, Any]:
    return tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
