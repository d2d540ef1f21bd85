"""Flower ServerApp."""

from __future__ import annotations

import logging

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from model.config import Settings
from server.federation import run_federation
from server.run_folder import LOG_NAME, find_checkpoint

app = ServerApp()


@app.main()  # type: ignore[untyped-decorator]
def main(grid: Grid, context: Context) -> None:
    """Run the federation that the run config describes; its log goes to stderr and to the run folder."""
    settings = Settings.from_flat(context.run_config)
    folder, _ = find_checkpoint(settings)
    folder.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [
        logging.StreamHandler(),
        logging.FileHandler(folder / LOG_NAME, encoding="utf-8"),
    ]
    logger = logging.getLogger("server")
    logger.setLevel(logging.INFO)
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
    try:
        run_federation(grid, settings)
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
