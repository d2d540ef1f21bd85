"""Pictures of an audit: shares beside chance, and frames beside what was read of them."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from data_partition.shards.lettering import figure_text
from evaluation.attacks.separation import FloatArray
from experiments.audit.inversion import Recovered
from experiments.audit.section import Figure

_MEASURED, _CHANCE = "#1d4ed8", "#c2410c"


def shares_png(figures: Mapping[str, Figure]) -> bytes:
    """Shares and areas as points with their intervals, and chance as a mark on every line.

    Args:
        figures: in 0..1, at least one; those that could not be measured are left out.
    """
    known = {name: figure for name, figure in figures.items() if not math.isnan(figure.value)}
    canvas = Canvas(figsize=(11, 0.6 + 0.3 * len(known)), dpi=110, layout="constrained")
    axes = canvas.subplots()
    for line, figure in enumerate(known.values()):
        axes.plot([figure.low, figure.high], [line, line], color=_MEASURED, linewidth=2.2)
        axes.plot(figure.value, line, "o", color=_MEASURED, label="measured, 95 % interval" if not line else None)
        axes.plot(figure.chance, line, "|", color=_CHANCE, markersize=13, markeredgewidth=2.4,
                  label="chance" if not line else None)  # fmt: skip
    axes.set_yticks(range(len(known)), list(known), fontsize=8.5)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    canvas.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    return _png(canvas)


def pictures_png(recovered: Sequence[Recovered]) -> bytes:
    """One row an attack and person: the frame, the guess, and what was read."""
    canvas = Canvas(figsize=(9.4, 1.75 * len(recovered)), dpi=80, layout="constrained")
    grid = canvas.subplots(len(recovered), 4, squeeze=False, width_ratios=(2.4, 1, 1, 1))
    for row, one in zip(grid, recovered, strict=True):
        text = (
            f"{one.attack}\n{one.person}\n{one.found.psnr_db:.1f} dB, SSIM {one.found.ssim:.2f}\n"
            f"guess {one.guess.psnr_db:.1f} dB, own mean {one.own_mean.psnr_db:.1f} dB"
        )
        row[0].text(0, 0.5, figure_text(text), va="center", fontsize=9)
        for axes, picture in zip(row[1:], (one.truth_HW, one.guess_HW, one.picture_HW), strict=True):
            axes.imshow(_stretched(picture), cmap="gray", vmin=0, vmax=1)
        for axes in row:
            axes.axis("off")
    for axes, title in zip(grid[0][1:], ("training frame", "guess", "read"), strict=True):
        axes.set_title(title, fontsize=10)
    return _png(canvas)


def _stretched(picture_HW: FloatArray) -> FloatArray:
    """In 0..1, the outermost hundredth cut: brightness and contrast are not known to the attack."""
    low, high = np.quantile(picture_HW, (0.01, 0.99))
    stretched: FloatArray = np.clip((picture_HW - low) / max(high - low, 1e-9), 0, 1)
    return stretched


def _png(canvas: Canvas) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(canvas).print_png(buffer)
    return buffer.getvalue()
