"""The [tool.flwr.app] sections of pyproject.toml, by which `flwr run .` finds everything."""

from __future__ import annotations

import tomllib

from federation.settings import Settings
from tests.paths import ROOT


def flower_section() -> dict[str, object]:
    section: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    return section


def test_flower_config_lists_every_setting_with_its_default_in_order() -> None:
    assert list(flower_section()["config"].items()) == list(Settings().to_flat().items())  # type: ignore[attr-defined]


def test_flower_config_has_the_types_of_the_settings() -> None:
    types = {key: type(value) for key, value in flower_section()["config"].items()}  # type: ignore[attr-defined]
    assert types == {key: type(value) for key, value in Settings().to_flat().items()}


def test_only_the_packages_that_the_apps_import_are_packed() -> None:
    assert flower_section()["fab-include"] == [
        f"{package}/**/*.py" for package in ("model", "data_partition", "federation", "client", "evaluation", "server")
    ]
