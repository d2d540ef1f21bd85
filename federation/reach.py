"""How far honest training can have carried weights: by what a site tells the weights of a run from weights made for it.

Every weight is trained by Adam, at most local-steps a round, and the sites' mean, median or single update lies within
what sites reach. So after T steps from known weights, with learning rate l,

- no value is farther than l * sum over k = 1..T of (1 - b2^k)^-1/2 (b2 = adam-beta2): that is a value whose gradient
  was zero for long and then never changes its sign, the steepest walk there is short of gradients that grow without
  end;
- the root mean square over a tensor is at most 3 l T: a gradient that never changes its sign moves a value by l a step.
  Of runs on real faces the farthest tensor, of 384 values, had 0.7 l T, the median tensor 0.03.

A server-learning-rate above 1 multiplies all of it for what generates. A site's noise adds to both. Rounding, of a
secure sum's fixed-point numbers too, is far below `TOLERANCE`; that of steps (`federation.codec`) makes a step longer
by a few halves of a 127th of it: the site's own, the one before, the server's.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from federation.settings import Settings
from model.designs.registry import IDENTITY_ROWS, build_networks, design_of
from model.errors import UnknownWeightsError
from model.landmarks.geometry import PartSizes
from model.networks.bundle import NamedArrays, Networks

TOLERANCE = 1e-4
"""By which initial weights may differ from one processor or version to the next, and any two by rounding."""
FARTHEST = 2.0
"""Sides of the frame that an agreed mean landmark may be from its corner; landmarks may lie outside."""
_RMS_PER_STEP = 3.0
_DEVIATIONS = 8.0
"""Of noise, beyond which no value of a run is found."""
_ROUNDED = 1.02
"""Of a step whose values are rounded on their way."""
_SUMMED_STEPS = 100_000


class Reach(NamedTuple):
    """How far a tensor can be from where it was."""

    rms: float
    """Root mean square over its values."""
    largest: float
    """Of a single value."""


def initial_networks(settings: Settings, part_sizes: PartSizes) -> Networks:
    """Of round 1, but for what is agreed on: `Networks.start_from`."""
    return build_networks(settings.model, part_sizes, seed=settings.rounds.seed)


def reach(name: str, size: int, settings: Settings, num_rounds: int) -> Reach:
    """How far honest training carries a travelling tensor.

    Args:
        name: of the tensor.
        size: its number of values.
        settings: of the run.
        num_rounds: >= 0.
    """
    rates = {
        "generator": settings.optimizer.learning_rate_generator,
        "discriminator": settings.optimizer.learning_rate_discriminator,
    }
    design = design_of(settings.model.network)
    phase = design.phase_of(name)
    rate = rates[phase] if phase and name not in design.untrained else 0.0
    num_steps = num_rounds * settings.rounds.local_steps
    steepest = rate * _steepest(num_steps, settings.optimizer.adam_beta2)
    deviation = settings.privacy.dp_noise_multiplier * settings.privacy.dp_clip_norm * math.sqrt(num_rounds)
    longer = max(1.0, settings.rounds.server_learning_rate) if goes_further(name, settings) else 1.0
    longer *= 1.0 if settings.rounds.update_codec == "float32" else _ROUNDED
    return Reach(
        rms=longer * (rate * _RMS_PER_STEP * num_steps + deviation * (1 + _DEVIATIONS / math.sqrt(size))) + TOLERANCE,
        largest=longer * (steepest + deviation * _DEVIATIONS) + TOLERANCE,
    )


def goes_further(name: str, settings: Settings) -> bool:
    """Whether `server-learning-rate` is about a travelling tensor: the generator's are, but for rows of identities."""
    return name not in IDENTITY_ROWS and design_of(settings.model.network).phase_of(name) == "generator"


def check_initial(tensors: NamedArrays, initial: NamedArrays, settings: Settings, round_number: int) -> None:
    """Refuse weights that the rounds before this one cannot have made of the initial ones.

    Tensors that start from agreed statistics, which hold other sites' landmarks, are known to lie within `FARTHEST`.

    Args:
        tensors: with which a round starts, of the right names and shapes.
        initial: of `initial_networks`.
        settings: of the run.
        round_number: from 1.

    Raises:
        UnknownWeightsError: naming round, tensor, what was got, the limit, and what to do.
    """
    start = dict(initial)
    for name in start.keys() & design_of(settings.model.network).starts_from_statistics:
        start[name] = np.clip(tensors[name], -FARTHEST, FARTHEST)
    check_reach(tensors, start, settings, round_number, num_rounds=round_number - 1, known="the initial weights")


def check_reach(
    tensors: NamedArrays, start: NamedArrays, settings: Settings, round_number: int, *, num_rounds: int, known: str
) -> None:
    """Refuse weights that so many rounds of training cannot have made of others.

    Args:
        tensors: with which a round starts.
        start: weights that are known, of the same names and shapes.
        settings: of the run.
        round_number: for the message.
        num_rounds: that lie between.
        known: what `start` is, in words.

    Raises:
        UnknownWeightsError: as `check_initial`.
    """
    for name, old in start.items():
        distance = np.abs(np.subtract(tensors[name], old, dtype=np.float64))
        got = Reach(rms=float(np.sqrt(np.square(distance).mean())), largest=float(distance.max()))
        limit = reach(name, old.size, settings, num_rounds)
        for measure, far, most in zip(("root mean square", "one value"), got, limit, strict=True):
            if not far <= most:
                raise UnknownWeightsError(
                    f"round {round_number}: {name} is {far:.3g} ({measure}) away from {known}, and {num_rounds} rounds "
                    f"of these settings carry it by {most:.3g} at most. This site trains from no weights that honest "
                    "training cannot have made. Resume the server from a checkpoint of a sound round; if this is round "
                    "1, see that server and site run the same version of this program and of PyTorch"
                )


@functools.lru_cache(maxsize=64)
def _steepest(num_steps: int, beta2: float) -> float:
    """Learning rates by which a value moves in so many steps whose gradient is steady after none for long."""
    summed = np.arange(1, min(num_steps, _SUMMED_STEPS) + 1, dtype=np.float64)
    return float(np.sum(1 / np.sqrt(1 - beta2**summed))) + max(0, num_steps - _SUMMED_STEPS)
