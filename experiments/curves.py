"""Curves of a run over its rounds, from the rows of its history."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data_partition.shards.lettering import figure_text
from server.run_folder.history import RANKING, RoundRow

History = Sequence[RoundRow]

_MEAN = "#1d4ed8"
_THRESHOLD = "#c2410c"
_CHANCE = 0.5
_MAX_NAMED = 10
"""Clients with a colour and a name of their own; more are drawn alike."""


def curves_png(history: History, names: Sequence[str]) -> bytes:
    """Generator loss, ranking share of the image discriminator and Var(L_G) over rounds, as a PNG.

    Args:
        history: at least one round.
        names: of the clients, by index; a client beyond them, as all where they have no names, is called by its number.
    """
    figure = Figure(figsize=(12, 3.9), dpi=110, layout="constrained")
    generator, ranking, variance = figure.subplots(1, 3, sharex=True)
    _sites(generator, history, "loss_generator", names)
    generator.set_title("Generator loss $L_G$")
    _ranking(ranking, history, names)
    _variance(variance, history)
    for axes in (generator, ranking, variance):
        _finish(axes)
    handles, labels = generator.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False, fontsize=9)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _sites(axes: Axes, history: History, name: str, names: Sequence[str]) -> None:
    """Of one metric thin lines of the clients, a thick one of their mean weighted by frames."""
    rounds = [row.round for row in history]
    clients = sorted({client for row in history for client in row.clients})
    colours = colormaps["tab10"].colors if len(clients) <= _MAX_NAMED else ["#93b4f5"] * len(clients)  # type: ignore[attr-defined]
    for client, colour in zip(clients, colours, strict=False):
        values = [_known(row.clients.get(client, {}).get(name)) for row in history]
        name_of = figure_text(names[client]) if client < len(names) else f"client {client}"
        label = name_of if 1 < len(clients) <= _MAX_NAMED else None
        axes.plot(rounds, values, color=colour, linewidth=1.1, label=label)
    mean = [_known(row.metrics.get(name)) for row in history]
    axes.plot(rounds, mean, color=_MEAN, linewidth=2.4, marker="o", markersize=3.5, label="mean")


def _known(value: float | None) -> float:
    """NaN, which is not drawn, for a client without the value."""
    return float("nan") if value is None else value


def _ranking(axes: Axes, history: History, names: Sequence[str]) -> None:
    """Beside the line of chance, which says what L_D does not: whether the discriminator tells the two apart."""
    _sites(axes, history, f"{RANKING}image", names)
    axes.axhline(_CHANCE, color=_THRESHOLD, linestyle="--", linewidth=1.2)
    axes.annotate("chance", (0.98, _CHANCE), xycoords=("axes fraction", "data"),
                  ha="right", va="bottom", color=_THRESHOLD, fontsize=8)  # fmt: skip
    axes.set_ylim(0, 1)
    axes.set_title("Patches that the discriminator ranks right")


def _variance(axes: Axes, history: History) -> None:
    known = {row.round: row.variance_loss_generator for row in history if row.variance_loss_generator is not None}
    axes.plot(list(known), list(known.values()), color=_MEAN, marker="o", markersize=3.5)
    tau = history[-1].tau
    if tau > 0:
        axes.axhline(tau, color=_THRESHOLD, linestyle="--", linewidth=1.2)
        axes.annotate(rf"stop below $\tau$ = {tau:g}", (0.98, tau), xycoords=("axes fraction", "data"),
                      ha="right", va="bottom", color=_THRESHOLD, fontsize=8)  # fmt: skip
    if known:
        axes.set_ylim(bottom=0)
    else:
        axes.text(0.5, 0.5, "too few rounds", ha="center", va="center", transform=axes.transAxes)
    axes.set_xlim(history[0].round - 0.5, history[-1].round + 0.5)
    axes.set_title("Var($L_G$) over the last rounds")


def _finish(axes: Axes) -> None:
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
