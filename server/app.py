"""Flower ServerApp."""

from __future__ import annotations

import logging

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from model.config import Settings
from server.federation import run_federation

app = ServerApp()


@app.main()  # type: ignore[untyped-decorator]
def main(grid: Grid, context: Context) -> None:
    """Run the federation that the run config describes."""
    _show_progress()
    run_federation(grid, Settings.from_flat(context.run_config))


def _show_progress() -> None:
    """Log this package's lines to stderr, which Flower shows and keeps; Flower has its own handler for its own."""
    logger = logging.getLogger("server")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
