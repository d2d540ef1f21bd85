"""Flower ServerApp."""

from __future__ import annotations

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from federation.settings import Settings
from server.flower.task_heartbeat import keep_task_heartbeats
from server.rounds.federation import run_federation
from server.run_folder.folder import find_checkpoint
from server.run_folder.logs import logging_to

app = ServerApp()


@app.main()  # type: ignore[untyped-decorator]
def main(grid: Grid, context: Context) -> None:
    """Run the federation that the run config describes; its log goes to stderr and to the run folder."""
    keep_task_heartbeats()
    settings = Settings.from_flat(context.run_config)
    folder, _ = find_checkpoint(settings)
    folder.mkdir(parents=True, exist_ok=True)
    with logging_to(folder):
        run_federation(grid, settings)
