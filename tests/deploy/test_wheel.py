"""What `pip install .` installs works in an empty folder, without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from deploy.files import all_packages, app_packages
from tests.support.paths import ROOT

pytestmark = pytest.mark.integration

FOLDERS = (*all_packages(), "benchmarks", "docs", "tests")
RUN_ALL = """
from cli.entry import app
for command in sys.argv[1:]:
    app(command.split(), standalone_mode=False)
"""
RENDER = "from experiments.templating import render; print(render('style.html.j2'))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy of the checkout: in the checkout itself it would leave its working files."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"):
        shutil.copy(file, source)
    (source / "deploy" / "certs").mkdir(exist_ok=True)
    (source / "deploy" / "certs" / "ca.key").write_text("a key that must not travel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
    ]
    subprocess.run([*command, "--no-build-isolation", "--wheel-dir", folder, source], check=True, timeout=300)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The wheel's packages, in a folder for PYTHONPATH."""
    folder = wheel.parent / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def in_empty_folder(installed: Path, folder: Path, script: str, *arguments: str) -> str:
    """What a script prints that imports the unpacked wheel and cannot see the checkout."""
    script = f"import sys, cli; assert cli.__file__.startswith({str(installed)!r}), cli.__file__\n{script}"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fedreenact(installed: Path, folder: Path, *commands: str) -> str:
    """What several commands print, one after the other in one process."""
    return in_empty_folder(installed, folder, RUN_ALL, *commands)


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == set(all_packages())
    assert not [name for name in names if "certs/" in name or "__pycache__" in name]
    packed = {name for name in names if name.endswith(".py")}
    assert packed == {
        path.relative_to(ROOT).as_posix() for package in all_packages() for path in (ROOT / package).rglob("*.py")
    }


def test_commands_find_presets_and_templates(installed: Path, tmp_path: Path) -> None:
    said = in_empty_folder(
        installed,
        tmp_path,
        RUN_ALL + RENDER,
        "settings --preset small",
        "approve tiny --out approved.toml",
        "synth faces --identities 1 --frames 20 --size 32 --workers 1",
        "doctor faces --page page.html",
    )
    assert "image-size-px = 128\n" in said
    assert (tmp_path / "approved.toml").is_file()
    assert "person-01" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "font-size" in said


def test_help_waits_for_nothing_heavy(installed: Path, tmp_path: Path) -> None:
    heavy = "{'numpy', 'torch', 'flwr', 'cv2', 'cryptography', 'matplotlib', 'pyarrow', 'httpx'}"
    assert in_empty_folder(installed, tmp_path, f"print(sorted({heavy} & sys.modules.keys()))").strip() == "[]"


def test_the_app_that_flower_runs_is_found(installed: Path, tmp_path: Path) -> None:
    """By the machine that submits a run, and by the site's own processes."""
    script = (
        "import os\n"
        "from pathlib import Path\n"
        "from flwr.common.config import get_metadata_from_config, get_project_config\n"
        "from flwr.supernode.runtime import run_clientapp\n"
        "from client.node_config import SUPERNODE_VARIABLE\n"
        "from client.supernode.own_code import keep_to_own_code\n"
        "from deploy.files import write_app\n"
        "write_app(Path('app'))\n"
        "os.environ[SUPERNODE_VARIABLE] = '1'\n"
        "keep_to_own_code()\n"
        "load = run_clientapp.get_load_client_app_fn(default_app_ref='', app_path=None, multi_app=True)\n"
        "load(*get_metadata_from_config(get_project_config('app')), '0' * 64)\n"
        "print(sys.modules['client.app'].__file__)"
    )
    loaded = in_empty_folder(installed, tmp_path, script).strip()
    assert loaded == str(installed / "client" / "app.py")
    assert sorted(path.name for path in (tmp_path / "app").iterdir()) == sorted([*app_packages(), "pyproject.toml"])


def test_deployment_writes_what_compose_and_the_images_need(installed: Path, tmp_path: Path) -> None:
    fedreenact(installed, tmp_path, "deployment fleet")
    fleet = tmp_path / "fleet"
    for file in (*sorted(ROOT.glob("docker-compose*.yml")), ROOT / ".dockerignore", ROOT / "pyproject.toml"):
        assert (fleet / file.name).read_bytes() == file.read_bytes()
        link = fleet / "deploy" / "top" / file.name
        assert link.is_symlink() and link.resolve() == (fleet / file.name).resolve()
    for package in all_packages():
        tracked = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")}
        assert {path.relative_to(fleet) for path in (fleet / package).rglob("*.py")} == tracked
    assert os.access(fleet / "deploy" / "certs.sh", os.R_OK)
    assert (fleet / "deploy" / "grafana" / "dashboards" / "federation.json").is_file()
    assert not (fleet / "tests").exists()
