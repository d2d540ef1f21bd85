"""A run's history: one line of history.jsonl for each completed round."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from federation.settings import Settings
from model.files import json_of

HISTORY_NAME = "history.jsonl"
RANKING = "ranking_"
"""Of a discriminator's name among the metrics: the share of places where it puts what is real above what was drawn."""

_BY_SITE = ("clients", "rejected", "rejected_kinds", "measured", "fingerprints")
"""Fields whose keys are partition ids: numbers here, text in JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundRow:
    """What is known of one completed round; `site` below is a partition id.

    Fields with a default were added to the file in time: rows written before are without them.
    """

    round: int
    """Counted from 1."""
    loss_generator: float | None
    """L_G, the mean over the accepted sites weighted by frames, or the median under a robust rule of aggregation; None
    if sites keep their losses to themselves."""
    loss_discriminator: float | None
    """L_D, likewise."""
    variance_loss_generator: float | None
    """Var(L_G) over the last rounds; None while there are too few whose L_G has all its terms."""
    tau: float
    """Training stops when the variance falls below it."""
    rounds_until_stop_possible: int | None = None
    """Rounds that the variance still needs before it can be taken."""
    seconds: float
    """From the end of the round before, waiting for sites included."""
    metrics: Mapping[str, float]
    """Weighted mean over the accepted sites of every number that they sent; `dp_...` is what noise has spent."""
    clients: Mapping[int, Mapping[str, float]]
    """Accepted site to what it sent, and `num_examples`, its training frames."""
    rejected: Mapping[int, str]
    """Site that was left out, to the reason."""
    rejected_kinds: Mapping[int, str] = field(default_factory=dict)
    """The same sites to the kind of the reason (`server.updates.reply.Rejection`)."""
    measured: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """Accepted site to what the server measured of its update (`RoundOutcome.measured`)."""
    fingerprints: Mapping[int, str] = field(default_factory=dict)
    """Accepted site to the start of its update's SHA-256."""
    evaluation: Mapping[str, float] = field(default_factory=dict)
    """Central evaluation: `l1`, `psnr_db`, `ssim`, and of the source as `copy_source_...`; empty without one."""
    server: Mapping[str, float] = field(default_factory=dict)
    """The server app's own `cpu_seconds` and `peak_memory_bytes`."""
    time: float = 0.0
    """Unix seconds at which the row was made."""
    stop: str | None
    """`variance` or `max-rounds` if training ends with this round."""
    discarded: str = ""
    """Why the round gave nothing and the model is that of the round before; empty for every other round."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """A row from the JSON object of its line; keys that are not known here are ignored.

        Raises:
            ValueError: if a key is missing that every row has, or a partition id is no number.
        """
        known = {each.name: values[each.name] for each in fields(cls) if each.name in values}
        try:
            by_site = {name: {int(s): value for s, value in known[name].items()} for name in _BY_SITE if name in known}
            return cls(**known | by_site)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"{HISTORY_NAME}: no row of a round: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """The JSON object of its line; `discarded` is left out where there is nothing to say."""
        values: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        values |= {name: {str(site): value for site, value in values[name].items()} for name in _BY_SITE}
        if not self.discarded:
            del values["discarded"]
        return values

    def losses_in_words(self) -> list[str]:
        """The losses, as far as the sites tell them: mean L_G, each site's, mean L_D.

        Of a discarded round, why it was.
        """
        if self.discarded:
            return [f"discarded: {self.discarded}"]
        if self.loss_generator is None:
            return ["losses stay at the sites"]
        sites = [(site, values.get("loss_generator")) for site, values in self.clients.items()]
        told = " ".join(f"{site}:{loss:.2f}" for site, loss in sites if loss is not None)
        return [
            f"L_G {self.loss_generator:.2f}" + (f" ({told})" if told else ""),
            *self.discriminators_in_words(),
        ]

    def discriminators_in_words(self) -> list[str]:
        """L_D, and of each discriminator the share of places that it ranks right: at chance .5, whatever L_D is."""
        if self.loss_discriminator is None:
            return []
        shares = [f"{judge} {share:.2f}" for judge, share in self.rankings().items()]
        return [f"L_D {self.loss_discriminator:.3f}" + (f" (ranked {', '.join(shares)})" if shares else "")]

    def rankings(self) -> dict[str, float]:
        """Discriminator ("image", "landmarks") to its ranking share, 0 to 1; empty before the discriminators start."""
        return {name.removeprefix(RANKING): value for name, value in self.metrics.items() if name.startswith(RANKING)}


RowListener = Callable[[RoundRow], None]
"""Called with every new row."""


def read_history(run: Path) -> list[RoundRow]:
    """The rows of a run folder, the oldest first; damaged lines and one that is still being written are left out."""
    return [row for _, row in readable_lines(run)]


def readable_lines(run: Path) -> Iterator[tuple[bytes, RoundRow]]:
    """The lines of a run folder's history that can be read, and what each says."""
    for line in finished_lines(run):
        with contextlib.suppress(ValueError):
            values = json_of(line)
            if isinstance(values, dict):
                yield line, RoundRow.from_json(values)


def finished_lines(run: Path) -> list[bytes]:
    """All lines of a run folder's history, with their newlines, but for one that is still being written."""
    try:
        text = (run / HISTORY_NAME).read_bytes()
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines(keepends=True) if line.endswith(b"\n")]


def append_row(run: Path, row: RoundRow) -> None:
    """One more line, on disk when this returns."""
    with (run / HISTORY_NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row.to_json(), allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def spent(history: Sequence[RoundRow], settings: Settings) -> tuple[int, int]:
    """Optimiser steps and samples seen in a history, over all clients whose work was used."""
    asked = settings.rounds.local_steps
    num_steps = sum(int(client.get("num_steps", asked)) for row in history for client in row.clients.values())
    return num_steps, num_steps * settings.optimizer.batch_size
