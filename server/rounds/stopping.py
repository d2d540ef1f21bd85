"""When training ends (thesis Algorithm 1, line 1), and which rounds' L_G can be compared at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from federation.settings import Settings
from model.checkpoint import Checkpoint
from model.designs.registry import design_of
from model.errors import FederationError

MAX_DISCARDED = 5
"""Rounds in a row without a usable sum after which the run ends: a site that poisons sums cannot be told."""


class NoProgressError(FederationError):
    """Rounds give nothing until a person has looked at the sites; starting the run again would not help."""


def first_whole_round(settings: Settings) -> int:
    """The first round whose L_G can be compared with those after it.

    From its first local step on, all terms of L_G are there, fully grown. Before it, L_G is a sum of fewer terms: it
    may be small, or stay as it is, and say nothing of the training that is to come. 1 where no term joins late.
    """
    whole_from = design_of(settings.model.network).whole_from(settings.loss)
    return 1 + -(-whole_from // settings.rounds.local_steps)


@dataclass(frozen=True, slots=True)
class StopDecision:
    """Why training ends."""

    kind: str
    """variance or max-rounds."""
    reason: str
    """The same in words and numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoppingRule:
    """`while round <= window or Var(L_G over the last window rounds) >= tau`, and at most max_rounds.

    Algorithm 1 has window = 5 and tau = 3. The variance is that of the population (divided by the number of rounds).
    Rounds before `first_round` do not enter it.
    """

    tau: float
    window: int
    max_rounds: int
    first_round: int = 1
    """`first_whole_round`."""

    @classmethod
    def of(cls, settings: Settings) -> StoppingRule:
        """A run's."""
        rounds = settings.rounds
        return cls(
            tau=rounds.tau,
            window=rounds.variance_window,
            max_rounds=rounds.max_rounds,
            first_round=first_whole_round(settings),
        )

    def after(self, state: Checkpoint) -> StopDecision | None:
        """Whether a run that has come this far is at its end; None to go on, and before the first round."""
        return self.decide(state.round, self.counted(state.round, state.loss_window)) if state.round else None

    def counted(self, round_number: int, losses: Sequence[float]) -> list[float]:
        """Of the rounds' losses those that enter the variance: at most `window`, and none of before `first_round`.

        Args:
            round_number: the last round completed.
            losses: L_G of the rounds completed that have one, the latest last.
        """
        num_counted = min(self.window, round_number - self.first_round + 1)
        return list(losses[-num_counted:]) if num_counted > 0 else []

    def rounds_left(self, round_number: int, losses: Sequence[float]) -> int:
        """Rounds after this one before the variance can be taken.

        Args:
            round_number: the last round completed.
            losses: those that are `counted`.
        """
        return max(0, self.first_round - 1 - round_number) + max(0, self.window - len(losses))

    def variance(self, losses: Sequence[float]) -> float | None:
        """Var(L_G) over the last `window` of the rounds' generator losses; None while there are fewer."""
        if len(losses) < self.window:
            return None
        return float(np.var(np.asarray(losses[-self.window :], np.float64)))

    def decide(self, num_rounds: int, losses: Sequence[float]) -> StopDecision | None:
        """Whether to stop after `num_rounds` rounds.

        Args:
            num_rounds: rounds completed.
            losses: those that are `counted`, the latest last.

        Returns:
            The decision to stop, or None to go on.
        """
        variance = self.variance(losses)
        if variance is not None and variance < self.tau:
            return StopDecision(
                "variance",
                f"Var(L_G) over the last {self.window} rounds is {variance:.4g}, below tau = {self.tau:g}",
            )
        if num_rounds >= self.max_rounds:
            return StopDecision("max-rounds", f"round {num_rounds} is the last that max-rounds allows")
        return None


def require_progress(num_discarded: int) -> None:
    """Nothing, unless too many rounds in a row were discarded.

    Raises:
        NoProgressError: then; a further round would be discarded as well.
    """
    if num_discarded >= MAX_DISCARDED:
        raise NoProgressError(
            f"the last {num_discarded} rounds had no usable secure sum; the log and history.jsonl say why. A "
            "site that poisons the sum cannot be told by the server: have each site's operator check it, then go on "
            "with resume"
        )
