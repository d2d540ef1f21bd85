"""One person's distributions as a picture for the page of `fedreenact doctor`."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from data_partition.doctor.numbers import ShardNumbers
from model.batch import AU_ORDER

_INK = "#7f8b99"
"""Readable on a white and on a dark page, as the picture itself has no ground."""
_BAR = "#4f83ee"
_NUM_BINS = 24


def distributions_png(person: ShardNumbers) -> bytes:
    """Histograms of yaw, pitch, roll and sharpness, and how often each action unit is present, as a transparent PNG.

    Args:
        person: measured.
    """
    figure = Figure(figsize=(12.5, 2.3), dpi=96, facecolor="none")
    axes = figure.subplots(1, 5, width_ratios=(1, 1, 1, 1, 2))
    # A layout engine would take thrice as long, which counts with hundreds of people.
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.12, top=0.88, wspace=0.12)
    for axis, name, column in zip(axes, ("yaw", "pitch", "roll"), (1, 0, 2), strict=False):
        _histogram(axis, person.shard.pose_FC[:, column], f"{name}, degrees")
    _histogram(axes[3], person.sharpness_F[person.is_read_F], "sharpness")
    axes[4].bar([str(au) for au in AU_ORDER], 100 * person.au_share_A, color=_BAR)
    axes[4].set_title("action units, % of frames", fontsize=10, color=_INK)
    for axis in axes:
        axis.set_facecolor("none")
        axis.tick_params(colors=_INK, labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(_INK)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _histogram(axes: Axes, values_F: NDArray[np.float32], title: str) -> None:
    axes.stairs(*np.histogram(values_F, _NUM_BINS), fill=True, color=_BAR)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_title(title, fontsize=10, color=_INK)
    axes.set_yticks([])
