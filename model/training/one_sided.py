"""Whether a round's update is of all its steps, or of a few: the trace of weights that let one frame alone through.

Weights can be made under which of all frames of a round one alone has a gradient; the update is then that frame's. The
layer that sees all pixels tells: in honest training every step moves every value of it, by a gradient of about the same
size. Two things are looked at, for each value of the tensors that a design has watched:

- by how many steps its gradient was made: (sum |g|)^2 / sum g^2 over the round's steps, from 1 (one step alone) to
  their number (all alike);
- where the optimisers started fresh, whether it moved at all: gradients far below Adam's epsilon of 1e-8, under which
  an update is a sum of gradients and can be computed back, move it by less than a tenth of the learning rate. (With
  the moments of earlier rounds a value may stand still in honest training.)

On real faces, 10 to 100 steps: at most 1.6 % of the values had too few steps, and up to 9 % moved less than a tenth;
under the weights of `evaluation.attacks.inversion` all of them. A round of fewer than `FEWEST_STEPS` is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from model.networks.bundle import NamedArrays

_MOST_SHARE = 0.25
"""Of a tensor's values that may be one-sided."""
_LEAST_STEPS, _LEAST_SHARE_OF_STEPS = 5.0, 0.1
"""That have to make a value's gradient: five, of fewer than fifty a tenth, and at least 1.5."""
FEWEST_STEPS = 10
"""Of a round that can be looked at."""
_STILL = 0.1
"""Learning rates."""


class GradientTally:
    """Of the steps of one round."""

    def __init__(self, watched: Sequence[str]) -> None:
        """For the tensors of these names, where there are such."""
        self._watched = watched
        self._sums: dict[str, Tensor] = {}
        self._squares: dict[str, Tensor] = {}
        self._num_steps: dict[str, int] = {}

    @torch.no_grad()
    def add(self, parameters: Mapping[str, Tensor]) -> None:
        """Count one step's gradients; parameters that are not watched, or have none, are left out."""
        for name in self._watched:
            if name in parameters and (gradient := parameters[name].grad) is not None:
                size = gradient.double().abs()
                self._sums[name] = self._sums.get(name, 0) + size
                self._squares[name] = self._squares.get(name, 0) + size.square()
                self._num_steps[name] = self._num_steps.get(name, 0) + 1

    def names(self) -> list[str]:
        """Of the tensors that had gradients in enough steps to be looked at."""
        return [name for name, number in self._num_steps.items() if number >= FEWEST_STEPS]

    def share_of_few_steps(self, name: str) -> float:
        """Share of a tensor's values whose gradient a few steps made, or none."""
        least = max(1.5, min(_LEAST_STEPS, _LEAST_SHARE_OF_STEPS * self._num_steps[name]))
        num_steps = self._sums[name].square() / self._squares[name]  # not a number where there was no gradient
        return 1 - float((num_steps >= least).double().mean())


def share_of_still(before: NamedArrays, after: NamedArrays, name: str, learning_rate: float) -> float:
    """Share of a tensor's values that a round moved by less than a tenth of the learning rate."""
    moved = np.abs(np.subtract(after[name], before[name], dtype=np.float64))
    return float((moved < _STILL * learning_rate).mean())


def one_sided(
    tally: GradientTally, before: NamedArrays, after: NamedArrays, *, learning_rate: float, is_fresh: bool
) -> str:
    """Why a round's update may show a single frame, naming the tensor; empty if nothing says so.

    Args:
        tally: of the round's steps.
        before: the tensors that the round started from.
        after: those that it came to.
        learning_rate: of the generator.
        is_fresh: whether the optimisers had no moments when the round began.
    """
    for name in tally.names():
        if tally.share_of_few_steps(name) > _MOST_SHARE:
            return f"more than {_MOST_SHARE:.0%} of {name} got their gradient from few of the steps"
        if is_fresh and share_of_still(before, after, name, learning_rate) > _MOST_SHARE:
            return f"more than {_MOST_SHARE:.0%} of {name} moved by less than a tenth of the learning rate"
    return ""
