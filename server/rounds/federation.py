"""A federated run from the first greeting to the last round."""

from __future__ import annotations

import logging
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from flwr.serverapp import Grid

from data_partition.shards.content import contents
from data_partition.shards.shard import open_dataset
from federation.settings import Settings
from model.checkpoint import Checkpoint
from model.setting import Scalar
from server.rounds.exchange import Link
from server.rounds.fedgan import FedGAN
from server.rounds.hooks import hooks_of
from server.rounds.loop import RoundKind, RoundLoop
from server.rounds.messaging import PatientGrid
from server.rounds.secure_round import SecureRounds, SecureSums
from server.rounds.secure_statistics import secure_agreement
from server.rounds.stopping import StopDecision, StoppingRule
from server.run_folder.folder import require_same_people
from server.run_folder.history import RowListener, read_history
from server.run_folder.life import Run, running
from server.run_folder.live_status import Phase
from server.sites.agreement import initial_state, state_from
from server.sites.quorum import Quorum
from server.sites.roster import Roster

_log = logging.getLogger(__name__)


def run_federation(grid: Grid, settings: Settings, on_round: RowListener | None = None) -> StopDecision:
    """Train until the stopping rule says so; checkpoints and history are in output-dir.

    Args:
        grid: Flower's connection to the sites.
        settings: of the run.
        on_round: called with every new row of the history.

    Returns:
        Why training ended.

    Raises:
        ConfigError: if settings, people or version do not fit the run folder.
        CheckpointError: if the run is to be resumed and no checkpoint is intact.
        FederationError: if the run folder is in use, or too few sites take part or send valid updates for as long as
            quorum-timeout-s; the last checkpoint is kept.
        TerminatedError: on SIGTERM, or SIGINT, which Flower sends when a run is stopped; the round in progress is lost.
    """
    with running(settings, signal.SIGTERM, signal.SIGINT) as run:
        rows = read_history(run.folder.path)
        run.live.expect(settings.rounds.num_clients, {site: row.time for row in rows for site in row.clients})
        if run.checkpoint is not None and (stop := StoppingRule.of(settings).after(run.checkpoint)):
            run.complete(stop.reason, run.checkpoint.round)  # whether or not sites are there
            return stop
        hooks = hooks_of(run, on_round)
        sites = _Sites(run, PatientGrid(grid, on_wait=run.termination.check), Roster(settings))
        sites.greet()
        sites.note_data()
        if run.checkpoint is not None:
            require_same_people(run.checkpoint.identities, sites.roster.labels())
        state = run.checkpoint or _new_state(run, sites)
        if run.checkpoint is not None:
            _log.info("going on after round %d", state.round)
        loop = RoundLoop(run, state, _kind_of(run, sites, state), hooks, sites.quorum(), sites.roster.labels)
        stop = loop.run()
        run.complete(stop.reason, loop.state.round)
        return stop


@dataclass(frozen=True, slots=True)
class _Sites:
    """The sites of a run: who is there, and how they are reached."""

    run: Run
    grid: PatientGrid
    roster: Roster

    def greet(self) -> None:
        """Wait until the sites have said who they are."""
        self.run.live.enter(Phase.WAITING, self.run.checkpoint.round + 1 if self.run.checkpoint else 0)
        self.roster.wait_for_sites(self.grid, on_wait=self.watch)

    def note_data(self) -> None:
        """Put into the run's record what the sites train on: all of a simulation's dataset, numbers of real sites.

        Raises:
            ConfigError: if a simulation's dataset is not the one that the run began with.
            DataError: if it cannot be used.
        """
        if self.roster.is_simulated:
            self.run.folder.note_people(contents(open_dataset(Path(self.run.settings.data.data_dir))))
        else:
            self.run.folder.note_sites(self.roster.site_frames())

    def refresh(self) -> None:
        """Greet those who are new, and forget those who left."""
        self.roster.refresh(self.grid, on_wait=self.watch)

    def watch(self) -> None:
        """Obey a signal, and say who is connected; called again and again while something is waited for."""
        self.run.termination.check()
        self.run.live.see(self.roster.connected(self.grid), self.roster.refusals())

    def link(self) -> Link:
        """For the rounds' questions."""
        settings = self.run.settings
        return Link(
            grid=self.grid,
            roster=self.roster,
            timeout_s=settings.waiting.round_timeout_s,
            on_wait=self.watch,
            min_sites=settings.rounds.min_fit_clients,
        )

    def quorum(self) -> Quorum:
        """For the waiting before and between rounds."""
        settings = self.run.settings
        return Quorum(
            settings.rounds,
            self.roster,
            self.refresh,
            on_wait=self.watch,
            on_trouble=self.run.live.tell,
            timeout_s=settings.waiting.quorum_timeout_s,
        )


def _new_state(run: Run, sites: _Sites) -> Checkpoint:
    """Round 0: what the sites agree on, by their greetings or by a secure sum."""
    settings, roster = run.settings, sites.roster
    if settings.privacy.secure_aggregation:
        sums = SecureSums(sites.link(), settings)
        agreement = secure_agreement(sums, settings, run.folder.run_id, sites.refresh)
        return state_from(settings, agreement, roster.labels())
    return initial_state(settings, [site.statistics for _, site in roster.sites if site.statistics], roster.labels())


def _kind_of(run: Run, sites: _Sites, state: Checkpoint) -> RoundKind:
    """How the run's rounds are trained: in clear or under a secure sum."""
    settings, history = run.settings, read_history(run.folder.path)
    scalars: dict[str, Scalar] = {**state.part_sizes.to_flat(), "run-id": run.folder.run_id}
    if settings.privacy.secure_aggregation:
        sums = SecureSums(sites.link(), settings)
        return SecureRounds(state.tensors, sums, settings, scalars=scalars, history=history)
    shutil.rmtree(run.folder.path / "updates", ignore_errors=True)  # where earlier versions kept single updates
    strategy = FedGAN(state.tensors, sites.link(), settings, run.folder.path, scalars=scalars, history=history)
    strategy.summary()
    return strategy
