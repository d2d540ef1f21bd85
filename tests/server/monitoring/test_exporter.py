"""The exporter, the view behind it and the words of `status`, on runs of an in-process federation."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message
from prometheus_client import CollectorRegistry

from model.errors import ConfigError, FederationError
from model.setting import Scalar
from server.monitoring.exporter import RunCollector, certificate_files, serve
from server.monitoring.run_view import RunView, newest_run
from server.monitoring.status_report import last_errors, sites_table, status_lines
from server.rounds.federation import run_federation
from server.run_folder.folder import write_stopped
from server.run_folder.history import HISTORY_NAME, RoundRow, append_row, read_history
from server.run_folder.live_status import LiveStatus, Phase
from server.run_folder.result import RunState
from server.termination import TerminatedError
from tests.support.federated_setup import GLR, minimal_settings, simulated_grid, write_dataset

NUM_SITES = 3


def poison_site_1(reply: Message, index: int) -> Message:
    """Site 1 sends NaN in round 2."""
    if index == 1 and reply.metadata.group_id == "2":
        record = reply.content.array_records["fitres.parameters"]
        arrays = {key: array.numpy().copy() for key, array in record.items()}
        next(iter(arrays.values())).flat[0] = np.nan
        reply.content["fitres.parameters"] = ArrayRecord({key: Array(value) for key, value in arrays.items()})
    return reply


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("exporter")
    changes: dict[str, Scalar] = {"max_rounds": 3, "min_fit_clients": 2, **GLR}
    settings = minimal_settings(write_dataset(root / "sites", NUM_SITES), root / "runs" / "first", NUM_SITES, **changes)
    run_federation(simulated_grid(settings, tamper=poison_site_1), settings)
    return root / "runs" / "first"


@pytest.fixture
def registry(run: Path) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(RunCollector(run.parent, None))
    return registry


def test_values_are_those_of_the_history(run: Path, registry: CollectorRegistry) -> None:
    row = read_history(run)[-1]

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"fedreenact_{name}", labels)

    assert value("round") == 3
    assert value("loss", network="generator") == row.loss_generator
    assert value("site_loss", site="2", network="generator") == row.clients[2]["loss_generator"]
    assert value("site_loss_term", site="2", term="l1_image") == row.clients[2]["l1_image"]
    assert value("discriminator_ranking_ratio", judge="image") == row.metrics["ranking_image"]
    assert value("site_discriminator_ranking_ratio", site="0", judge="image") == row.clients[0]["ranking_image"]
    assert value("site_examples", site="2") == row.clients[2]["num_examples"]
    assert value("stop_threshold") == 0
    assert value("stop_possible_in_rounds") == 2
    assert value("generator_loss_variance") is None
    assert value("checkpoint_round") == 3
    assert value("run_info", run="first", run_id=RunView.read(run).run_id) == 1
    assert value("run_state", state="completed") == 1
    assert value("run_state", state="training") == 0


def test_counters_are_sums_over_the_history(run: Path, registry: CollectorRegistry) -> None:
    rows = read_history(run)
    num_bytes = [row.measured[1]["bytes_up"] for row in rows if 1 in row.measured]
    assert len(num_bytes) == 2
    assert registry.get_sample_value("fedreenact_site_sent_bytes_total", {"site": "1"}) == sum(num_bytes)
    assert registry.get_sample_value("fedreenact_site_rounds_total", {"site": "1"}) == 2
    assert registry.get_sample_value("fedreenact_rejections_total", {"site": "1", "reason": "not-finite"}) == 1
    assert registry.get_sample_value("fedreenact_rejections_total", {"site": "0", "reason": "not-finite"}) == 0


def rewrite(folder: Path, rows: list[RoundRow]) -> None:
    (folder / HISTORY_NAME).unlink()
    for row in rows:
        append_row(folder, row)


def test_a_site_in_quarantine_is_seen(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "runs" / "copy"
    shutil.copytree(run, copy)
    rows = read_history(copy)
    rewrite(copy, [*rows[:-1], replace(rows[-1], rejected_kinds={1: "quarantined"})])
    registry = CollectorRegistry()
    registry.register(RunCollector(copy.parent, None))
    values = [registry.get_sample_value("fedreenact_site_quarantined", {"site": str(site)}) for site in range(3)]
    assert values == [0, 1, 0]
    assert registry.get_sample_value("fedreenact_rejections_total", {"site": "1", "reason": "quarantined"}) == 1


def test_what_noise_has_spent_is_told_and_losses_that_are_kept_back_are_not(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "runs" / "copy"
    shutil.copytree(run, copy)
    rows = read_history(copy)
    private = replace(
        rows[-1],
        loss_generator=None,
        loss_discriminator=None,
        metrics={"dp_epsilon": 1.25, "dp_delta": 1e-5},
        clients={site: {"seconds": 1.0} for site in rows[-1].clients},
    )
    rewrite(copy, [*rows[:-1], private])
    registry = CollectorRegistry()
    registry.register(RunCollector(copy.parent, None))
    assert registry.get_sample_value("fedreenact_privacy_epsilon") == 1.25
    assert registry.get_sample_value("fedreenact_loss", {"network": "generator"}) is None
    assert registry.get_sample_value("fedreenact_site_loss", {"site": "0", "network": "generator"}) is None
    text = "\n".join(status_lines(RunView.read(copy), time.time()))
    assert "losses stay at the sites" in text
    assert "privacy spent: epsilon 1.25, delta 1e-05 of one site (one person)" in text


def test_names_follow_one_scheme_and_labels_are_bounded(registry: CollectorRegistry) -> None:
    allowed = {"site", "network", "term", "picture", "reason", "state", "judge"}
    for family in registry.collect():
        assert family.name.startswith("fedreenact_") and family.documentation
        for sample in family.samples:
            if not sample.name.endswith("_info"):
                assert set(sample.labels) <= allowed


def test_no_run_yet_is_no_error(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    registry.register(RunCollector(tmp_path, None))
    assert registry.get_sample_value("fedreenact_runs_disk_free_bytes")
    assert registry.get_sample_value("fedreenact_round") is None
    assert registry.get_sample_value("fedreenact_run_begun") == 0


def test_refused_connections_come_from_the_superlinks_log(tmp_path: Path) -> None:
    log = tmp_path / "superlink.log"
    log.write_text("WARNING flwr now | refusals.py:9 | refused connection (plaintext) x4 from 10.0.0.2\n")
    registry = CollectorRegistry()
    registry.register(RunCollector(tmp_path, log))
    assert registry.get_sample_value("fedreenact_refused_connections_total", {"reason": "plaintext"}) == 4
    assert registry.get_sample_value("fedreenact_refused_connections_total", {"reason": "tls"}) == 0


def certificate(folder: Path, name: str, days: int) -> Path:
    """A self-signed one that ends in some days."""
    file = folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes"]
    command += ["-subj", f"/CN={name}", "-days", str(days), "-keyout", str(folder / f"{name}.key"), "-out", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    return file


def test_the_end_of_certificates_is_told_and_read_again_when_they_are_renewed(tmp_path: Path) -> None:
    files = certificate_files(
        [f"{name}={certificate(tmp_path, name, days)}" for name, days in {"server": 365, "ca": 3650}.items()]
    )
    registry = CollectorRegistry()
    registry.register(RunCollector(tmp_path, None, files))

    def days_left(name: str) -> float:
        end = registry.get_sample_value("fedreenact_certificate_expires_timestamp_seconds", {"certificate": name})
        assert end is not None
        return (end - time.time()) / 86400

    assert (days_left("server"), days_left("ca")) == pytest.approx((365, 3650), abs=0.01)
    certificate(tmp_path, "server", 30)
    assert days_left("server") == pytest.approx(30, abs=0.01)
    files["server"].write_text("half a cert")  # in the middle of a renewal that is not atomic
    assert (
        registry.get_sample_value("fedreenact_certificate_expires_timestamp_seconds", {"certificate": "server"}) is None
    )
    assert days_left("ca") == pytest.approx(3650, abs=0.01)


@pytest.mark.parametrize("option", ["server", "=x.pem", "server=", "Server Name=x.pem"])
def test_a_certificate_option_of_another_form_is_named(option: str) -> None:
    with pytest.raises(ConfigError, match="wanted NAME=FILE"):
        certificate_files([option])


def test_a_file_without_a_certificate_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("nothing")
    for name in ("key.pem", "absent.pem"):
        with pytest.raises(ConfigError, match=f"{name} holds no certificate"):
            certificate_files([f"server={tmp_path / name}"])


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="/nowhere is not a folder"):
        serve(Path("/nowhere"), port=0, superlink_log=None)


def test_the_newest_run_of_a_folder_is_shown(run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(run, tmp_path / name)
    assert newest_run(tmp_path / "a") == tmp_path / "a"
    (tmp_path / "a" / "history.jsonl").touch()
    assert newest_run(tmp_path) == tmp_path / "a"


def test_a_run_whose_server_app_fell_silent_is_lost(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    LiveStatus(tmp_path / "run").enter(Phase.TRAINING, 4)
    view, now = RunView.read(tmp_path / "run"), time.time()
    assert view.state(now) == "training"
    assert view.state(now + 300) == "lost"
    assert "lost: the server app has not written for 5 min (was training)" in status_lines(view, now + 300)[0]


def test_nobody_counts_as_connected_where_nobody_looks(run: Path, tmp_path: Path) -> None:
    """After the end, and when the server app is gone."""
    shutil.copytree(run, tmp_path / "run")
    live = LiveStatus(tmp_path / "run")
    live.see([0, 1, 2], {})
    live.enter(Phase.TRAINING, 3)
    ended = RunView.read(tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    going_on = RunView.read(tmp_path / "run")
    now = time.time()
    assert [row[1] for row in sites_table(going_on, now).rows] == ["connected"] * 3
    assert [row[1] for row in sites_table(going_on, now + 600).rows] == ["10 min ago"] * 3
    assert [row[1] for row in sites_table(ended, now + 600).rows] == ["10 min ago"] * 3
    ended_registry = CollectorRegistry()
    ended_registry.register(RunCollector(run, None))
    names = {family.name for family in ended_registry.collect()}
    assert names.isdisjoint({"fedreenact_connected_sites", "fedreenact_site_connected"})
    assert "fedreenact_site_contact_timestamp_seconds" in names


def test_a_round_that_is_repeated_and_sites_that_never_came_are_seen(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    live = LiveStatus(tmp_path / "run")
    live.expect(5, {})
    live.see([0, 1, 2], {"site 3 (node 77)": "approved other settings"})
    live.enter(Phase.TRAINING, 4)
    live.tell("round 4: 2 valid updates, min-fit-clients is 3 (client 1: not finite); not connected: 3, 4")
    live.enter(Phase.TRAINING, 4)
    registry = CollectorRegistry()
    registry.register(RunCollector(tmp_path / "run", None))
    values = [
        registry.get_sample_value(f"fedreenact_{name}")
        for name in ("round_attempts", "expected_sites", "connected_sites", "refused_sites", "run_readable")
    ]
    assert values == [2, 5, 3, 1, 1]
    connected = [registry.get_sample_value("fedreenact_site_connected", {"site": str(site)}) for site in range(5)]
    assert connected == [1, 1, 1, 0, 0]
    assert registry.get_sample_value("fedreenact_site_contact_timestamp_seconds", {"site": "4"}) is None
    first, *rest = status_lines(RunView.read(tmp_path / "run"), time.time())
    assert "training round 4, attempt 2 for " in first and "3 of 5 sites connected; round 4: 2 valid updates" in first
    assert rest[-2:] == ["site 3 (node 77) does not take part: approved other settings", "not seen yet: 3, 4"]


def test_a_run_that_cannot_be_read_is_told(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "result.json").write_text("{")
    registry = CollectorRegistry()
    registry.register(RunCollector(tmp_path / "run", None))
    assert registry.get_sample_value("fedreenact_run_readable") == 0
    assert registry.get_sample_value("fedreenact_round") is None
    assert registry.get_sample_value("fedreenact_runs_disk_free_bytes")


def states_of(registry: CollectorRegistry) -> dict[str, float | None]:
    return {each: registry.get_sample_value("fedreenact_run_state", {"state": each}) for each in RunState}


def test_a_run_that_was_stopped_is_in_that_state_and_in_no_other(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    write_stopped(tmp_path / "run", TerminatedError("stopped by SIGTERM"))
    registry = CollectorRegistry()
    registry.register(RunCollector(tmp_path / "run", None))
    assert states_of(registry) == dict.fromkeys(RunState, 0.0) | {"stopped": 1.0}
    line = status_lines(RunView.read(tmp_path / "run"), time.time())[0]
    assert line.endswith("stopped: stopped by SIGTERM after round 3; resume goes on")


def test_status_tells_rounds_sites_and_errors(run: Path) -> None:
    view, now = RunView.read(run), time.time()
    lines = status_lines(view, now)
    assert "completed: round 3 is the last that max-rounds allows" in lines[0]
    assert lines[1].startswith("round 3 completed: L_G ")
    table = sites_table(view, now)
    assert [(row[0], row[2], row[-1]) for row in table.rows] == [
        ("0", "3", "-"),
        ("1", "2", "not-finite 1"),
        ("2", "3", "-"),
    ]
    assert len(last_errors(view)) == 1
    assert last_errors(view)[0].startswith("round 2, site 1: update: ")


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    settings = minimal_settings(write_dataset(tmp_path / "sites", 2), tmp_path / "run", 2)
    with pytest.raises(FederationError):
        run_federation(simulated_grid(settings, tamper=lambda reply, index: poison_site_1(reply, index)), settings)
    view = RunView.read(tmp_path / "run")
    assert view.state(time.time()) == "failed"
    assert "values that are not finite" in status_lines(view, time.time())[0]
