"""What the rest of the program has to know of a network design: its entry in the registry.

A design is one file: its generator, its networks, its objective and its entry. Shapes: N pairs. Every term is a []
float32 mean over the pairs, unweighted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from model.batch import ReenactmentBatch
from model.config import LossConfig, ModelConfig
from model.landmarks.geometry import PartSizes
from model.networks.bundle import Networks
from model.networks.landmark_motion import SourceMotion
from model.setting import meanings_of
from model.training.perceptual import PerceptualLoss, load_perceptual

PHASES = ("discriminator", "generator")
"""Of a training step, in their order."""
ALL_SETTINGS = frozenset(key for config in (ModelConfig, LossConfig) for key, _ in meanings_of(config))
"""Keys of all settings of network and losses."""
PERCEPTUAL_TERMS = ("perceptual", "perceptual_parts", "gram")
"""Names of the terms that compare features of pretrained networks."""

Terms = dict[str, Tensor]


class GeneratorOutput(Protocol):
    """What a generator gives for N pairs, image side S."""

    @property
    def image_NCHW(self) -> Tensor:
        """[N, 3, S, S] in [-1, 1]: the source person in the driving pose."""

    @property
    def flow_NCHW(self) -> Tensor | None:
        """[N, 2, s, s] from the result to the (nearest) source, in normalised units; None without such a flow."""

    def stages(self) -> dict[str, Tensor]:
        """Name to picture on the way to the image, [N, 3, S, S] in [-1, 1], in the order of drawing."""


class MovingOutput(GeneratorOutput, Protocol):
    """Of a design that moves its sources and then corrects the result: what moves can be moved at any size."""

    @property
    def motion(self) -> SourceMotion:
        """Of all M sources."""


class Objective(Protocol):
    """Draws a batch once per step and measures the drawing in both phases."""

    def draw(self, batch: ReenactmentBatch) -> Any:
        """What both phases look at."""

    def discriminator_terms(self, batch: ReenactmentBatch, drawn: Any, step: int) -> Terms:
        """Terms of the discriminators' phase, the drawing detached; empty where there is no such phase."""

    def generator_terms(self, batch: ReenactmentBatch, drawn: Any, step: int) -> Terms:
        """Terms of the generators' phase."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """One term of a phase's loss, and the local steps, counted from the first round, that compute it."""

    name: str
    weight: Callable[[LossConfig], float]
    """In the phase's sum; 0 is off."""
    phase: str = "generator"
    since: Callable[[LossConfig], int] = lambda loss: 0
    """First step."""
    every: Callable[[LossConfig], int] = lambda loss: 1
    """Of the steps those that this divides; the term is weighted as many times there."""
    ramp: Callable[[LossConfig], int] = lambda loss: 0
    """Steps, from the first on, over which the weight grows to the full one, in equal parts; 0 is full at once."""

    def weight_at(self, loss: LossConfig, step: int) -> float:
        """In the phase's sum at a step that computes it."""
        ramp = self.ramp(loss)
        grown = min(1.0, (step - self.since(loss) + 1) / ramp) if ramp else 1.0
        return self.weight(loss) * self.every(loss) * grown

    def num_steps(self, loss: LossConfig, first_step: int, num_steps: int) -> int:
        """How many of a row of steps compute it: its gradient is made of their batches."""
        end, every = first_step + num_steps, self.every(loss)
        start = min(end, max(first_step, self.since(loss)))
        return -(-end // every) - -(-start // every)  # multiples of `every` in [start, end)


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """One entry of the registry."""

    name: str
    """As the setting `network` says it."""
    networks: Callable[[ModelConfig, PartSizes], Networks]
    """Builds them; the child `generator` maps `GeneratorInputs` to a `GeneratorOutput`."""
    objective: Callable[[Any, LossConfig, PerceptualLoss | None, int], Objective]
    """Of such networks; the number is the run's seed, of what is drawn at random."""
    phases: Mapping[str, tuple[str, ...]]
    """The children that each of `PHASES` trains; every child is trained by one."""
    terms: tuple[Term, ...]
    """All that can have a weight."""
    observed: tuple[str, ...] = ()
    """What the objective measures besides, without a weight."""
    settings: frozenset[str]
    """Keys of `ALL_SETTINGS` that change what is trained or drawn."""
    guidances: tuple[str, ...] = ()
    """Of driving, lst, lgan and base, the landmarks that it can be guided by; none where the driving frame itself
    drives. With lgan, there are the children `landmark_generator` and `landmark_discriminator`."""
    takes_reference: bool = False
    """Whether the driving frame can drive by its difference to a reference frame of the same person."""
    needs_mesh: bool = False
    """Whether it is driven by the face meshes of source and driving frame."""
    identity_rows: tuple[str, ...] = ()
    """Travelling tensors [num_identities, D] whose rows are trained by the owners of the identity only."""
    starts_from_statistics: tuple[str, ...] = ()
    """Travelling tensors that do not start from the seed but from what was agreed on landmarks, in sides of the frame:
    what `Networks.start_from` changes. Some are there with some settings alone."""
    untrained: tuple[str, ...] = ()
    """Of these, those that stay as they were agreed, whatever a site sends."""
    moves_sources: Callable[[ModelConfig], bool] = lambda _config: False
    """Whether its generator moves sources by known ways and corrects the result: then it gives a `MovingOutput`."""
    watched: tuple[str, ...] = ()
    """Travelling tensors of the first layer that sees whole frames, if a site can tell by its gradients that few of a
    round's steps made an update: `model.training.one_sided`."""

    def phase_of(self, tensor: str) -> str | None:
        """The phase that trains a travelling tensor; None for a name that is no child's."""
        child = tensor.split(".", 1)[0]
        return next((phase for phase in PHASES if child in self.phases[phase]), None)

    def term_weights(self, loss: LossConfig) -> dict[str, float]:
        """Name to weight of each term in its phase's sum; 0 is off."""
        return {term.name: term.weight(loss) for term in self.terms}

    def term_steps(self, loss: LossConfig, first_step: int, num_steps: int) -> dict[str, int]:
        """How many of a row of steps compute each term that has a weight: its gradient is made of their batches.

        Args:
            loss: weights and schedules.
            first_step: counted from the first round.
            num_steps: of the row.
        """
        return {term.name: term.num_steps(loss, first_step, num_steps) for term in self.terms if term.weight(loss)}

    def whole_from(self, loss: LossConfig) -> int:
        """First step, counted from the first round, from which L_G has all its terms, fully grown."""
        terms = [term for term in self.terms if term.phase == "generator" and term.weight(loss)]
        return max((term.since(loss) + term.ramp(loss) for term in terms), default=0)

    def load_perceptual(self, loss: LossConfig) -> PerceptualLoss | None:
        """The frozen feature distance of the terms that compare features, on the CPU; None if they are off.

        Raises:
            WeightsError: if the pretrained file is not on this machine; nothing is downloaded.
        """
        weights = self.term_weights(loss)
        return load_perceptual(loss) if any(weights.get(name) for name in PERCEPTUAL_TERMS) else None

    def reported(self) -> tuple[str, ...]:
        """Names of all that a training reports and that depends on frames: both sums, what is observed, the terms."""
        return (*(f"loss_{phase}" for phase in reversed(PHASES)), *self.observed, *(term.name for term in self.terms))
