"""A real SuperLink, SuperExec and site on loopback; somebody submits an AgentApp, which Flower runs at every site."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from flwr.cli.build import build_fab_from_disk
from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.supercore.control.control_http_client import ControlHttpClient

from client.consent.approval import Approval
from client.node_config import SUPERNODE_VARIABLE
from federation.settings import Settings
from server.flower.commands import FlowerCommands
from tests.support.federated_setup import minimal_settings, write_dataset

pytestmark = pytest.mark.integration

PYPROJECT = """
[project]
name = "spy"
version = "1.0.0"
[tool.flwr.app]
publisher = "somebody"
[tool.flwr.app.components]
agentapp = "spy:app"
"""

SPY = """
import json, os, pathlib
from flwr.agentapp import AgentApp

app = AgentApp()
OUT = pathlib.Path({out!r})

def call(agent, name, **arguments):
    answer = agent.grid.call({{"name": name, "call_id": "1", "arguments": arguments}})
    return json.loads(answer["output"])

@app.main()
def main(agent, context):
    if context.node_config:  # at a site
        frames = sorted(pathlib.Path(context.node_config["data-dir"]).rglob("*.*"))
        (OUT / "ran-at-a-site").write_text(str(frames))
        call(agent, "push_reply_message", payload=str(frames))
        return
    nodes = call(agent, "get_nodes", sample_size=None)["nodes"]
    message = {{"payload": "faces, please", "reply_to_message_id": None}}
    messages = [{{"dst_node_id": node["id"]}} | message for node in nodes]
    sent = call(agent, "push_messages", messages=messages)["results"]
    ids = [result["message_id"] for result in sent]
    messages = []
    for _ in range({patience_s} // 60):  # Flower waits 300 s at most for one
        answer = call(agent, "pull_messages", message_ids=ids, timeout=60)
        messages, ids = messages + answer["messages"], answer["pending_message_ids"]
        if not ids:
            break
    (OUT / "replies.partial").write_text(json.dumps({{"messages": messages}}))
    (OUT / "replies.partial").rename(OUT / "replies.json")
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, is_there: Callable[[], bool], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_there():
        assert time.monotonic() < deadline, f"no {what} within {timeout_s:g} s"
        time.sleep(0.2)


def is_up(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
            return True
    except OSError:
        return False


@contextmanager
def process(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, asked to end and then made to."""
    known = {key: value for key, value in os.environ.items() if key != SUPERNODE_VARIABLE}
    with log.open("wb") as file:
        running = subprocess.Popen(
            command, stdout=file, stderr=file, env=known | environment, cwd=log.parent, start_new_session=True
        )
    try:
        yield running
    finally:
        running.terminate()
        with suppress(subprocess.TimeoutExpired):
            running.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


class Federation:
    """Addresses, and what was written."""

    site: subprocess.Popen[bytes]

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port, self.fleet_port, self.site_port = free_port(), free_port(), free_port()
        self.dataset = write_dataset(root / "data", 1)
        self.state = root / "state"
        self.out = root / "out"
        for folder in (self.state, self.out, root / "no-commands"):
            folder.mkdir()
        self.settings = minimal_settings(root, root / "run", 1, data_dir="", max_rounds=1, round_timeout_s=300.0)
        self.approved = root / "approved.toml"
        Approval(self.settings).write(self.approved)
        # The site finds no command at all: what it runs does not depend on PATH.
        self.site_environment = {"FLWR_HOME": str(root / "site-home"), "PATH": str(root / "no-commands")}

    def site_command(self) -> list[str]:
        return [sys.executable, "-P", "-m", "client.supernode.process", *self.site_options(self.site_port)]

    def site_options(self, port: int) -> list[str]:
        node_config = f'partition-id=0 data-dir="{self.dataset / "person-0"}" state-dir="{self.state}" '
        node_config += f'approved-settings="{self.approved}" min-frames=5 min-samples-per-round=4'
        options = ["--insecure", "--superlink", f"127.0.0.1:{self.fleet_port}", "--port", str(port)]
        return [*options, "--node-config", node_config]

    def site_log(self) -> str:
        return (self.root / "site.log").read_text()

    def submit(self, app: Path) -> None:
        fab = build_fab_from_disk(app)
        client = ControlHttpClient.from_server_address(f"127.0.0.1:{self.port}", True, None, [])
        digest = hashlib.sha256(fab).hexdigest()
        answer = client.StartRun(StartRunRequest(fab=Fab(hash_str=digest, content=fab), user_prompt="faces, please"))
        assert answer.run_id

    def run(self, settings: Settings, folder: Path) -> tuple[FlowerCommands, int]:
        """Submit an honest run."""
        run_config = folder / "run.toml"
        run_config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.to_flat().items()))
        flower = FlowerCommands(folder / "submitter")
        flower.connect(f"127.0.0.1:{self.port}", None)
        return flower, flower.submit(run_config)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    root = tmp_path_factory.mktemp("foreign-code")
    federation = Federation(root)
    commands = Path(sys.executable).parent
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    server = quiet | {"FLWR_HOME": str(root / "server-home"), "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
    superlink = [str(commands / "fedreenact-superlink"), "--insecure", "--isolation", "process", "--host", "127.0.0.1"]
    superlink += ["--port", str(federation.port), "--disable-runtime-dependency-installation"]
    superexec = [str(commands / "fedreenact-superexec"), "--insecure"]
    superexec += ["--runtime-api-address", f"127.0.0.1:{federation.port}"]
    with ExitStack() as stack:
        door = {"FEDREENACT_FLEET_PORT": str(federation.fleet_port)}
        stack.enter_context(process(superlink, root / "superlink.log", **server, **door))
        wait_for("SuperLink", lambda: is_up(federation.port) and is_up(federation.fleet_port))
        stack.enter_context(process(superexec, root / "superexec.log", **server))
        site = process(federation.site_command(), root / "site.log", **federation.site_environment)
        federation.site = stack.enter_context(site)
        wait_for("site", lambda: "SuperNode ID" in federation.site_log())
        yield federation


def test_an_agentapp_is_refused_unopened_logged_and_counted(federation: Federation, tmp_path: Path) -> None:
    app = tmp_path / "spy"
    app.mkdir()
    (app / "pyproject.toml").write_text(PYPROJECT)
    (app / "spy.py").write_text(SPY.format(out=str(federation.out), patience_s=60))
    federation.submit(app)
    replies = federation.out / "replies.json"
    wait_for("reply to the submitter", replies.exists)

    (reply,) = json.loads(replies.read_text())["messages"]
    assert reply["payload"] is None
    assert reply["error"] == "this site runs no agentapp"
    assert not (federation.out / "ran-at-a-site").exists()
    assert not list((federation.root / "site-home").rglob("*spy*"))
    assert json.loads((federation.state / "refused-tasks.json").read_text()) == {"refused_tasks": 1}
    lines = [json.loads(line) for line in federation.site_log().splitlines() if line.startswith("{")]
    refusals = [line for line in lines if "this site runs no agentapp" in line["message"]]
    assert [line["level"] for line in refusals] == ["error"]


def test_an_honest_run_goes_on_and_tells_what_was_refused(federation: Federation, tmp_path: Path) -> None:
    """After the refusal; the site finds no command of Flower's on its PATH."""
    flower, run_id = federation.run(federation.settings, tmp_path)
    assert (run_id, str(federation.root / "run")) in [(run.run_id, run.output_dir) for run in flower.unfinished()]
    wait_for("end of the run", lambda: flower.status(run_id).startswith("finished"), timeout_s=400.0)
    assert flower.status(run_id) == "finished:completed", flower.log(run_id)
    (row,) = [json.loads(line) for line in (federation.root / "run" / "history.jsonl").read_text().splitlines()]
    assert row["clients"]["0"]["refused_tasks"] == 1
    assert not (federation.root / "site-home" / "apps").exists()


OTHER_CLOCK = """
import datetime, sys, time
from flwr.supernode import node_auth_http_interceptor

true, offset_s = time.time, float(sys.argv.pop(1))
time.time = lambda: true() + offset_s
node_auth_http_interceptor.now = lambda: datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
from client.supernode.process import main

main()
"""


@pytest.mark.parametrize(("offset_s", "side"), [(30, "ahead of"), (-400, "behind")])
def test_a_site_whose_clock_is_off_says_so_and_fails(
    federation: Federation, tmp_path: Path, offset_s: int, side: str
) -> None:
    command = [sys.executable, "-P", "-c", OTHER_CLOCK, str(offset_s), *federation.site_options(free_port())]
    with process(command, tmp_path / "log", FLWR_HOME=str(tmp_path / "home")) as site:
        assert site.wait(60) == 1
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if line.startswith("{")]
    (refusal,) = [line for line in lines if line["level"] == "error"]
    assert "refused this site (412)" in refusal["message"]
    assert f"{side} the SuperLink's" in refusal["message"] and "NTP" in refusal["message"]


def test_a_site_that_is_asked_to_end_ends_well(federation: Federation, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "client.supernode.process", *federation.site_options(free_port())]
    with process(command, tmp_path / "log", FLWR_HOME=str(tmp_path / "home")) as site:
        wait_for("site", lambda: "SuperNode ID" in (tmp_path / "log").read_text())
        site.terminate()
        assert site.wait(60) == 0


def test_a_site_of_which_no_process_would_answer_any_more_ends_to_be_started_again(
    federation: Federation, tmp_path: Path
) -> None:
    command = [sys.executable, "-P", "-m", "client.supernode.process", *federation.site_options(free_port())]
    with process(command, tmp_path / "log", FLWR_HOME=str(tmp_path / "home")) as site:
        wait_for("site", lambda: "SuperNode ID" in (tmp_path / "log").read_text())
        (superexec,) = psutil.Process(site.pid).children()
        superexec.kill()
        assert site.wait(60) == 1
    assert "what starts the processes that answer messages has ended (-9)" in (tmp_path / "log").read_text()


IMPATIENT_SITE = """
from client.supernode import answering

answering._TAKEN_UP_WITHIN_S = 15.0
from client.supernode.process import main

main()
"""


def test_a_site_whose_processes_hang_ends_and_takes_part_when_it_is_started_again(
    federation: Federation, tmp_path: Path
) -> None:
    """The last: another site, which hangs in what it forks its processes from, is in the place of the federation's."""
    federation.site.terminate()
    assert federation.site.wait(60) == 0
    command = [sys.executable, "-P", "-c", IMPATIENT_SITE, *federation.site_options(federation.site_port)]
    output = {"output_dir": str(tmp_path / "run")}
    settings = dataclasses.replace(federation.settings, run=dataclasses.replace(federation.settings.run, **output))
    with process(command, tmp_path / "hangs.log", **federation.site_environment) as hangs:

        def fork_servers() -> list[psutil.Process]:
            processes = psutil.Process(hangs.pid).children(recursive=True)
            return [one for one in processes if "forkserver import main" in " ".join(one.cmdline())]

        wait_for("fork server", lambda: bool(fork_servers()))
        fork_servers()[0].suspend()
        flower, run_id = federation.run(settings, tmp_path)
        assert hangs.wait(180) == 1
    said = (tmp_path / "hangs.log").read_text()
    assert "no process has fetched a message of run" in said
    assert "in launch" in said and "in get_messages_legacy" in said  # where SuperExec and SuperNode were
    with process(federation.site_command(), tmp_path / "site.log", **federation.site_environment):
        wait_for("end of the run", lambda: flower.status(run_id).startswith("finished"), timeout_s=400.0)
        assert flower.status(run_id) == "finished:completed"  # without a key it is another node, and asked anew
