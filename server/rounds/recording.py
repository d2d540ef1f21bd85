"""What happens after every round, federated or centralized: checkpoint, history, progress, the question to stop."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from federation.resources import ResourceUse
from federation.settings import Settings
from model.checkpoint import Checkpoint, round_folders, round_number_of, save_checkpoint
from model.designs.registry import design_of
from server.rounds.central_evaluation import CentralEvaluation
from server.rounds.stopping import StopDecision, StoppingRule
from server.run_folder.best_round import best_round
from server.run_folder.folder import RunFolder, read_history

_log = logging.getLogger(__name__)

Tensors = dict[str, npt.NDArray[np.float32]]
RoundHook = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundOutcome:
    """What a round gave."""

    tensors: Tensors
    """The new global tensors."""
    metrics: dict[str, float]
    """Example-weighted mean over the accepted clients of every metric that they sent."""
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


class RunRecorder:
    """Holds the state that a checkpoint holds, and takes it from round to round."""

    def __init__(
        self,
        settings: Settings,
        folder: RunFolder,
        state: Checkpoint,
        on_round: RoundHook | None = None,
        central: CentralEvaluation | None = None,
    ) -> None:
        """Begin or go on.

        Args:
            settings: of the run.
            folder: where to write.
            state: of the last round; round 0 for a new run.
            on_round: called with every new row of the history.
            central: measures the networks after a round, or None.
        """
        self.state = state
        self._settings = settings
        self._untrained = state.tensors.keys() & set(design_of(settings.model.network).untrained)
        self._folder = folder
        self._on_round = on_round
        self._central = central
        self._rule = StoppingRule(
            tau=settings.rounds.tau, window=settings.rounds.variance_window, max_rounds=settings.rounds.max_rounds
        )
        self._round_seconds: list[float] = []
        self._used = ResourceUse(torch.device("cpu"))

    def run(self, train_round: Callable[[int], RoundOutcome]) -> StopDecision:
        """Train round after round until the stopping rule says so.

        Args:
            train_round: trains the round of the given number (from 1) on `self.state.tensors`.

        Returns:
            Why training ended.
        """
        stop = self._decide() if self.state.round else None
        while stop is None:
            started = time.monotonic()
            outcome = train_round(self.state.round + 1)
            stop = self._record(outcome, time.monotonic() - started)
        _log.info("training ends after round %d: %s", self.state.round, stop.reason, extra={"round": self.state.round})
        return stop

    def _record(self, outcome: RoundOutcome, seconds: float) -> StopDecision | None:
        tensors = outcome.tensors | {name: self.state.tensors[name] for name in self._untrained}
        losses = [loss] if (loss := outcome.metrics.get("loss_generator")) is not None else []
        window = [*self.state.loss_window, *losses][-self._settings.rounds.variance_window :]
        self.state = dataclasses.replace(
            self.state,
            round=self.state.round + 1,
            settings=self._settings.to_flat(),
            tensors=tensors,
            ema_tensors=self._averaged(tensors),
            loss_window=window,
        )
        stop = self._decide()
        row = self._row(outcome, seconds, stop)
        self._folder.append_history(row)  # before the checkpoint: a resume drops rows without one, never misses any
        save_checkpoint(self._folder.path, self.state)
        self._keep_the_best_and_the_newest()
        self._round_seconds.append(seconds)
        _log.info("%s", self._progress(row), extra={"round": self.state.round})
        if self._on_round is not None:
            self._on_round(row)
        return stop

    def _decide(self) -> StopDecision | None:
        return self._rule.decide(self.state.round, self.state.loss_window)

    def _averaged(self, tensors: Tensors) -> Tensors:
        """The exponential average over rounds; empty if it is off."""
        decay = np.float32(self._settings.rounds.server_ema_decay)
        if decay == 0:
            return {}
        if not self.state.ema_tensors:
            return {name: array.copy() for name, array in tensors.items()}
        return {
            name: np.asarray(decay * self.state.ema_tensors[name] + (np.float32(1) - decay) * array)
            for name, array in tensors.items()
        }

    def _keep_the_best_and_the_newest(self) -> None:
        """Name the best round, then drop all checkpoints but its and the last `keep-checkpoints`."""
        folders = {round_number_of(folder): folder for folder in round_folders(self._folder.path)}
        best = best_round(read_history(self._folder.path), among=folders.keys())
        if best is not None:
            best.write(self._folder.path)
        kept = {*sorted(folders)[-self._settings.run.keep_checkpoints :], best.round if best else 0}
        for number in folders.keys() - kept:
            shutil.rmtree(folders[number], ignore_errors=True)

    def _row(self, outcome: RoundOutcome, seconds: float, stop: StopDecision | None) -> dict[str, Any]:
        return {
            "round": self.state.round,
            "loss_generator": outcome.metrics.get("loss_generator"),
            "loss_discriminator": outcome.metrics.get("loss_discriminator"),
            "variance_loss_generator": self._rule.variance(self.state.loss_window),
            "tau": self._settings.rounds.tau,
            "rounds_until_stop_possible": max(0, self._settings.rounds.variance_window - len(self.state.loss_window)),
            "seconds": seconds,
            "metrics": outcome.metrics,
            "clients": {str(client): metrics for client, metrics in outcome.clients.items()},
            "rejected": {str(client): reason for client, reason in outcome.rejected.items()},
            "rejected_kinds": {str(client): kind for client, kind in outcome.rejected_kinds.items()},
            "measured": {str(client): values for client, values in outcome.measured.items()},
            "fingerprints": {str(client): text for client, text in outcome.fingerprints.items()},
            "evaluation": self._evaluation(),
            "server": self._used.until_now(),
            "time": time.time(),
            "stop": stop.kind if stop else None,
        } | ({"discarded": outcome.discarded} if outcome.discarded else {})

    def _evaluation(self) -> dict[str, float]:
        """Central evaluation, if there is one for this round."""
        if self._central is None or not self._central.is_due(self.state.round):
            return {}
        return self._central.measure(self.state)

    def _progress(self, row: dict[str, Any]) -> str:
        """The round in one line a person can read."""
        variance = row["variance_loss_generator"]
        num_left = self._settings.rounds.max_rounds - row["round"]
        left_s = num_left * sum(self._round_seconds) / len(self._round_seconds)
        parts = [
            f"round {row['round']}/{self._settings.rounds.max_rounds}",
            *losses_in_words(row),
            f"Var(L_G) {'needs more rounds' if variance is None else format(variance, '.3g')}, tau {row['tau']:g}",
            f"{row['seconds']:.1f} s",
            f"at most {_duration(left_s)} left",
        ]
        if row["rejected"]:
            parts.append("left out: " + ", ".join(row["rejected"]))
        return " | ".join(parts)


def losses_in_words(row: Mapping[str, Any]) -> list[str]:
    """The losses of a row of history.jsonl, as far as the sites tell them: mean L_G, each site's, mean L_D.

    Of a discarded round, why it was.
    """
    if row.get("discarded"):
        return [f"discarded: {row['discarded']}"]
    if row["loss_generator"] is None:
        return ["losses stay at the sites"]
    sites = [(site, values.get("loss_generator")) for site, values in row["clients"].items()]
    told = " ".join(f"{site}:{loss:.2f}" for site, loss in sites if loss is not None)
    discriminator = row["loss_discriminator"]
    return [
        f"L_G {row['loss_generator']:.2f}" + (f" ({told})" if told else ""),
        *([f"L_D {discriminator:.3f}"] if discriminator is not None else []),
    ]


def _duration(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
