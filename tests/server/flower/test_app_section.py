"""The [tool.flwr.app] sections of pyproject.toml, by which `flwr run .` finds everything."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from deploy.files import write_app
from federation.settings import Settings
from tests.support.paths import ROOT


def flower_section() -> dict[str, object]:
    section: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    return section


def test_flower_config_lists_every_setting_with_its_default_in_order() -> None:
    assert list(flower_section()["config"].items()) == list(Settings().to_flat().items())  # type: ignore[attr-defined]


def test_flower_config_has_the_types_of_the_settings() -> None:
    types = {key: type(value) for key, value in flower_section()["config"].items()}  # type: ignore[attr-defined]
    assert types == {key: type(value) for key, value in Settings().to_flat().items()}


@pytest.mark.integration
def test_what_is_packed_is_enough_for_the_apps_to_start(tmp_path: Path) -> None:
    """Alone, on a machine where nothing of this project is installed."""
    write_app(tmp_path / "app")
    script = (
        "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f)]; "
        "import client.app, server.app, model; print(model.__file__, 'torchvision' in sys.modules)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path / "app", capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == f"{tmp_path / 'app' / 'model' / '__init__.py'} False", done.stderr
