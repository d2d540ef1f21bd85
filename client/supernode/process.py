"""`flower-supernode` for a deployed site: one kind of task, a checked node config, and a reason whenever it ends.

Options are those of `flower-supernode`, but for two that would let other code in.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from client.node_config import SUPERNODE_VARIABLE, NodeConfig
from federation.json_log import log_to_stderr
from federation.stacks import tell_when_asked
from model.errors import ConfigError
from model.huge_pages import ask_for_huge_pages
from model.setting import Scalar

_ENVIRONMENT = {
    SUPERNODE_VARIABLE: "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.25",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Flower calls nobody but the SuperLink, a message waits a quarter of a second for its process, and what is forked for
it has no threads of NumPy's."""
_log = logging.getLogger(__name__)
_PAIR = re.compile(r"\S+?=('[^']*'|\"[^\"]*\"|\S+)")


def site_of(arguments: Sequence[str]) -> NodeConfig:
    """What a command line says about the site.

    Raises:
        ConfigError: for an option or a node config with which a site must not start.
        SystemExit: for a command line that Flower does not take, or --help.
    """
    from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode

    options = _parse_args_run_supernode().parse_args(arguments)
    if options.isolation != "subprocess":
        raise ConfigError(f"--isolation {options.isolation}: a site starts its own processes; leave the option out")
    if options.runtime_dependency_install:
        raise ConfigError("--allow-runtime-dependency-installation: a site installs nothing; leave the option out")
    if options.root_certificates:
        _check_authorities(Path(options.root_certificates).expanduser())
    site = NodeConfig.from_flat(_pairs(options.node_config or ""))
    site.check_site()
    return site


def _check_authorities(path: Path) -> None:
    """Flower passes an empty file on to the TLS library, whose error leaves the process alive and of no use."""
    from cryptography import x509

    try:
        x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--root-certificates: {path} holds no certificate in PEM form ({error}); wanted the federation's ca.crt"
        ) from error


def _pairs(text: str) -> dict[str, Scalar]:
    """The node config as Flower reads it; what Flower would pass over in silence is an error."""
    import click
    from flwr.common.config import parse_config_args

    rest = "" if text.endswith(".toml") else _PAIR.sub("", text).strip()
    if rest:
        raise ConfigError(f"--node-config: cannot read {rest!r}; wanted key=value pairs, text in double quotes")
    try:
        pairs: dict[str, Scalar] = parse_config_args([text])
    except (click.ClickException, OSError, ValueError) as error:
        reason = error.message if isinstance(error, click.ClickException) else error
        raise ConfigError(f"--node-config: {reason}") from error
    return pairs


def main() -> None:
    """Run a site's SuperNode until it is asked to end.

    Raises:
        SystemExit: 0 if it was asked to end, 2 for a mistake in the command line or node config, 1 for all else.
    """
    os.umask(0o077)  # moments, secrets and Flower's own files are for this user alone
    os.environ.update(_ENVIRONMENT)  # before Flower is imported
    ask_for_huge_pages()
    tell_when_asked()
    log_to_stderr("client")
    try:
        site = site_of(sys.argv[1:])
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    assert site.state_dir is not None
    _serve(site.state_dir)


def _serve(state_dir: Path) -> None:
    from flwr.supercore.exit import ExitCode, flwr_exit
    from flwr.supernode.cli.flower_supernode import flower_supernode

    from client.supernode.fleet_client import SiteFleetClient, use_site_fleet_client
    from client.supernode.one_task_kind import OwnSuperExec, keep_to_one_kind
    from client.supernode.owed_reply import OwedReply
    from client.supernode.refused_tasks import RefusedTasks

    keep_to_one_kind(RefusedTasks(state_dir), OwedReply(state_dir))
    use_site_fleet_client()
    try:
        flower_supernode()
    except SystemExit as end:  # Flower ends with 0 when it is refused
        raise SystemExit(end.code or int(SiteFleetClient.was_refused or OwnSuperExec.has_failed)) from None
    except Exception:  # threads of Flower's would keep the process alive, healthy for Docker and of no use
        _log.exception("the site's SuperNode failed; it ends, to be started again")
        logging.shutdown()
        os._exit(1)
    flwr_exit(ExitCode.SUPERNODE_CONNECTION_ERROR, "The connection ended without having been asked to.")


if __name__ == "__main__":
    main()
