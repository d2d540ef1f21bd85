"""The loop of a run: wait for sites; train, check and aggregate; decide; record.

Every round of every kind of training goes through `RoundLoop.run`. To train, check and aggregate is the work of the
round's kind, of which there are three: `FedGAN` (fedgan.py), `SecureRounds` (secure_round.py) and `PooledRounds`
(centralized.py). What is recorded, and in which order, is a list of hooks (hooks.py).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from model.checkpoint import Checkpoint, with_names
from model.designs.registry import design_of
from model.errors import FederationError
from model.networks.bundle import NamedArrays
from server.rounds.stopping import StopDecision, StoppingRule, require_progress
from server.run_folder.history import RoundRow
from server.run_folder.life import Run
from server.run_folder.live_status import Phase
from server.sites.quorum import Quorum

Tensors = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundOutcome:
    """What a round gave."""

    tensors: Tensors
    """The new global tensors."""
    metrics: dict[str, float]
    """Example-weighted mean over the accepted clients of every metric that they sent; of L_G and L_D the median under a
    robust rule of aggregation."""
    clients: dict[int, dict[str, float]] = field(default_factory=dict)
    """Partition id of an accepted client to its metrics and `num_examples`."""
    rejected: dict[int, str] = field(default_factory=dict)
    """Partition id of a client that failed, was late or sent an unusable update, to the reason."""
    rejected_kinds: dict[int, str] = field(default_factory=dict)
    """The same clients to the kind of the reason: one of few words."""
    measured: dict[int, dict[str, float]] = field(default_factory=dict)
    """Partition id of an accepted client to what the server measured: `update_norm`, `cosine_to_mean`, `bytes_up`,
    `bytes_down`; and `weight`, the frames that it counted as."""
    fingerprints: dict[int, str] = field(default_factory=dict)
    """Partition id of an accepted client to the start of its update's SHA-256, by which a replay is known."""
    discarded: str = ""
    """Why the round gave nothing and the tensors are those of the round before; empty for every other round."""


class RoundKind(Protocol):
    """How a round is trained: at sites in clear, at sites under a secure sum, or on pooled frames."""

    def train(self, round_number: int, tensors: NamedArrays) -> RoundOutcome:
        """Train from the global tensors, check what comes back, and aggregate it.

        Args:
            round_number: from 1.
            tensors: the global travelling tensors; not changed.

        Raises:
            FederationError: if too little of what comes back can be used; the round may be trained again.
        """


class RoundHook(Protocol):
    """Something that happens after every round."""

    def after_round(self, row: RoundRow, state: Checkpoint) -> RoundRow:
        """Do it; the row, with what this adds to it, goes to the next hook.

        Args:
            row: of the round.
            state: of the run after the round.
        """


class RoundLoop:
    """Takes the state of a run, which is what a checkpoint holds, from round to round."""

    def __init__(
        self,
        run: Run,
        state: Checkpoint,
        kind: RoundKind,
        hooks: Sequence[RoundHook],
        quorum: Quorum | None = None,
        names: Callable[[], Sequence[str]] = lambda: (),
    ) -> None:
        """Begin or go on.

        Args:
            run: whose rounds these are.
            state: of the last round; round 0 for a new run.
            kind: trains a round.
            hooks: called after every round, in this order.
            quorum: waits for sites before a round, and when too few updates can be used; None where there are no sites.
            names: gives the [I] names of identities that sites have told so far; a site may join after the first round.
        """
        self._run = run
        self._kind = kind
        self._hooks = hooks
        self._quorum = quorum
        self._names = names
        self._untrained = state.tensors.keys() & set(design_of(run.settings.model.network).untrained)
        self._rule = StoppingRule.of(run.settings)
        self.state = dataclasses.replace(state, loss_window=self._rule.counted(state.round, state.loss_window))
        self._num_discarded = 0  # not of the rounds before a resume: whoever asks for it has looked at the sites

    def run(self) -> StopDecision:
        """Train round after round until the stopping rule says so.

        Returns:
            Why training ended.

        Raises:
            NoProgressError: if too many rounds in a row gave nothing.
            FederationError: if sites stay away.
            TerminatedError: on a signal; the round in progress is lost.
        """
        stop = self._rule.after(self.state)
        while stop is None:
            self._run.termination.check()
            require_progress(self._num_discarded)
            started = time.monotonic()
            outcome = self._trained(self.state.round + 1)
            seconds = time.monotonic() - started
            self.state = self._next_state(outcome)
            stop = self._rule.after(self.state)
            self._record(self._row(outcome, seconds, stop))
        return stop

    def _trained(self, round_number: int) -> RoundOutcome:
        """Wait for sites; train, check and aggregate; all of it again while too few updates can be used."""
        while True:
            if self._quorum is not None:
                self._quorum.wait_for_sites(round_number)
            self._run.live.enter(Phase.TRAINING, round_number)
            try:
                return self._kind.train(round_number, self.state.tensors)
            except FederationError as error:
                if self._quorum is None:
                    raise
                self._quorum.wait_to_repeat(error)

    def _record(self, row: RoundRow) -> None:
        for hook in self._hooks:
            row = hook.after_round(row, self.state)

    def _next_state(self, outcome: RoundOutcome) -> Checkpoint:
        self._num_discarded = self._num_discarded + 1 if outcome.discarded else 0
        tensors = outcome.tensors | {name: self.state.tensors[name] for name in self._untrained}
        losses = [loss] if (loss := outcome.metrics.get("loss_generator")) is not None else []
        return dataclasses.replace(
            self.state,
            round=self.state.round + 1,
            settings=self._run.settings.to_flat(),
            identities=with_names(self.state.identities, self._names()),
            tensors=tensors,
            ema_tensors=self._averaged(tensors),
            loss_window=self._rule.counted(self.state.round + 1, [*self.state.loss_window, *losses]),
        )

    def _averaged(self, tensors: Tensors) -> Tensors:
        """The exponential average over rounds; empty if it is off.

        It reaches back less far in the first ones, (1 + r) / (10 + r) in round r at most: a run of few rounds is not to
        be an average with what it was at its beginning.
        """
        most = self._run.settings.rounds.server_ema_decay
        if most == 0:
            return {}
        if not self.state.ema_tensors:
            return {name: array.copy() for name, array in tensors.items()}
        number = self.state.round + 1
        decay = np.float32(min(most, (1 + number) / (10 + number)))
        return {
            name: np.asarray(decay * self.state.ema_tensors[name] + (np.float32(1) - decay) * array)
            for name, array in tensors.items()
        }

    def _row(self, outcome: RoundOutcome, seconds: float, stop: StopDecision | None) -> RoundRow:
        return RoundRow(
            round=self.state.round,
            loss_generator=outcome.metrics.get("loss_generator"),
            loss_discriminator=outcome.metrics.get("loss_discriminator"),
            variance_loss_generator=self._rule.variance(self.state.loss_window),
            tau=self._rule.tau,
            rounds_until_stop_possible=self._rule.rounds_left(self.state.round, self.state.loss_window),
            seconds=seconds,
            metrics=outcome.metrics,
            clients=outcome.clients,
            rejected=outcome.rejected,
            rejected_kinds=outcome.rejected_kinds,
            measured=outcome.measured,
            fingerprints=outcome.fingerprints,
            stop=stop.kind if stop else None,
            discarded=outcome.discarded,
        )
