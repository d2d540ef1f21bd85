from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from client.node_config import SUPERNODE_VARIABLE, NodeConfig, check_launch
from client.supernode.process import site_of
from model.errors import ConfigError


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("data", "state", "keys"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("")
    return tmp_path


def options(root: Path, changes: str = "", *, drop: str = "") -> list[str]:
    pairs = {
        "partition-id": "partition-id=2",
        "data-dir": f'data-dir="{root}/data"',
        "state": f'state-dir="{root}/state"',
    }
    pairs.pop(drop, None)
    return ["--insecure", "--superlink", "here:9092", "--node-config", " ".join([*pairs.values(), changes])]


def test_a_sound_node_config_is_taken(folders: Path) -> None:
    more = f'site-keys="{folders}/keys" node-key="{folders}/file" approved-settings="{folders}/file" max-local-steps=7'
    site = site_of(options(folders, more))
    assert (site.partition_id, site.state_dir) == (2, folders / "state")
    assert (site.site_keys, site.node_key) == (folders / "keys", folders / "file")
    assert site.policy.max_local_steps == 7


def test_a_toml_file_is_taken_too(folders: Path) -> None:
    file = folders / "node.toml"
    file.write_text(f'partition-id = 1\ndata-dir = "{folders}/data"\nstate-dir = "{folders}/state"\n')
    assert site_of(["--node-config", str(file)]).partition_id == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ("min-site-in-sum=3", "unknown key 'min-site-in-sum'; did you mean min-sites-in-sum?"),
        ("data_dir=7", "unknown key 'data_dir'; did you mean data-dir?"),
        ("num-partitions=5", "num-partitions is for simulations"),
        ("num-partitions=0", "got num-partitions 0, wanted a whole number >= 1"),
        ("max-local-steps 100", "cannot read 'max-local-steps 100'"),
        ("min-frames = 40", "cannot read 'min-frames = 40'"),
        ("identity-label=anna", "invalid format"),
        ('site-keys="/no/such/folder"', "site-keys '/no/such/folder', which is no folder here"),
        ('node-key="/no/such/file"', "got node-key '/no/such/file', wanted a file"),
        ('approved-settings="/"', "got approved-settings '/', wanted a file"),
    ],
)
def test_a_mistake_is_one_clear_error(folders: Path, changes: str, reason: str) -> None:
    with pytest.raises(ConfigError) as error:
        site_of(options(folders, changes))
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("data", "state", "reason"),
    [
        ("{0}/gone", "{0}/state", "data-dir '{0}/gone', which is no folder here"),
        ("{0}/data", "{0}/gone", "state-dir '{0}/gone', which is no folder here"),
        ("{0}/file", "{0}/state", "data-dir '{0}/file', which is no folder here"),
        ("{0}/data", "{0}/data", "lie in each other"),
        ("{0}", "{0}/state", "lie in each other"),
        ("{0}/data", "{0}/keys/../", "lie in each other"),
    ],
)
def test_folders_are_there_and_apart(folders: Path, data: str, state: str, reason: str) -> None:
    flat = {"partition-id": 0, "data-dir": data.format(folders), "state-dir": state.format(folders)}
    with pytest.raises(ConfigError) as error:
        NodeConfig.from_flat(flat).check_site()
    assert reason.format(folders) in str(error.value)


@pytest.mark.parametrize(
    ("path", "mode", "wanted"),
    [("data", 0o300, "readable"), ("state", 0o500, "readable and writable"), ("file", 0o200, "can read")],
)
def test_what_the_user_may_not_use_is_named(path: str, mode: int, wanted: str) -> None:
    """As another user where the tests' own may do all things."""
    check = (
        "import json, os, sys\n"
        "from client.node_config import NodeConfig\n"
        "os.setuid(int(sys.argv[1]))\n"
        "NodeConfig.from_flat(json.loads(sys.argv[2])).check_site()\n"
    )
    user = os.getuid() or 65534
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "data").mkdir()
        (root / "state").mkdir()
        (root / "file").touch()
        for made in root.iterdir():
            os.chown(made, user, -1)
        (root / path).chmod(mode)
        flat = {"data-dir": f"{root}/data", "state-dir": f"{root}/state", "node-key": f"{root}/file", "partition-id": 0}
        command = [sys.executable, "-c", check, str(user), json.dumps(flat)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        (root / path).chmod(0o700)
    (line,) = done.stderr.strip().splitlines()[-1:]
    assert line.startswith("model.errors.ConfigError: node config: ") and wanted in line


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        (["--isolation", "process"], "--isolation process"),
        (["--allow-runtime-dependency-installation"], "a site installs nothing"),
    ],
)
def test_options_that_would_let_other_code_in_are_refused(folders: Path, option: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        site_of([*options(folders), *option])


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "client.supernode.process", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.integration
def test_a_mistake_is_one_line_and_exit_code_2(folders: Path) -> None:
    done = run(options(folders, "num-partitions=5"))
    assert done.returncode == 2
    assert done.stderr == "error: node config: num-partitions is for simulations; a deployed site leaves it out\n"
    assert done.stdout == ""


def test_the_own_clientapp_answers_only_below_the_supernode(monkeypatch: pytest.MonkeyPatch) -> None:
    check_launch()
    monkeypatch.delenv(SUPERNODE_VARIABLE)
    with pytest.raises(ConfigError, match="not started by fedreenact-supernode"):
        check_launch()


@pytest.mark.parametrize("content", ["", "-----BEGIN EC PRIVATE KEY-----\n", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_file_that_is_no_authority_is_one_clear_error(folders: Path, content: str) -> None:
    (folders / "ca.crt").write_text(content)
    tls = ["--root-certificates", f"{folders}/ca.crt", *options(folders)[1:]]
    with pytest.raises(
        ConfigError, match=r"ca\.crt holds no certificate in PEM form .* wanted the federation's ca\.crt"
    ):
        site_of(tls)


@pytest.mark.integration
def test_a_supernode_that_fails_ends_whatever_flowers_threads_do(tmp_path: Path) -> None:
    code = (
        "import sys, threading, time\n"
        "from pathlib import Path\n"
        "import flwr.supernode.cli.flower_supernode\n"
        "from client.supernode import process\n"
        "def fails():\n"
        "    threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "    raise LookupError('nobody foresaw it')\n"
        "sys.modules['flwr.supernode.cli.flower_supernode'].flower_supernode = fails\n"
        "process.log_to_stderr('client')\n"
        f"process._serve(Path({str(tmp_path)!r}))\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "it ends, to be started again" in done.stderr and "nobody foresaw it" in done.stderr
