"""Which round of a run is the best so far; its checkpoint is kept for as long as none is better.

By the highest SSIM of the central evaluation where a round has one, else by the lowest L_G of the rounds in which it
has all its terms; before there is such a round, the newest is the best. A generator's loss is measured by a
discriminator that changes from round to round, so without `eval-data-dir` "best" says little more than "trained without
an accident".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from model.files import write_json
from server.run_folder.history import RoundRow

BEST_NAME = "best.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class BestRound:
    """The best round and why."""

    round: int
    by: str
    """ssim (higher is better), loss_generator (lower is better) or round (later is better)."""
    value: float

    def write(self, run: Path) -> None:
        """Write best.json in the run folder: these three fields."""
        write_json(run / BEST_NAME, {"round": self.round, "by": self.by, "value": self.value})


def best_round(history: Iterable[RoundRow], among: Collection[int], first_whole: int = 1) -> BestRound | None:
    """The best of some rounds; of equal ones the earliest.

    Measured rounds go before others, and those whose L_G is whole before those whose is not.

    Args:
        history: the oldest round first.
        among: numbers of the rounds that have a checkpoint.
        first_whole: the first round whose L_G has all its terms (`server.rounds.stopping.first_whole_round`).
    """
    best: tuple[tuple[int, float], BestRound] | None = None
    for row in history:
        ranked = _ranked(row, first_whole)
        if row.round in among and ranked is not None and (best is None or ranked[0] > best[0]):
            best = ranked
    return best[1] if best else None


def _ranked(row: RoundRow, first_whole: int) -> tuple[tuple[int, float], BestRound] | None:
    """How high a round ranks, and why; None if its sites keep their losses to themselves and nobody measured it."""
    if "ssim" in row.evaluation:
        value = row.evaluation["ssim"]
        return (2, value), BestRound(round=row.round, by="ssim", value=value)
    if row.loss_generator is None:
        return None
    if row.round < first_whole:
        return (0, row.round), BestRound(round=row.round, by="round", value=float(row.round))
    return (1, -row.loss_generator), BestRound(round=row.round, by="loss_generator", value=row.loss_generator)
