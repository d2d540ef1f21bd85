"""Differential privacy at the site: the update is clipped, and noised before it goes anywhere. Knows no Flower."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from client.local_training import FloatArrays, LocalResult
from model.errors import ConfigError, NonFiniteLossError
from model.privacy import RELEASES
from model.resources import RESOURCES
from model.secure_primitives import keystream, new_secret

OPERATIONS = ("seconds", "num_steps", "has_moments", "refused_tasks", *RESOURCES)
"""Numbers about a round or a site that say how the work went, and nothing about what is in the frames."""


def privatised(
    result: LocalResult,
    before: Sequence[npt.NDArray[np.float32]],
    *,
    clip_norm: float,
    noise_multiplier: float,
    ledger: ReleaseLedger,
) -> LocalResult:
    """The result as it may leave the site: step clipped and noised, weight 1, no losses.

    Clipping and noise of a whole update are those of McMahan et al. 2018, Learning Differentially Private Recurrent
    Language Models; here the site does both.

    Every site adds the whole noise, whether or not its update is summed secretly: the promise holds whatever the other
    sites and the server do. A number of frames as the weight would be one more fact about the site's data, and the
    losses would be told without noise.

    Args:
        result: of local training.
        before: the tensors from which it started.
        clip_norm: C > 0.
        noise_multiplier: z > 0; each value gets noise of standard deviation z C.
        ledger: counts this release.

    Raises:
        NonFiniteLossError: if the update is not finite.
    """
    arrays = noised(clipped(result.arrays, before, clip_norm), noise_multiplier * clip_norm)
    metrics = {name: value for name, value in result.metrics.items() if name in OPERATIONS}
    return dataclasses.replace(
        result,
        arrays=[np.asarray(old + step, np.float32) for old, step in zip(before, arrays, strict=True)],
        num_examples=1,
        metrics=metrics | {RELEASES: float(ledger.count_one())},
    )


def clipped(
    arrays: FloatArrays, before: Sequence[npt.NDArray[np.float32]], clip_norm: float
) -> list[npt.NDArray[np.float64]]:
    """The steps arrays - before, made shorter together if their Euclidean length is above the clip norm."""
    steps = [np.subtract(new, old, dtype=np.float64) for new, old in zip(arrays, before, strict=True)]
    norm = math.sqrt(sum(float(np.square(step).sum()) for step in steps))
    if not math.isfinite(norm):
        raise NonFiniteLossError(f"the length of the update is {norm}, wanted a finite number")
    factor = min(1.0, clip_norm / norm) if norm else 1.0
    return [step * factor for step in steps]


def noised(steps: Sequence[npt.NDArray[np.float64]], sigma: float) -> list[npt.NDArray[np.float64]]:
    """The steps plus independent Gaussian noise of standard deviation sigma from a key that nobody has."""
    return [step + sigma * gaussian(step.size).reshape(step.shape) for step in steps]


def gaussian(num_values: int) -> npt.NDArray[np.float64]:
    """[num_values] standard normal, from a cryptographic keystream (Box and Muller 1958).

    numpy's generators can be computed back from values that show, and where a site has trained nothing its noise shows.
    """
    if not num_values:
        return np.zeros(0)
    num_pairs = (num_values + 1) // 2
    bits = np.concatenate(list(keystream(new_secret(), 2 * num_pairs)))
    uniform = (bits >> np.uint64(11)) * 2.0**-53
    radius = np.sqrt(-2 * np.log1p(-uniform[:num_pairs]))
    angle = 2 * np.pi * uniform[num_pairs:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:num_values]


class ReleaseLedger:
    """Counts the noised updates of a run in the site's state folder.

    The site counts, not the server: a round that is repeated, because too few sites answered or the server came back,
    is another release of the same frames.
    """

    def __init__(self, folder: Path, run_id: str) -> None:
        """The file need not be there."""
        self._path = folder / "privacy-ledger.json"
        self._run_id = run_id

    def count_one(self) -> int:
        """One more release; on disk when this returns.

        Returns:
            Releases of this run, this one among them.

        Raises:
            ConfigError: if the file is there and cannot be read.
        """
        counts = self._read()
        counts[self._run_id] = counts.get(self._run_id, 0) + 1
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as file:
            file.write(json.dumps(counts) + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)
        return counts[self._run_id]

    def _read(self) -> dict[str, int]:
        try:
            return {str(run): int(count) for run, count in json.loads(self._path.read_text("utf-8")).items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"the site's {self._path.name} cannot be read ({type(error).__name__}); restore it: without it the "
                "privacy already spent is unknown"
            ) from error
