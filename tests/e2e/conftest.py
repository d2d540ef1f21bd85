from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def image() -> None:
    """The image, built; the tests are skipped where there is no Docker engine."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no Docker engine answers")
    done = subprocess.run(
        ["docker", "compose", "build"], cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope="session")
def without_grafana(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that leaves Grafana out: its dashboards are tested by their queries."""
    path = tmp_path_factory.mktemp("compose") / "without-grafana.yml"
    path.write_text("services:\n  grafana: {profiles: [by-hand]}\n")
    return path
