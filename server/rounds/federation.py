"""A federated run from the first greeting to the last round."""

from __future__ import annotations

import logging
import signal

from flwr.app import ConfigRecord
from flwr.serverapp import Grid

from federation.settings import Settings
from model.checkpoint import Checkpoint
from server.rounds.central_evaluation import CentralEvaluation
from server.rounds.fedgan import FedGAN, to_record
from server.rounds.messaging import PatientGrid, exchange
from server.rounds.privacy_ledger import PrivacyLedger
from server.rounds.recording import RoundOutcome, RunRecorder
from server.rounds.secure_round import SecureRounds
from server.rounds.secure_statistics import secure_agreement
from server.rounds.stopping import StopDecision
from server.run_folder.folder import RunFolder, explaining_full_disks
from server.run_folder.history import RowListener, read_history
from server.run_folder.live_status import LiveStatus, Phase
from server.sites.agreement import initial_state, state_from
from server.sites.quorum import Quorum
from server.sites.roster import Roster
from server.termination import Termination, noticing

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
        ConfigError: if the settings do not fit the run folder.
        CheckpointError: if the run is to be resumed and no checkpoint is intact.
        FederationError: if the run folder is in use, or too few sites take part or send valid updates for as long as
            quorum-timeout-s; the last checkpoint is kept.
        TerminatedError: on SIGTERM, or SIGINT, which Flower sends when a run is stopped; the round in progress is lost.
    """
    with noticing(signal.SIGTERM, signal.SIGINT) as termination:
        folder, checkpoint = RunFolder.open(settings)
        with folder:
            try:
                with explaining_full_disks(folder.path):
                    stop = _train(grid, settings, folder, checkpoint, on_round=on_round, termination=termination)
                    folder.write_completed(stop.reason)
                    return stop
            except Exception as error:
                _log.error("training ends: %s", error)
                folder.write_failed(error)
                raise


def _train(
    grid: Grid,
    settings: Settings,
    folder: RunFolder,
    checkpoint: Checkpoint | None,
    *,
    on_round: RowListener | None,
    termination: Termination,
) -> StopDecision:
    """Greet the sites, then train round after round; the folder has the result of neither yet."""
    grid = PatientGrid(grid, on_wait=termination.check)
    central = CentralEvaluation(settings) if settings.run.eval_data_dir else None
    roster, live = Roster(settings), LiveStatus(folder.path)

    def watch() -> None:
        termination.check()
        live.see(roster.connected(grid), roster.refused)

    live.enter(Phase.WAITING, checkpoint.round + 1 if checkpoint else 0)
    roster.wait_for_sites(grid, on_wait=watch)
    secure = SecureRounds(grid, roster, settings, on_wait=watch, history=read_history(folder.path))

    def refresh() -> None:
        roster.refresh(grid, on_wait=watch)

    if checkpoint is not None:
        state = checkpoint
    elif settings.privacy.secure_aggregation:
        state = state_from(settings, secure_agreement(secure, settings, folder.run_id, refresh), roster.labels())
    else:
        state = initial_state(settings, [s.statistics for _, s in roster.sites if s.statistics], roster.labels())
    recorder = RunRecorder(settings, folder, state, on_round, central)
    strategy = FedGAN(recorder.state.tensors, roster, settings, folder.path / "updates", read_history(folder.path))
    strategy.summary()
    if checkpoint is not None:
        _log.info("going on after round %d", checkpoint.round)
    scalars = ConfigRecord({**recorder.state.part_sizes.to_flat(), "run-id": folder.run_id})
    quorum = Quorum(settings.rounds, roster, refresh, on_wait=watch, timeout_s=settings.waiting.quorum_timeout_s)
    ledger = PrivacyLedger(settings.privacy)

    def train_once(round_number: int) -> RoundOutcome:
        live.enter(Phase.TRAINING, round_number)
        if settings.privacy.secure_aggregation:
            return secure.train(round_number, recorder.state.tensors, scalars)
        arrays = to_record(recorder.state.tensors)
        messages = strategy.configure_train(round_number, arrays, scalars, grid)
        timeout_s = settings.waiting.round_timeout_s
        replies = exchange(grid, messages, timeout_s=timeout_s, on_wait=watch)
        replies = quorum.counted(replies, num_unasked=len(roster.sites) - len(messages))
        strategy.aggregate_train(round_number, replies)
        return strategy.outcome

    def train_round(round_number: int) -> RoundOutcome:
        termination.check()
        secure.require_progress()
        return ledger.record(round_number, quorum.train(round_number, lambda: train_once(round_number)))

    stop = recorder.run(train_round)
    live.enter(Phase.ENDED, recorder.state.round)
    return stop
