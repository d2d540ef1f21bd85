"""Settings of the end-to-end runs, which their sites have approved, and their drawn people."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

MIN_SITES = 3
"""docker-compose.yml asks for it."""
MAX_ROUNDS = 100
"""More than go by while the tests do things to sites and server; then an operator lowers it."""
QUARANTINE_AFTER = 2
SETTINGS: dict[str, int | str] = {
    "max-rounds": MAX_ROUNDS,
    "batch-size": 20,  # what the sites' policy asks for at least, in half the time of 25 steps of 4
    "local-steps": 5,
    "tau": 0,
    "num-sources": 1,  # of the steps, half the time
    "variance-window": 2,
    "adversarial-from-step": 0,
    "adversarial-lead-steps": 0,  # Var(L_G) is there when L_G has all of its terms
    "adversarial-ramp-steps": 0,
    "flow-warmup-steps": 0,  # the policy counts the steps of every loss term
    "perceptual-backbone": "none",
    "embed-dim": 64,  # what travels, and how, is the same in a small network
    "flow-channels": 16,
    "generator-channels": 8,
    "discriminator-channels": 8,
    "lgan-dim": 32,
    "quarantine-after": QUARANTINE_AFTER,
    "quarantine-rounds": MAX_ROUNDS,
    "round-timeout-s": 600,  # two busy cores take minutes for a round of five sites; ROUND_S is longer
}


def approve(file: Path, settings: Mapping[str, int | str]) -> Path:
    """Write what sites agree to that train with these changes to `tiny`."""
    asked = {**settings, "min-fit-clients": MIN_SITES}
    changes = [word for key, value in asked.items() for word in ("--set", f"{key}={value}")]
    command = [str(Path(sys.executable).with_name("fedreenact")), "approve", "tiny", *changes, "--out", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    return file


def drawing_people(num_sites: int) -> str:
    """Shell commands of the service `seed`: 80 frames of each person, which takes a fifth of the time."""
    numbers = " ".join(str(n) for n in range(1, num_sites + 1))
    return (
        f"for n in {numbers}; do fedreenact synth /sites/site-$$n --identities 1 --seed $$n --frames 80; done; "
        "fedreenact synth /central --identities 2 --seed 99 --frames 60"
    )


def as_options(**changes: int | str) -> str:
    """For FEDREENACT_SETTINGS; `changes` in snake_case."""
    chosen = SETTINGS | {name.replace("_", "-"): value for name, value in changes.items()}
    return " ".join(f"--set {key}={value}" for key, value in chosen.items())
