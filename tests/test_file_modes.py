"""Faces and what is trained on them are for the user who made them, whatever the umask of the shell."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import entry as cli
from tests.support.federated_setup import MINIMAL

TOUCH = "touch = lambda: open(sys.argv[1], 'w').close()"
SITE = f"""
import sys; from types import SimpleNamespace; import client.supernode.own_code as own; {TOUCH}
own.run_clientapp.run_clientapp = lambda **_: touch()
own.answer(SimpleNamespace(runtime_api_address="", token="", insecure=True, root_certificates_path=None, parent_pid=1))
"""
SUPERNODE = f"""
import sys; import client.supernode.process as own; {TOUCH}
own.site_of = lambda arguments: (touch(), sys.exit())
own.main()
"""
SUPERLINK = f"""
import importlib, sys; import server.flower.superlink_process as own; {TOUCH}
importlib.import_module("flwr.superlink.cli.flower_superlink").flower_superlink = touch
own.main()
"""
SUPEREXEC = "import server.flower.superexec_process as own; own.main()"


def modes(root: Path) -> dict[str, set[str]]:
    """Modes of all files and of all folders below a folder, and its own."""
    found: dict[str, set[str]] = {"files": set(), "folders": set()}
    for path in (root, *root.rglob("*")):
        kind = "folders" if path.is_dir() else "files"
        found[kind].add(oct(stat.S_IMODE(path.stat().st_mode)))
    return found


def under_a_careless_umask(code: str, *arguments: str, path: str = "") -> None:
    environment = os.environ | {"PATH": f"{path}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, umask=0o022, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def careless_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("careless_umask")
def test_faces_checkpoints_and_contact_sheets_are_for_their_user_alone(tmp_path: Path) -> None:
    preset = tmp_path / "minimal.toml"
    flat = MINIMAL | {"max-rounds": 1, "local-steps": 1}
    preset.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in flat.items()), encoding="utf-8")
    dataset, run = tmp_path / "dataset", tmp_path / "run"
    for command in (
        ["synth", str(dataset), "--identities", "1", "--frames", "20", "--size", "32"],
        ["train", str(dataset), "--out", str(run), "--mode", "centralized", "--preset", str(preset)],
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(command)
        assert not ended.value.code
    assert list(dataset.glob("*/frames/*.jpg")) and list(run.glob("round-*/*.safetensors"))
    for folder in (dataset, run):
        assert modes(folder) == {"files": {"0o600"}, "folders": {"0o700"}}


def test_what_a_site_approved_is_readable_for_its_container(tmp_path: Path) -> None:
    approved = tmp_path / "approved.toml"
    before = os.umask(0o077)
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main(["approve", "tiny", "--out", str(approved)])
    finally:
        os.umask(before)
    assert not ended.value.code
    assert stat.S_IMODE(approved.stat().st_mode) == 0o644


@pytest.mark.integration
@pytest.mark.parametrize(
    "code", [SITE, SUPERNODE, SUPERLINK, SUPEREXEC], ids=["site", "supernode", "superlink", "superexec"]
)
def test_what_the_services_write_is_for_their_user_alone(tmp_path: Path, code: str) -> None:
    (tmp_path / "bin").mkdir()
    superexec = tmp_path / "bin" / "flower-superexec"
    superexec.write_text('#!/bin/sh\ntouch "$1"\n', encoding="utf-8")
    superexec.chmod(0o755)
    under_a_careless_umask(code, str(tmp_path / "file"), path=str(tmp_path / "bin"))
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
