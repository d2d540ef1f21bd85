"""What one hostile site of five does to the final model, under each defence.

    python -m benchmarks.attacks FOLDER [--rounds 4] [--local-steps 10] [--jobs 2]

Drawn people, preset tiny without its perceptual term and with the adversarial one from the first step, so that a table
of every attack under every defence takes an hour on two cores. Scores are those of the final networks on held-out
frames of the five people. FOLDER keeps the result of every cell; a table that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from data_partition.synth.dataset import synthesize
from deploy.files import PRESETS
from federation.settings import Settings, read_preset
from model.errors import FedreenactError
from model.files import write_json
from model.setting import Scalar
from server.run_folder.history import read_history
from tests.support.attacks import ATTACKS, HostileGrid, write_swapped

NUM_SITES = 5
ATTACKER = 3
NUM_FRAMES = 160

OFF: dict[str, Scalar] = {"max-norm-ratio": 0.0, "max-weight-ratio": 0.0, "quarantine-after": 0}
DEFENCES: dict[str, dict[str, Scalar]] = {
    "none": OFF,
    "default": {},
    "screening": {"max-norm-ratio": 3.0, "min-cosine": -0.1, "max-loss-deviation": 10.0},
    "median": OFF | {"aggregation": "median"},
    "trimmed-mean": OFF | {"aggregation": "trimmed-mean"},
    "krum": OFF | {"aggregation": "krum"},
}

Cell = dict[str, Any]


def settings_of(data: Path, evaluated: Path, run: Path, options: argparse.Namespace, defence: str) -> Settings:
    """Of one cell."""
    small: dict[str, Scalar] = {
        "data-dir": str(data),
        "eval-data-dir": str(evaluated),
        "output-dir": str(run),
        "num-clients": NUM_SITES,
        "num-identities": NUM_SITES,
        "min-fit-clients": 3,
        "max-rounds": options.rounds,
        "local-steps": options.local_steps,
        "tau": 0.0,
        "perceptual-backbone": "none",
        "adversarial-from-step": 0,
        "server-ema-decay": 0.0,
        "num-threads": 1,
        "device": "cpu",
        "keep-checkpoints": 1,
        "quorum-timeout-s": 0.0,
    }
    return Settings.from_flat(read_preset(PRESETS / "tiny.toml") | small | DEFENCES[defence])


def measure(job: tuple[argparse.Namespace, str, str]) -> Cell:
    """Train under one attack and one defence; reads the result if it is there already."""
    options, attack, defence = job
    result = options.folder / f"{attack}-{defence}.json"
    if result.is_file():
        cell: Cell = json.loads(result.read_text())
        return cell
    import torch

    from server.rounds.federation import run_federation

    torch.set_num_threads(1)
    run = options.folder / "runs" / f"{attack}-{defence}"
    shutil.rmtree(run, ignore_errors=True)
    people = options.folder / ("swapped" if attack == "identity-swap" else "people")
    settings = settings_of(people, options.folder / "people", run, options, defence)
    cell = {"attack": attack, "defence": defence, "ended": ""}
    try:
        run_federation(HostileGrid(settings, attack, attacker=ATTACKER), settings)
    except FedreenactError as error:
        cell["ended"] = str(error)
    rows = read_history(run)
    left_out = [site for row in rows for site in row.rejected_kinds]
    kinds = sorted({kind for row in rows for kind in row.rejected_kinds.values()})
    cell |= {
        "rounds": len(rows),
        "attacker_left_out": left_out.count(ATTACKER),
        "honest_left_out": len(left_out) - left_out.count(ATTACKER),
        "kinds": kinds,
        **(rows[-1].evaluation if rows else {}),
    }
    shutil.rmtree(run)
    write_json(result, cell, indent=2)
    return cell


def table(cells: list[Cell], num_rounds: int) -> str:
    """Markdown: a row an attack, a column a defence; SSIM and PSNR, and who was left out how often."""
    defences = list(dict.fromkeys(cell["defence"] for cell in cells))
    lines = ["| attack | " + " | ".join(defences) + " |", "|---" * (len(defences) + 1) + "|"]
    for attack in dict.fromkeys(cell["attack"] for cell in cells):
        row = [text_of(cell, num_rounds) for cell in cells if cell["attack"] == attack]
        lines.append(f"| {attack} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def text_of(cell: Cell, num_rounds: int) -> str:
    """Scores in few characters."""
    if "ssim" not in cell or cell["rounds"] < num_rounds:
        return f"ended in round {cell['rounds'] + 1}"
    text = f".{round(1000 * cell['ssim']):03d} / {cell['psnr_db']:.1f}"
    left_out = ", ".join(
        f"{cell[key]} {word}"
        for key, word in (("attacker_left_out", "hostile"), ("honest_left_out", "honest"))
        if cell[key]
    )
    return text + (f" ({left_out})" if left_out else "")


def main() -> None:
    """Measure all cells, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=lambda text: Path(text).resolve())
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--local-steps", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--attacks", nargs="*", default=list(ATTACKS), choices=list(ATTACKS))
    parser.add_argument("--defences", nargs="*", default=list(DEFENCES), choices=list(DEFENCES))
    options = parser.parse_args()
    if not (options.folder / "swapped").is_dir():
        synthesize(options.folder / "drawn", num_identities=NUM_SITES + 1, num_frames=NUM_FRAMES, size_px=64, seed=0)
        write_swapped(options.folder / "people", options.folder / "drawn", attacker=-1)
        write_swapped(options.folder / "swapped", options.folder / "drawn", attacker=ATTACKER)
    jobs = [(options, attack, defence) for attack in options.attacks for defence in options.defences]
    os.environ["OMP_NUM_THREADS"] = "1"
    cells = []
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for cell in pool.imap(measure, jobs):
            cells.append(cell)
            sys.stderr.write(json.dumps(cell) + "\n")
    copy = next(cell for cell in cells if "copy_source_ssim" in cell)
    sys.stdout.write(
        f"SSIM / PSNR dB after {options.rounds} rounds of {options.local_steps} steps; copy-source "
        f".{round(1000 * copy['copy_source_ssim']):03d} / {copy['copy_source_psnr_db']:.1f}; "
        "in brackets updates left out\n\n"
        f"{table(cells, options.rounds)}\n"
    )


if __name__ == "__main__":
    main()
