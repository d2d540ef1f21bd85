"""One training step for federated and centralized training alike (thesis 3.5, Algorithm 1 lines 5-7)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from model.batch import ReenactmentBatch
from model.config import LossConfig, OptimizerConfig
from model.designs.design import PHASES
from model.designs.registry import design_of
from model.errors import ConfigError, NonFiniteLossError, TensorMismatchError
from model.metrics import WeightedMean, merge
from model.networks.bundle import NamedArrays, Networks
from model.precision import is_quick_in_bfloat16, mixed_precision
from model.training.one_sided import GradientTally
from model.training.perceptual import PerceptualLoss

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def pick_device(name: str) -> torch.device:
    """The device a setting names; auto is CUDA where there is one.

    Raises:
        ConfigError: if it names a device this machine lacks.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"setting device: got {name!r}, wanted auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"setting device: got {name!r}, this machine has {torch.cuda.device_count()} CUDA devices")
    return device


class GANTrainer:
    """Takes generator and discriminator through local update steps."""

    def __init__(
        self,
        networks: Networks,
        *,
        loss: LossConfig,
        optimizer: OptimizerConfig,
        perceptual: PerceptualLoss | None,
        device: torch.device,
        step: int = 0,
        seed: int = 0,
        proximal: tuple[NamedArrays, float] | None = None,
    ) -> None:
        """Move everything to `device` and create the optimisers.

        Args:
            networks: trained in place.
            loss: weights and schedules of the terms.
            optimizer: learning rates, and the longest gradient.
            perceptual: frozen feature distance, or None.
            device: where to compute.
            step: local steps taken in earlier rounds, for the schedules.
            seed: of the run.
            proximal: global weights and mu of FedProx, or None.
        """
        self.is_mixed = optimizer.use_amp and is_quick_in_bfloat16(device)
        self.networks = networks.to(device)
        self.loss, self.device, self.step = loss, device, step
        self.design = design_of(networks.config.network)
        perceptual = perceptual.to(device) if perceptual is not None else None
        if self.is_mixed:
            for module in filter(None, (self.networks, perceptual)):
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = self.design.objective(self.networks, loss, perceptual, seed)
        self.max_gradient_norm = optimizer.max_gradient_norm
        self._optimizer_config = optimizer
        self._parameters = {phase: self._parameters_of(phase) for phase in PHASES}
        self.optimizers = {
            phase: torch.optim.Adam(
                parameters.values(), self._rate(phase), betas=(optimizer.adam_beta1, optimizer.adam_beta2), fused=True
            )
            for phase, parameters in self._parameters.items()
            if parameters
        }
        self.tally = GradientTally(self.design.watched)
        self.proximal_mu = proximal[1] if proximal else 0.0
        self.anchors = (
            {name: torch.from_numpy(np.asarray(value)).to(device) for name, value in proximal[0].items()}
            if proximal and proximal[1] > 0
            else {}
        )

    def train_step(self, batch: ReenactmentBatch) -> dict[str, WeightedMean]:
        """One update of the discriminators, then one of the generators.

        Args:
            batch: N pairs, each of one identity.

        Returns:
            Term name to its unweighted mean over the N pairs: the terms of both phases.

        Raises:
            NonFiniteLossError: naming the term; the optimiser of that phase has not stepped.
        """
        batch = batch.to(self.device)
        with mixed_precision(self.device, is_on=self.is_mixed):
            drawn = self.objective.draw(batch)
        means = self._update("discriminator", lambda: self.objective.discriminator_terms(batch, drawn, self.step))
        means |= self._update("generator", lambda: self.objective.generator_terms(batch, drawn, self.step))
        self.step += 1
        return {name: WeightedMean.of(value, len(batch)) for name, value in means.items()}

    def _update(self, phase: str, compute_terms: Callable[[], dict[str, Tensor]]) -> dict[str, float]:
        """Terms -> weighted sum -> backward -> finite guard -> step, with all other networks frozen.

        Values of the terms; a CUDA device is waited for once, in the guard.
        """
        for name, network in self.networks.named_children():
            network.requires_grad_(name in self.design.phases[phase])
        with mixed_precision(self.device, is_on=self.is_mixed):
            terms = compute_terms()
        if not terms:
            return {}
        if self.device.type == "cpu":  # whose grid_sample goes astray, backwards, at places that are not finite
            self._finite_values(phase, terms)
        weights = {term.name: term.weight_at(self.loss, self.step) for term in self.design.terms}
        optimizer, parameters = self.optimizers[phase], self._parameters[phase]
        optimizer.param_groups[0]["lr"] = self._rate(phase)
        optimizer.zero_grad(set_to_none=True)
        torch.stack([weights[name] * value for name, value in terms.items() if weights.get(name)]).sum().backward()  # type: ignore[no-untyped-call]
        for name, anchor in self.anchors.items():
            if name in parameters and (gradient := parameters[name].grad) is not None:
                gradient += self.proximal_mu * (parameters[name].detach() - anchor)  # of mu / 2 * |w - w_global|^2
        gradients = [parameter.grad for parameter in parameters.values() if parameter.grad is not None]
        length = nn.utils.get_total_norm(gradients)
        values = self._finite_values(phase, terms, length)
        if self.max_gradient_norm:
            nn.utils.clip_grads_with_norm_(parameters.values(), self.max_gradient_norm, length)
        self.tally.add(parameters)
        optimizer.step()
        return values

    def _finite_values(self, phase: str, terms: dict[str, Tensor], *length: Tensor) -> dict[str, float]:
        """Values of the terms, in one transfer with the length of the gradient if it is there.

        Raises:
            NonFiniteLossError: naming the first term that is not finite, or else the gradient.
        """
        numbers = torch.stack([*terms.values(), *length]).tolist()
        values = dict(zip(terms, numbers, strict=False))
        for name, value in values.items():
            if not math.isfinite(value):
                raise NonFiniteLossError(f"step {self.step}: {name} is {value}; no {phase} update was made")
        if not math.isfinite(numbers[-1]):
            raise NonFiniteLossError(f"step {self.step}: gradient of the {phase} is not finite; no update was made")
        return values

    def _rate(self, phase: str) -> float:
        """Adam's step size in this step."""
        config = self._optimizer_config
        rates = {"generator": config.learning_rate_generator, "discriminator": config.learning_rate_discriminator}
        return rates[phase] * config.learning_rate_factor_at(self.step)

    def _parameters_of(self, phase: str) -> dict[str, nn.Parameter]:
        return {
            name: parameter
            for name, parameter in self.networks.named_parameters()
            if name.split(".", 1)[0] in self.design.phases[phase]
        }

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """Adam's moments as "<parameter>/<moment>" to a CPU copy; parameters that never stepped are absent."""
        tensors = {}
        for phase, optimizer in self.optimizers.items():
            for name, parameter in self._parameters[phase].items():
                for moment, value in optimizer.state.get(parameter, {}).items():
                    tensors[f"{name}/{moment}"] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return tensors

    def load_optimizer_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over moments written by `optimizer_tensors`.

        Raises:
            TensorMismatchError: if a name is unknown or a shape differs; nothing is changed then.
        """
        states: dict[str, dict[Tensor, dict[str, Tensor]]] = {phase: {} for phase in self.optimizers}
        owners = {
            name: (phase, parameter) for phase, some in self._parameters.items() for name, parameter in some.items()
        }
        for key, value in tensors.items():
            name, _, moment = key.rpartition("/")
            if name not in owners or moment not in _MOMENTS:
                raise TensorMismatchError(
                    f"optimiser moments: unknown tensor {key}; were they made with another preset?"
                )
            phase, parameter = owners[name]
            if moment != "step" and value.shape != parameter.shape:
                raise TensorMismatchError(
                    f"optimiser moments: {key} has shape {tuple(value.shape)}, expected {tuple(parameter.shape)}"
                )
            like = value if moment == "step" else parameter.detach()
            moments = states[phase].setdefault(parameter, {})
            moments[moment] = torch.empty_like(like, device=self.device).copy_(value)  # laid out as the parameter is
        for phase, state in states.items():
            self.optimizers[phase].state.update(state)


def run_steps(
    trainer: GANTrainer,
    batches: Iterator[ReenactmentBatch],
    num_steps: int,
    on_step: Callable[[int], None] | None = None,
    *,
    is_time_over: Callable[[], bool] = lambda: False,
) -> dict[str, WeightedMean]:
    """At most `num_steps` local update steps (Algorithm 1, lines 5-7) and the mean of every term over their pairs.

    `loss_generator` and `loss_discriminator` are the weighted sums of the mean terms of their phase: L_G and L_D.
    A term that is computed on some steps only enters with the mean over those steps, one that is still growing with its
    full weight.

    Args:
        trainer: stepped in place.
        batches: endless, or at least `num_steps` long.
        num_steps: E of Algorithm 1.
        on_step: called after each step with the number of steps done.
        is_time_over: asked after each step; training ends early if it is.
    """
    totals: dict[str, WeightedMean] = {}
    for done in range(1, num_steps + 1):
        totals = merge(totals, trainer.train_step(next(batches)))
        if on_step is not None:
            on_step(done)
        if is_time_over():
            break
    num_pairs = max(mean.weight for mean in totals.values())  # some terms are computed on some steps only
    for phase in PHASES:
        value = sum(
            term.weight(trainer.loss) * totals[term.name].value
            for term in trainer.design.terms
            if term.name in totals and term.phase == phase
        )
        totals[f"loss_{phase}"] = WeightedMean.of(value, num_pairs)
    return totals
