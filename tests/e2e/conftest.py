from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.compose import ROOT, Compose
from tests.e2e.foreign_app import SITES
from tests.e2e.settings import SETTINGS, approve, drawing_people

_LAST_LINES = "150"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed says what the services said last."""
    report = yield
    federation: Any = getattr(item, "funcargs", {}).get("federation")
    if report.failed and isinstance(federation, Compose):
        for site in SITES:
            with contextlib.suppress(subprocess.TimeoutExpired):
                federation("exec", "-T", site, "python", "-m", "federation.stacks", "1", timeout_s=60, check=False)
        for service in ("run", "server", "superlink", *SITES):
            said = federation("logs", "--no-color", "--tail", _LAST_LINES, service, check=False)
            report.sections.append((f"last words of {service}", said))
        report.sections.append(("services", federation("ps", "--all", check=False)))
    return report


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


@pytest.fixture(scope="session")
def few_frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that has 80 frames of each person drawn, which takes a fifth of the time."""
    path = tmp_path_factory.mktemp("compose") / "few-frames.yml"
    path.write_text(f'services:\n  seed:\n    command: [sh, -ec, "{drawing_people(5)}"]\n')
    return path


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ours, and `other`: a CA and keys that the federation does not know."""
    folder = tmp_path_factory.mktemp("certs")
    folder.parent.chmod(0o755)
    folder.chmod(0o755)
    for name in ("ours", "other"):
        subprocess.run([ROOT / "deploy" / "certs.sh", "demo", folder / name], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def approved(certs: Path) -> Path:
    """What the five sites agreed to: the settings of these runs."""
    return approve(certs / "approved.toml", SETTINGS)
