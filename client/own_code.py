"""`flwr-clientapp` for sites that run no code but their own.

Flower sends an app's code to every site with each run, and whoever may submit a run could so have any code run beside
a site's data. A site whose PATH finds this command under the name `flwr-clientapp` unpacks nothing of it: it answers
with the app that is installed here, and refuses a run of another app or version.
"""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path
from typing import Any

from flwr.clientapp.utils import get_load_client_app_fn
from flwr.supernode.cli.flwr_clientapp import flwr_clientapp
from flwr.supernode.runtime import run_clientapp

from model.json_log import JsonFormatter

APP_FOLDER = Path(__file__).resolve().parent.parent
"""Of the installed app: holds its pyproject.toml."""


def keep_to_own_code(app_folder: Path = APP_FOLDER) -> None:
    """Make this process answer with the app in `app_folder`, whatever code a run brings.

    A run of an app of another name or version fails with Flower's LoadClientAppError.
    """
    run_clientapp.install_from_fab = _unpack_nothing
    run_clientapp.get_load_client_app_fn = functools.partial(_load_from, app_folder)


def _unpack_nothing(fab: bytes, *_: Any, **__: Any) -> None:
    """In place of unpacking the code that came with a run."""


def _load_from(app_folder: Path, default_app_ref: str, app_path: str | None, multi_app: bool) -> Any:
    """Flower's loader, bound to a folder."""
    return get_load_client_app_fn(default_app_ref, str(app_folder), multi_app)


def main() -> None:
    """Run one ClientApp task; what the site's own code logs goes to standard error as JSON."""
    os.umask(0o077)  # moments and secrets are for this user alone
    keep_to_own_code()
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    for package in ("client", "model", "data_partition"):
        logging.getLogger(package).addHandler(handler)
        logging.getLogger(package).setLevel(logging.INFO)
    flwr_clientapp()
