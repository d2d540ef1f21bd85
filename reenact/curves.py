"""Curves of a run over its rounds, from the rows of its history."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

History = Sequence[Mapping[str, Any]]

_MEAN = "#1d4ed8"
_CLIENT = "#93b4f5"
_THRESHOLD = "#c2410c"


def write_curves(path: Path, history: History) -> None:
    """Generator loss, discriminator loss and Var(L_G) over rounds, as one PNG.

    Args:
        path: ends in .png; written under a temporary name and renamed.
        history: rows of history.jsonl, at least one.
    """
    figure = Figure(figsize=(12, 3.6), dpi=110, layout="constrained")
    generator, discriminator, variance = figure.subplots(1, 3)
    _losses(generator, history, "loss_generator")
    generator.set_title("Generator loss $L_G$")
    _losses(discriminator, history, "loss_discriminator")
    discriminator.set_title("Discriminator loss $L_D$")
    _variance(variance, history)
    for axes in (generator, discriminator, variance):
        _finish(axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    FigureCanvasAgg(figure).print_png(str(temporary))
    os.replace(temporary, path)


def _losses(axes: Axes, history: History, name: str) -> None:
    """Thin lines of the clients, a thick one of their mean."""
    rounds = [row["round"] for row in history]
    for client in sorted({client for row in history for client in row["clients"]}):
        values = [row["clients"].get(client, {}).get(name, float("nan")) for row in history]
        axes.plot(rounds, values, color=_CLIENT, linewidth=1)
    axes.plot(rounds, [row[name] for row in history], color=_MEAN, linewidth=2.2, marker="o", markersize=3.5)


def _variance(axes: Axes, history: History) -> None:
    known = [row for row in history if row["variance_loss_generator"] is not None]
    rounds = [row["round"] for row in known]
    axes.plot(rounds, [row["variance_loss_generator"] for row in known], color=_MEAN, marker="o", markersize=3.5)
    tau = history[-1]["tau"]
    if tau > 0:
        axes.axhline(tau, color=_THRESHOLD, linestyle="--", linewidth=1.2)
        axes.annotate(rf"stop below $\tau$ = {tau:g}", (0.98, tau), xycoords=("axes fraction", "data"),
                      ha="right", va="bottom", color=_THRESHOLD, fontsize=8)  # fmt: skip
    if known:
        axes.set_ylim(bottom=0)
    else:
        axes.text(0.5, 0.5, "too few rounds", ha="center", va="center", transform=axes.transAxes)
    axes.set_title("Var($L_G$) over the last rounds")


def _finish(axes: Axes) -> None:
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
