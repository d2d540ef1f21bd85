"""A federated run on Flower's simulation engine, from start to finish, in one call."""

from __future__ import annotations

import math
import os
import signal
import time
from pathlib import Path

import torch

from data_partition.consent.check import open_for_training
from data_partition.shards.content import contents
from data_partition.shards.shard import require_meshes
from federation.settings import Settings
from model.designs.registry import design_of
from model.errors import ConfigError, FederationError
from server.flower.superlink import LocalSuperLink
from server.run_folder.folder import LOG_NAME, explaining_full_disks, find_checkpoint, write_settings, write_stopped
from server.run_folder.history import RowListener, read_history
from server.run_folder.lock import RunLock
from server.run_folder.result import RESULT_NAME, RunResult, RunState
from server.termination import TerminatedError, Termination, noticing

_POLL_INTERVAL_S = 1.0
_IDLE_TIMEOUT_S = 30.0
_SHUTDOWN_TIMEOUT_S = 30.0
_NUM_LOG_LINES = 15
_RAY_STEPS = 10_000


def run_simulation(settings: Settings, *, on_round: RowListener | None = None) -> Path:
    """Train with one process per client on this machine; the same app as `flwr run .`.

    Flower's own files and logs are in output-dir/flower. The SuperLink and all processes below it are stopped before
    this returns or raises, also on Ctrl-C and SIGTERM.

    Args:
        settings: of the run; data-dir and output-dir must be absolute.
        on_round: called with every new row of the history, within about a second.

    Returns:
        The run folder, with checkpoints and history.jsonl.

    Raises:
        ConfigError: if the settings do not fit this machine, or settings, people or version the run folder.
        DataError: if the dataset cannot be used or lacks what the network needs, or a person may not be trained on.
        FederationError: if the run folder is in use, or the run fails; it says why and where the logs are.
        TerminatedError: on SIGTERM, when all processes have ended; the round in progress is lost.
    """
    if not Path(settings.data.data_dir).is_absolute():
        raise ConfigError(f"setting data-dir: got {settings.data.data_dir!r}, wanted an absolute path")
    shards = open_for_training(Path(settings.data.data_dir), settings.data.without_consent)
    if design_of(settings.model.network).needs_mesh:
        require_meshes(shards)
    folder, _ = find_checkpoint(settings, contents(shards))
    with explaining_full_disks(folder), noticing(signal.SIGTERM) as termination:
        run_config = _clean(folder, settings)
        try:
            with LocalSuperLink(folder / "flower") as superlink:
                superlink.submit(run_config, _federation_config(settings))
                _follow(superlink, folder, on_round or (lambda row: None), termination)
        except TerminatedError as error:
            if RunResult.read(folder) is None:
                write_stopped(folder, error)
            raise
    result = RunResult.read(folder)
    if result is None or result.state is not RunState.COMPLETED:
        raise FederationError(f"{result.reason if result else 'no result'} (log: {folder / LOG_NAME})")
    return folder


def _clean(folder: Path, settings: Settings) -> Path:
    """Take the last run's result out of the folder, if nobody is writing to it; returns the file of the settings.

    Raises:
        FederationError: if somebody is.
    """
    lock = RunLock.take(folder)
    run_config = write_settings(settings)
    (folder / RESULT_NAME).unlink(missing_ok=True)
    lock.release()  # the server app takes it
    return run_config


def _federation_config(settings: Settings) -> dict[str, int | float]:
    """Clients of the simulation and what each may use; as many run side by side as fit, and no more are started."""
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    num_parallel = max(1, min(settings.rounds.num_clients, num_cores // settings.simulation.client_num_cpus))
    return {
        "num-supernodes": settings.rounds.num_clients,
        "client-resources-num-cpus": settings.simulation.client_num_cpus,
        "client-resources-num-gpus": gpu_share(settings, torch.cuda.device_count()),
        "init-args-num-cpus": num_parallel * settings.simulation.client_num_cpus,
    }


def gpu_share(settings: Settings, num_gpus: int) -> float:
    """GPUs per client: the setting, or so much that all clients fit the cards side by side; 0 to use the CPU.

    Ray shows a client one card, as the only one. Parts of a card are a little less than asked for: Flower holds .2 as a
    bit more, in single precision, and finds that four of them fit; Ray counts in steps of a ten-thousandth.

    Raises:
        ConfigError: if there is no GPU to share, or the setting names one of several.
    """
    share, device = settings.simulation.client_num_gpus, settings.optimizer.device
    num_gpus = 0 if device == "cpu" else num_gpus
    if share > 0 and not num_gpus:
        raise ConfigError(f"setting client-num-gpus: got {share:g}, but there is no GPU to use; set it to 0")
    if num_gpus > 1 and ":" in device:
        card = device.partition(":")[2]
        raise ConfigError(
            f"setting device: got {device}, but clients of a simulation share all cards that it sees; wanted cuda, and "
            f"CUDA_VISIBLE_DEVICES={card} in the environment for that card alone"
        )
    if not share:
        share = 1 / -(-settings.rounds.num_clients // num_gpus) if num_gpus else 0.0
    return share if share == 0 or share >= 1 else max(1, math.ceil(share * _RAY_STEPS) - 1) / _RAY_STEPS


def _follow(superlink: LocalSuperLink, folder: Path, on_round: RowListener, termination: Termination) -> None:
    """Pass new rows of the history on until the server app has written its result.

    Raises:
        TerminatedError: on a signal.
        FederationError: if the run ends without a result, or its processes do, with the end of its log.
    """
    num_seen = len(read_history(folder))
    last_busy, was_busy = time.monotonic(), False
    while True:
        termination.check()
        has_result = RunResult.read(folder) is not None
        rows = read_history(folder)
        for row in rows[num_seen:]:
            on_round(row)
        num_seen = len(rows)
        if has_result:
            superlink.wait_until_idle(_SHUTDOWN_TIMEOUT_S)
            return
        if superlink.is_busy():
            last_busy, was_busy = time.monotonic(), True
        elif time.monotonic() - last_busy >= _IDLE_TIMEOUT_S:
            status = superlink.status()
            if (was_busy or status.startswith("finished")) and RunResult.read(folder) is None:
                raise FederationError(_post_mortem(status, superlink.log(), folder))
            last_busy = time.monotonic()
        time.sleep(_POLL_INTERVAL_S)


def _post_mortem(status: str, log: str, folder: Path) -> str:
    """What can be said about a run that ended without a word from the server app."""
    (folder / "flower" / "run.log").write_text(log, encoding="utf-8")
    tail = "\n".join(log.splitlines()[-_NUM_LOG_LINES:])
    return (
        f"the simulation ended without a result (Flower says: {status}); what is finished is kept, the same command "
        f"(train: with --resume) goes on from there; logs are in {folder / 'flower'}; the last lines:\n{tail}"
    )
