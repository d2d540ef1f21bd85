"""Which round of a run is the best so far; its checkpoint is kept for as long as none is better.

By the highest SSIM of the central evaluation where a round has one, else by the lowest L_G. A generator's loss is
measured by a discriminator that changes from round to round, so without `eval-data-dir` "best" says little more than
"trained without an accident".
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
    """ssim (higher is better) or loss_generator (lower is better)."""
    value: float

    def write(self, run: Path) -> None:
        """Write best.json in the run folder: these three fields."""
        write_json(run / BEST_NAME, {"round": self.round, "by": self.by, "value": self.value})


def best_round(history: Iterable[RoundRow], among: Collection[int]) -> BestRound | None:
    """The best of some rounds; measured rounds go before others, and of equal ones the earliest is the best.

    Args:
        history: the oldest round first.
        among: numbers of the rounds that have a checkpoint.
    """
    best: tuple[tuple[bool, float], BestRound] | None = None
    for row in history:
        is_measured = "ssim" in row.evaluation
        by, value = ("ssim", row.evaluation["ssim"]) if is_measured else ("loss_generator", row.loss_generator)
        if row.round not in among or value is None:
            continue  # sites that keep their losses to themselves leave nothing to go by
        rank = (is_measured, value if is_measured else -value)
        if best is None or rank > best[0]:
            best = rank, BestRound(round=row.round, by=by, value=value)
    return best[1] if best else None
