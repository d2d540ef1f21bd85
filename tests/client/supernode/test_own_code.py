from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.integration

SCRIPT = """
import sys
from pathlib import Path

import pytest
from flwr.supernode.runtime import run_clientapp
from client.supernode.own_code import keep_to_own_code

keep_to_own_code(Path(sys.argv[1]))
run_clientapp.install_from_fab(b"not even a zip file", skip_prompt=True)
load = run_clientapp.get_load_client_app_fn(default_app_ref="", app_path=None, multi_app=True)
load(sys.argv[2], sys.argv[3], "0" * 64)
import own_app
print("loaded", own_app.WHO)
"""

PYPROJECT = """
[project]
name = "fedreenact"
version = "1.2.3"
[tool.flwr.app]
publisher = "fedreenact"
[tool.flwr.app.components]
serverapp = "own_app:server"
clientapp = "own_app:client"
"""

OWN_APP = """
from flwr.clientapp import ClientApp
WHO = "the site"
client = ClientApp(lambda context: None)
server = None
"""


def answer(folder: Path, app_id: str, version: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, as a site does it: Flower's module is changed for good."""
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "own_app.py").write_text(OWN_APP)
    command = [sys.executable, "-c", SCRIPT, str(folder), app_id, version]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)


def test_the_sites_own_app_is_loaded_and_nothing_is_unpacked(tmp_path: Path) -> None:
    done = answer(tmp_path, "fedreenact/fedreenact", "1.2.3")
    assert done.stdout.strip().splitlines()[-1:] == ["loaded the site"], done.stderr


def test_another_version_is_refused(tmp_path: Path) -> None:
    done = answer(tmp_path, "fedreenact/fedreenact", "1.2.4")
    assert done.returncode != 0
    assert "FAB ID or version mismatch" in done.stderr
    assert "loaded" not in done.stdout


def test_another_app_is_refused(tmp_path: Path) -> None:
    done = answer(tmp_path, "somebody/else", "1.2.3")
    assert done.returncode != 0
    assert "FAB ID or version mismatch" in done.stderr


@pytest.mark.parametrize("module", ["superexec_process", "process"])
def test_a_sites_processes_start_without_pytorch(module: str) -> None:
    """Flower starts another process in place of one that is silent for half a minute, and on a busy machine so on."""
    script = f"import sys, client.supernode.{module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
