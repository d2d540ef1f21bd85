"""What the compose files promise about images, mounts, networks and passwords; tests/e2e tries it on an engine."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from client.consent.approval import Approval
from client.consent.policy import SitePolicy
from tests.support.paths import ROOT

SITES = [f"site-{number}" for number in range(1, 6)]


class _Loader(yaml.SafeLoader):
    """Knows the tag with which one compose file overrides another."""


_Loader.add_constructor("!override", lambda loader, node: loader.construct_mapping(node, deep=True))


def compose(name: str) -> dict[str, Any]:
    return dict(yaml.load((ROOT / name).read_text(), _Loader))


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return compose("docker-compose.yml")


@pytest.fixture(scope="module")
def tls() -> dict[str, Any]:
    return compose("docker-compose.tls.yml")


def mounts(service: dict[str, Any]) -> list[tuple[str, str]]:
    """Source and target of every volume of a service."""
    found = []
    for volume in service.get("volumes", []):
        if isinstance(volume, dict):
            found.append((volume["source"], volume["target"]))
        else:
            source, target = re.fullmatch(r"((?:\$\{[^}]*\}+|[^:$])+):([^:]+)(?::ro)?", volume).groups()  # type: ignore[union-attr]
            found.append((source, target))
    return found


def test_sites_run_from_the_site_image_and_its_own_command_alone(plain: dict[str, Any], tls: dict[str, Any]) -> None:
    for name in SITES:
        assert plain["services"][name]["image"] == "fedreenact-site"
        for file in (plain, tls):
            assert file["services"][name]["command"][2].startswith("exec fedreenact-supernode ")
        assert "PATH" not in plain["services"][name]["environment"]


def test_a_site_says_its_limits_and_what_it_agreed_to(plain: dict[str, Any], tls: dict[str, Any]) -> None:
    for number, name in enumerate(SITES, start=1):
        service = plain["services"][name]
        assert service["environment"]["SITE_POLICY"] == f"${{SITE_{number}_POLICY:-${{SITE_POLICY:-}}}}"
        approved = [volume for volume in service["volumes"] if isinstance(volume, dict)]
        assert [volume["target"] for volume in approved] == ["/approved.toml"]
        assert approved[0]["source"].startswith(f"${{SITE_{number}_APPROVED:-")
        assert approved[0]["read_only"] and approved[0]["bind"] == {"create_host_path": False}
        for file in (plain, tls):
            command = file["services"][name]["command"][2]
            assert 'approved-settings="/approved.toml"' in command.replace("\\", "")
            assert command.rstrip().endswith('$$SITE_POLICY"')
        assert 'node-key="/run/secrets/site-key" site-keys="/site-keys"' in command.replace("\\", "")


@pytest.mark.parametrize("page", ["docker-compose.yml", "docs/operations.md", "docs/site.md"])
def test_limits_that_a_page_shows_let_every_preset_run(page: str) -> None:
    shown = re.findall(r'"(max-local-steps=[^"]*)"', (ROOT / page).read_text(encoding="utf-8"))
    assert shown
    approved = sorted((ROOT / "deploy" / "approved").glob("*.toml"))
    assert [file.stem for file in approved] == ["paper", "small", "studio", "tiny"]
    for limits in shown:
        for file in approved:
            SitePolicy.from_texts(limits.split()).check_settings(Approval.read(file).settings)


def test_no_service_fills_the_disk_or_takes_all_of_the_machine(plain: dict[str, Any], tls: dict[str, Any]) -> None:
    for name, service in {**plain["services"], "register": tls["services"]["register"]}.items():
        assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "5"}}, name
        assert service["pids_limit"] == 512 and service["mem_limit"], name
    assert "--storage.tsdb.retention.size=2GB" in plain["services"]["prometheus"]["command"]


def test_messages_in_flight_are_the_superlinks_alone(plain: dict[str, Any], tls: dict[str, Any]) -> None:
    with_state = {
        name
        for file in (plain, tls)
        for name, service in file["services"].items()
        if any(source == "superlink-state" for source, _ in mounts(service))
    }
    assert with_state == {"superlink"}
    for file in (plain, tls):
        assert "--log-file /log/superlink.log" in file["services"]["superlink"]["command"]
        assert "--superlink-log /superlink/superlink.log" in file["services"]["exporter"]["command"]
    assert ("superlink-log", "/superlink") in mounts(plain["services"]["exporter"])


def test_a_private_key_of_a_site_goes_to_that_site_alone(tls: dict[str, Any]) -> None:
    for name, service in tls["services"].items():
        keys = {
            secret["source"] if isinstance(secret, dict) else secret
            for secret in service.get("secrets", [])
            if "site" in str(secret)
        }
        assert keys == ({f"{name}-key"} if name in SITES else set())
    of_server = compose("docker-compose.server.yml")["services"]
    assert all(of_server[name]["profiles"] == ["site"] for name in SITES)


def test_no_network_leads_out_but_the_one_that_publishes_dashboards(plain: dict[str, Any]) -> None:
    open_networks = {name for name, network in plain["networks"].items() if not network.get("internal")}
    assert open_networks == {"loopback"}
    assert plain["networks"]["loopback"]["driver_opts"] == {"com.docker.network.bridge.enable_ip_masquerade": "false"}
    on_loopback = {name for name, service in plain["services"].items() if "loopback" in service.get("networks", [])}
    assert on_loopback == {"prometheus", "grafana"}
    assert plain["services"]["exporter"]["networks"] == ["monitoring"]
    for name in on_loopback:
        assert all(port.startswith("127.0.0.1:") for port in plain["services"][name]["ports"])


def test_grafana_refuses_to_start_without_a_password(plain: dict[str, Any]) -> None:
    grafana = plain["services"]["grafana"]
    shell, option, script = grafana["entrypoint"]
    script = script.replace("$$", "$").replace("/run.sh", "echo started")
    for password, code, said in (("", 2, "set GRAFANA_ADMIN_PASSWORD"), ("long", 0, "started")):
        environment = {"GF_SECURITY_ADMIN_PASSWORD": password, "PATH": "/usr/bin:/bin"}
        done = subprocess.run([shell, option, script], env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, said in done.stdout + done.stderr) == (code, True)
    assert grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == "${GRAFANA_ADMIN_PASSWORD:-}"
    assert grafana["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] == "${GRAFANA_ANONYMOUS_VIEWER:-false}"
    assert grafana["restart"] == "${GRAFANA_ADMIN_PASSWORD:+unless-stopped}"


def test_foreign_images_have_exact_versions(plain: dict[str, Any]) -> None:
    images = {service["image"] for service in plain["services"].values()} - {"fedreenact", "fedreenact-site"}
    assert all(re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", image) for image in images) and len(images) == 2
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert re.search(r"^ARG BASE_IMAGE=python:3\.11\.\d+-slim-bookworm$", dockerfile, re.MULTILINE)
    stages = set(re.findall(r" AS ([a-z-]+)", dockerfile))
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) <= {"${BASE_IMAGE}", *stages}


def test_the_site_image_keeps_the_commands_of_a_site_alone() -> None:
    site = (ROOT / "deploy" / "Dockerfile").read_text().partition(" AS site\n")[2].partition("\nFROM ")[0]
    kept = re.findall(r"! -name '?([a-z*-]+)", site)
    assert kept == ["python*", "fedreenact", "fedreenact-supernode"]
    assert "-delete" in site and "ln -s" not in site


def test_which_key_is_which_site_is_written_by_register_and_read_by_the_run(tls: dict[str, Any]) -> None:
    assert "--sites-file /runs/sites.json" in tls["services"]["register"]["command"]
    assert "--set sites-file=/runs/sites.json" in tls["services"]["run"]["command"]
    assert ("runs", "/runs") in mounts(tls["services"]["register"])


def test_sites_with_a_gpu_get_the_part_of_the_driver_that_computes() -> None:
    for name, service in compose("docker-compose.gpu.yml")["services"].items():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert {"gpu", "compute", "utility"} <= set(device["capabilities"]), name
