"""Somebody submits an AgentApp to a federation in containers: what its sites say, run and keep of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flwr.cli.build import build_fab_from_disk

from tests.e2e.compose import Compose, docker, wait_until
from tests.integration.test_foreign_code import PYPROJECT, SPY

REFUSAL = "this site runs no agentapp"
OUT = "/tmp"
"""Where the app writes, in whatever container it runs."""
MARK = "faces, please"
"""Stands in the app's code and in its messages."""
SITES = [f"site-{number}" for number in range(1, 6)]

_SUBMIT = """
import hashlib, pathlib, sys
from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.supercore.control.control_http_client import ControlHttpClient

root = pathlib.Path("/ca.crt").read_bytes() if sys.argv[1:] else None
client = ControlHttpClient.from_server_address("superlink-control:8000", root is None, root, [])
fab = pathlib.Path("/foreign.fab").read_bytes()
content = Fab(hash_str=hashlib.sha256(fab).hexdigest(), content=fab)
assert client.StartRun(StartRunRequest(fab=content, user_prompt="faces, please")).run_id
"""


def submit(federation: Compose, folder: Path, ca: Path | None) -> None:
    """Submit the app over the control network.

    Args:
        federation: running.
        folder: empty; the app is written here.
        ca: the CA's certificate; None without TLS.
    """
    (folder / "spy").mkdir()
    (folder / "spy" / "pyproject.toml").write_text(PYPROJECT)
    code = SPY.format(out=OUT, patience_s=600)  # a site that fetches the model of a round hears of nothing else
    (folder / "spy" / "spy.py").write_text(code)
    (folder / "foreign.fab").write_bytes(build_fab_from_disk(folder / "spy"))
    mounts = ["-v", f"{folder / 'foreign.fab'}:/foreign.fab:ro", *(["-v", f"{ca}:/ca.crt:ro"] if ca else [])]
    network = f"{federation.project}_control"
    command = ["python", "-c", _SUBMIT, *(["tls"] if ca else [])]
    docker("run", "--rm", "--user", "0", *mounts, "--network", network, "fedreenact", *command)


def replies(federation: Compose) -> list[dict[str, Any]]:
    """What the submitter got back from the sites, all five at once; empty before."""
    text = federation.ask("server", f"cat {OUT}/replies.json 2>/dev/null || true")
    return list(json.loads(text)["messages"]) if text.startswith("{") else []


def check_refused_and_left_closed(federation: Compose) -> None:
    """That every site has refused it by name, and holds no byte of it."""
    wait_until("the submitter's replies", lambda: len(replies(federation)) == len(SITES), timeout_s=600)
    assert {(reply["payload"], reply["error"]) for reply in replies(federation)} == {(None, REFUSAL)}
    assert _traces(federation, "server", "/tmp")  # where the submitter's own half runs, it is unpacked
    for site in SITES:
        assert f"{REFUSAL}; nothing of it was fetched" in federation("logs", "--no-color", site)
        assert _traces(federation, site, "/tmp", "/state") == []


def _traces(federation: Compose, service: str, *folders: str) -> list[str]:
    """Files that hold its code or messages, what it would have written, and Flower's folder of unpacked apps."""
    where = " ".join(folders)
    script = f"grep -rlaF '{MARK}' {where}; find {where} -name ran-at-a-site -o -name apps; true"
    return [line for line in federation.ask(service, script).splitlines() if line.startswith("/")]
