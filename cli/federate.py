"""Commands for a deployed federation: its sites, its server, its operators.

They import what they need themselves: `fedreenact --help` should not wait for PyTorch and Flower.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli.options import (
    Changes,
    Preset,
    RootCertificates,
    SuperLink,
    chosen_settings,
    connected,
    deployed_settings,
    file_to_write,
    folder_to_write,
)
from cli.terminal import console, rich_table, round_line, say_lines, say_where
from federation.settings import Settings
from model.errors import ConfigError


def submit(
    out: Annotated[Path, typer.Argument(help="Run folder, under the path that the server app knows; readable here.")],
    superlink: SuperLink = "127.0.0.1:8000",
    root_certificates: RootCertificates = None,
    preset: Preset = "tiny",
    changes: Changes = None,
) -> None:
    """Train on a deployed federation; goes on from the run folder, and again if the server app dies."""
    from server.flower.deployment import Supervisor

    settings = deployed_settings(chosen_settings(preset, changes)).replaced({"output-dir": str(out)})
    if not out.is_absolute():
        raise ConfigError(f"run folder: got {str(out)!r}, wanted an absolute path, as the server app knows it")
    with connected(superlink, root_certificates) as flower:
        reason = Supervisor(settings, flower, lambda row: console.print(round_line(row), soft_wrap=True)).run()
    console.print(f"ended: {escape(reason)}", soft_wrap=True)
    say_where({"Run": out})


def deployment(
    out: Annotated[Path, typer.Argument(callback=folder_to_write, help="Folder to write; must not exist.")],
) -> None:
    """Write the compose files, certs.sh and all that their images are built of, where there is no checkout."""
    from deploy.files import write_deployment

    if out.exists():
        raise ConfigError(f"deployment: {out} exists already, wanted a folder to make; choose another name")
    write_deployment(out)
    say_where({"Next": f"cd {out} && docker compose up"})


SitesFile = Annotated[
    Path | None,
    typer.Option(
        callback=file_to_write,
        help="Also keep this file, which says which key is which site, for the setting sites-file.",
    ),
]


def register(
    keys: Annotated[
        list[str],
        typer.Argument(
            metavar="[PARTITION-ID=]KEY.pub",
            help="Public keys of the sites' SuperNodes; site-N.pub is the key of partition N - 1.",
        ),
    ],
    superlink: SuperLink = "127.0.0.1:8000",
    root_certificates: RootCertificates = None,
    sites_file: SitesFile = None,
) -> None:
    """Let sites with these keys into a federation that asks for keys; keys known before are no error."""
    from server.sites.sites_file import SiteKey, pem_of, require_distinct, write_sites

    sites = [SiteKey.parse(key) for key in keys]
    require_distinct(sites)
    with connected(superlink, root_certificates) as flower:
        answers = [flower.register(site.path) for site in sites]
        nodes = flower.nodes_of_keys()
    let_in = [site for site in sites if pem_of(site.path) in nodes]
    for site, answer in zip(sites, answers, strict=True):
        if site not in let_in:
            answer = "unregistered before, and stays out; with a new key the site may come in again"
        console.print(f"{escape(str(site.path))}: partition {site.partition_id}, {escape(answer)}", soft_wrap=True)
    if sites_file is None:
        console.print("[yellow]sites are not bound to their keys: --sites-file is missing[/]")
        return
    write_sites(sites_file, let_in, nodes)
    say_where({"Sites": sites_file})


def unregister(
    keys: Annotated[list[Path], typer.Argument(metavar="KEY.pub", help="Public keys of sites that go for good.")],
    superlink: SuperLink = "127.0.0.1:8000",
    root_certificates: RootCertificates = None,
    sites_file: SitesFile = None,
) -> None:
    """Shut the sites with these keys out at once; the keys are never taken again."""
    from server.sites.sites_file import pem_of, write_sites

    pems = {path: pem_of(path) for path in keys}
    with connected(superlink, root_certificates) as flower:
        nodes = flower.nodes_of_keys()
        for path, pem in pems.items():
            if pem not in nodes:
                raise ConfigError(f"{path}: no site is registered with this key, now or any more; is it the right one?")
        for path, pem in pems.items():
            flower.unregister(nodes.pop(pem))
            console.print(f"{escape(str(path))}: unregistered", soft_wrap=True)
    if sites_file is not None:
        write_sites(sites_file, [], nodes)
        say_where({"Sites": sites_file})


def approve(
    settings: Annotated[
        str, typer.Argument(metavar="SETTINGS", help="A TOML file of settings; or tiny, small, studio, paper.")
    ],
    out: Annotated[
        Path | None, typer.Option(callback=file_to_write, help="The file to write, for the site's node config.")
    ] = None,
    changes: Changes = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="Limits of the site's node config, as SITE_POLICY has them; repeatable."
        ),
    ] = None,
) -> None:
    """Say what a run with these settings may do at a site, and write down that the site agrees to it."""
    from client.consent import summary as approval_summary
    from client.consent.approval import Approval
    from client.consent.policy import SitePolicy

    approval = Approval(deployed_settings(chosen_settings(settings, changes)))
    policy = SitePolicy.from_texts(limit or [])
    policy.check_settings(approval.settings)
    say_lines("Allows", approval_summary.allowed(approval.settings))
    say_lines("Leaves this site", approval_summary.leaving(approval.settings))
    say_lines("Limits of this site", approval_summary.limits(policy))
    say_lines("Known to leak", approval_summary.warnings(approval.settings, policy), style="yellow")
    digest = " ".join(approval.sha256[start : start + 8] for start in range(0, 64, 8))
    say_where({"SHA-256, the same at every site that approved this": digest})
    if out is None:
        console.print("Nothing is approved: --out FILE writes it down")
        return
    approval.write(out)
    out.chmod(0o644)  # a site's container reads it as another user, and it holds settings alone
    say_where({"Approved": out})


def egress(preset: Preset = "tiny", changes: Changes = None) -> None:
    """Print all that leaves a site in a run with these settings: every tensor, every number, what comes with them."""
    from client.consent.egress import BESIDES, inventory
    from evaluation.figures.tables import TextTable

    settings = Settings.from_flat(chosen_settings(preset, changes))
    items = inventory(settings)
    rows = tuple((i.when, i.name, "x".join(map(str, i.shape)) or "number", i.dtype, f"{i.num_bytes:,}") for i in items)
    console.print(rich_table(TextTable(title="Egress", header=("when", "name", "shape", "type", "bytes"), rows=rows)))
    once, each = (sum(item.num_bytes for item in items if item.when == when) for when in ("once", "every round"))
    rounds = settings.rounds.max_rounds
    console.print(
        f"once {once:,} bytes, every round {each:,} bytes; {rounds} rounds at most: {once + rounds * each:,} bytes. "
        "Frames, paths and landmarks of frames never leave. Besides leave:",
        soft_wrap=True,
    )
    for name, what in BESIDES:
        console.print(f"- {name}: {what}", soft_wrap=True)


def status(
    run: Annotated[Path, typer.Argument(help="Run folder, or a folder of runs (the newest is shown).")],
) -> None:
    """Say where a run stands: rounds, losses, sites, the last errors. Exit code 1 if it failed or is lost."""
    import time

    from server.monitoring.run_view import RunView, newest_run
    from server.monitoring.status_report import last_errors, sites_table, status_lines
    from server.run_folder.result import RunState

    folder = newest_run(run)
    if folder is None:
        raise ConfigError(f"{run} holds no run yet")
    now = time.time()
    view = RunView.read(folder)
    for line in status_lines(view, now):
        console.print(escape(line), soft_wrap=True)
    console.print(rich_table(sites_table(view, now)))
    for line in last_errors(view):
        console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)
    if view.state(now) in (RunState.FAILED, RunState.LOST):
        raise typer.Exit(1)


def exporter(
    runs: Annotated[Path, typer.Argument(help="Run folder, or a folder of runs (the newest is shown).")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where to answer Prometheus, at /metrics.")] = 9464,
    superlink_log: Annotated[
        Path | None, typer.Option(help="The SuperLink's --log-file, to count refused connections.")
    ] = None,
    certificate: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE, repeatable: a certificate (PEM) whose end is told.")
    ] = None,
) -> None:
    """Serve a run's numbers to Prometheus, during training and after it."""
    from server.monitoring.exporter import certificate_files, serve

    serve(runs, port=port, superlink_log=superlink_log, certificates=certificate_files(certificate or []))
