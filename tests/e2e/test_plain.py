"""The same federation without TLS, for two rounds: what somebody on the control network can make its sites do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.compose import ROOT, Compose, wait_until
from tests.e2e.foreign_app import SITES, check_refused_and_left_closed, submit
from tests.e2e.settings import as_options

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def federation(image: None, approved: Path, without_grafana: Path, few_frames: Path) -> Iterator[Compose]:
    """Five sites that wait for a run."""
    environment = {
        "FEDREENACT_APPROVED": str(approved),
        "FEDREENACT_SETTINGS": as_options(max_rounds=2),
        "GRAFANA_PORT": "13001",
    }
    files = [ROOT / "docker-compose.yml", without_grafana, few_frames]
    compose = Compose("fedreenact-e2e-plain", files, environment, prometheus_port=19091)
    compose("down", "-v", "-t", "5", check=False)
    try:
        compose("up", "-d", "server", "exporter", *SITES, timeout_s=900)
        yield compose
    finally:
        (ROOT / "e2e-plain.log").write_text(compose("logs", "--no-color", check=False))
        compose("down", "-v", "-t", "5", check=False)


def test_an_agentapp_is_refused_by_every_site(federation: Compose, tmp_path: Path) -> None:
    for site in SITES:
        wait_until(site, lambda site=site: "SuperNode ID" in federation("logs", site), timeout_s=180)
    submit(federation, tmp_path, None)
    check_refused_and_left_closed(federation)


def test_a_run_of_ours_goes_on_and_tells_it(federation: Compose) -> None:
    federation("up", "-d", "--no-deps", "run")
    wait_until("the end", lambda: federation.has_exited("run"), timeout_s=1200)
    assert federation.state("run")["ExitCode"] == 0, federation("logs", "run")
    first, second = federation.history()
    assert {site: client["refused_tasks"] for site, client in first["clients"].items()} == dict.fromkeys("01234", 1)
    whole = first["measured"]["0"]["bytes_down"]  # 4 bytes a value
    for site in "01234":
        ups = [row["measured"][site]["bytes_up"] for row in (first, second)]
        assert max(*ups, second["measured"][site]["bytes_down"]) < whole / 4, (site, ups, second)
    script = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9464/metrics').read().decode())"
    shown = federation("exec", "-T", "exporter", "python", "-c", script)
    assert [f'fedreenact_site_refused_tasks{{site="{n}"}} 1.0' in shown for n in range(5)] == [True] * 5
