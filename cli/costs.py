"""The table of `fedreenact doctor --speed`: what presets cost on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from cli.options import chosen_settings, deployed_settings
from cli.terminal import console

if TYPE_CHECKING:
    from federation.settings import Settings
    from federation.step_cost import Cost

SECONDS = 3.0
"""Of each measurement, at least."""
_QUICK, _LARGE = ("tiny", "small"), ("paper", "studio")
_HEADER = ("preset", "step", "frame", "bf16", "memory", "fit", "a site", "all here")
_NOTES = (
    "bf16: whether steps are computed in bfloat16. memory: of a training process; on a card with 0.6 GB assumed for "
    "CUDA itself. fit: how many of them the device's memory holds.",
    "a site: its steps of all rounds, which the stopping rule may end sooner; waiting and sending come on top. all "
    "here: a simulation of so many sites on this machine.",
)


def say_costs(presets: Sequence[str] | None) -> None:
    """Measure presets, by name or file, and print the table; None is those that do not take long here.

    Raises:
        ConfigError: for a preset that is not there.
    """
    from federation.step_cost import measured

    chosen = {name: deployed_settings(chosen_settings(name, None)) for name in presets or _presets_for_here()}
    table, notes = Table(*_HEADER), set[str]()
    for name, settings in chosen.items():
        with console.status(f"Measuring {escape(name)}"):
            cost = measured(settings, SECONDS)
        table.add_row(escape(name), *_cells(settings, cost))
        table.title = f"On {escape(cost.device)}" if cost else table.title
        notes |= _remarks(name, settings, cost)
    console.print(table)
    for line in (*_NOTES, *sorted(notes)):
        console.print(escape(line), soft_wrap=True)


def _presets_for_here() -> tuple[str, ...]:
    import torch

    return (*_QUICK, *_LARGE) if torch.cuda.is_available() else _QUICK


def _cells(settings: Settings, cost: Cost | None) -> list[str]:
    if cost is None:
        return ["[red]ended early[/]", *["-"] * (len(_HEADER) - 2)]
    num_steps = settings.rounds.max_rounds * settings.rounds.local_steps
    num_sites = settings.rounds.num_clients
    waves = num_sites if cost.card_bytes else -(-num_sites // _side_by_side(settings, cost))  # a card computes in turn
    return [
        f"{cost.step_s:.2f} s",
        f"{1000 * cost.frame_s:.0f} ms",
        "yes" if cost.is_mixed else "no",
        f"{cost.bytes_each / 1e9:.1f} GB",
        str(cost.num_that_fit) if cost.num_that_fit else "[red]none[/]",
        _duration(num_steps * cost.step_s),
        f"{num_sites}: {_duration(waves * num_steps * cost.step_s)}",
    ]


def _side_by_side(settings: Settings, cost: Cost) -> int:
    """Sites of a simulation that train at once on the cores and in the memory that there are."""
    num_by_cores = (os.cpu_count() or 1) // settings.simulation.client_num_cpus
    return max(1, min(settings.rounds.num_clients, num_by_cores, cost.num_that_fit))


def _remarks(name: str, settings: Settings, cost: Cost | None) -> set[str]:
    """What a preset's row does not say."""
    wanted = settings.loss.perceptual_backbone
    if cost is None:
        return {f"{name}: the process ended early, most likely for want of memory."}
    if cost.perceptual == wanted:
        return set()
    return {f"{name}: the file of perceptual-backbone {wanted} is not here; measured with {cost.perceptual}."}


def _duration(seconds: float) -> str:
    for unit, length_s in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.1f} {unit}"
    return f"{seconds:.0f} s"
