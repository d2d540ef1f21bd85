"""The life of a run: its folder is locked, signals are noticed, and result.json says how it ended."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from federation.settings import Settings
from model.checkpoint import Checkpoint
from server.run_folder.folder import RunFolder, explaining_full_disks
from server.run_folder.live_status import LiveStatus, Phase
from server.run_folder.record import People
from server.termination import Termination, noticing

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A run in progress, federated or centralized."""

    settings: Settings
    folder: RunFolder
    """This process's alone for as long as the run lives."""
    checkpoint: Checkpoint | None
    """To go on from; None for a new run."""
    live: LiveStatus
    """Says what the run does right now."""
    termination: Termination
    """Whether a signal has told the run to end."""

    def complete(self, reason: str, last_round: int) -> None:
        """The run ended as it should.

        Args:
            reason: of the stopping rule, in words.
            last_round: number of the round after which it ended.
        """
        _log.info("training ends after round %d: %s", last_round, reason, extra={"round": last_round})
        self.live.enter(Phase.ENDED, last_round)
        self.folder.write_completed(reason)


@contextlib.contextmanager
def running(settings: Settings, *signals: signal.Signals, people: People | None = None) -> Iterator[Run]:
    """Begin a run or go on with one; how it ends early, by an error or a signal, is written when the block is left.

    Args:
        settings: of the run.
        signals: that are noticed within the block.
        people: in the dataset; None where the server does not see it, or not yet.

    Raises:
        ConfigError: if settings, people or version do not fit the run folder.
        CheckpointError: if the run is to be resumed and no checkpoint is intact.
        FederationError: if the run folder is in use, or in the place of an error that a full disk caused.
    """
    with noticing(*signals) as termination:
        folder, checkpoint = RunFolder.open(settings, people)
        with folder:
            try:
                with explaining_full_disks(folder.path):
                    live = LiveStatus(folder.path)
                    yield Run(
                        settings=settings, folder=folder, checkpoint=checkpoint, live=live, termination=termination
                    )
            except Exception as error:
                folder.write_failed(error)
                raise
