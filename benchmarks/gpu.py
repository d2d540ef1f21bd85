"""What every preset costs on a GPU, in one JSON: the second half of `make gpu`. Needs Python and the packages alone.

Steps and frames are those of `federation/step_cost.py`, each preset in a process of its own. Each is measured as the
preset says and, where that is in mixed precision, in float32 too.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time

import torch

from benchmarks.bench import keep, versions
from deploy.files import PRESETS
from federation.settings import Settings, read_preset
from federation.step_cost import measured

PRESET_NAMES = ("tiny", "small", "paper", "studio")
Figures = dict[str, object]


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try this program itself")
    parser.add_argument("--preset", action="append", choices=PRESET_NAMES, help="repeatable; all of them without it")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement, at least")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device; --device cpu tries this program itself")
    started = time.monotonic()
    figures = {}
    for name, settings in chosen(arguments.preset or PRESET_NAMES, arguments.device).items():
        figures[name] = figures_of(settings, arguments.seconds)
        print(name, figures[name], flush=True)
    card = str(next((row["device"] for row in figures.values() if row), arguments.device)).replace(" ", "-")
    packages = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    minutes = (time.monotonic() - started) / 60
    keep(f"gpu-{card}", {"versions": versions() | packages, "minutes": minutes, "presets": figures})


def chosen(presets: tuple[str, ...] | list[str], device: str) -> dict[str, Settings]:
    """Name to settings of what is measured."""
    wanted = {}
    for name in presets:
        settings = Settings.from_flat(read_preset(PRESETS / f"{name}.toml") | {"device": device})
        wanted[name] = settings
        if settings.optimizer.use_amp:
            wanted[f"{name}, float32"] = settings.replaced({"use-amp": False})
    return wanted


def figures_of(settings: Settings, seconds: float) -> Figures:
    """Of one preset; empty if its process ended early, as for want of memory."""
    cost = measured(settings, seconds)
    if cost is None:
        return {}
    rates = {
        "steps_per_s": 1 / cost.step_s,
        "pairs_per_s": settings.optimizer.batch_size / cost.step_s,
        "frames_per_s": 1 / cost.frame_s,
        "num_that_fit": cost.num_that_fit,
    }
    return dataclasses.asdict(cost) | rates


if __name__ == "__main__":
    main()
