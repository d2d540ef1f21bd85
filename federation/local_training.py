"""One client's part of a round (thesis Algorithm 1, lines 3-7). Knows no Flower."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from data_partition.ahead import drawn_ahead
from data_partition.augment import moved, recoloured, with_other_drivers
from data_partition.batches import PROCESS_CACHE, FrameCache, iter_batches
from data_partition.partition import ClientData
from federation.resources import ResourceUse
from federation.settings import Settings
from model.batch import ReenactmentBatch
from model.designs.registry import build_networks, design_of
from model.errors import NonFiniteLossError
from model.landmarks.geometry import PartSizes
from model.metrics import WeightedMean
from model.networks.bundle import NamedArrays, Networks, validate_tensors
from model.training.moments import MomentStore
from model.training.one_sided import one_sided
from model.training.perceptual import PerceptualLoss
from model.training.trainer import GANTrainer, run_steps


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundTask:
    """What the server asks of a client."""

    round_number: int
    """Counted from 1."""
    partition_id: int
    """Which client this is, from 0; enters the seed of pair sampling."""
    part_sizes: PartSizes
    """Agreed by all sites before round 1."""
    fails_late: bool = False
    """Whether a training that stops being finite works on for as many steps as were asked before it fails: where nobody
    may learn that it failed, the time of the answer must not say so."""
    salt: int | None = None
    """Enters the seed too, if there is one: then a round that comes again gives other bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalResult:
    """What a client answers."""

    tensors: dict[str, npt.NDArray[np.float32]]
    """The travelling tensors by name, in their fixed order."""
    num_examples: int
    """Training frames (not batches): the client's weight in the average."""
    metrics: dict[str, float]
    """Mean terms and losses over the local steps, accuracies, `seconds`, `num_steps`, `has_moments`, resources."""
    one_sided: str = ""
    """Why the update may show a single frame, in words that say nothing of the frames; empty if nothing says so."""


def train_locally(
    task: RoundTask,
    tensors: NamedArrays,
    *,
    settings: Settings,
    data: ClientData,
    moments: MomentStore,
    perceptual: PerceptualLoss | None,
    device: torch.device,
    on_step: Callable[[int], None] | None = None,
) -> LocalResult:
    """Train from the global networks on the client's own frames for E local steps, or fewer in local-time-limit-s.

    The pairs are drawn from a generator seeded by (run seed, partition id, round), so a round without salt repeats
    exactly whatever was run before it, given the same moments.

    Args:
        task: round and agreed sizes.
        tensors: the global travelling tensors by name.
        settings: of the run.
        data: the client's frames.
        moments: where the optimiser moments of earlier rounds are; those of this round are written there.
        perceptual: frozen feature distance, or None.
        device: where to compute.
        on_step: called after each step with the number of steps done; what it raises ends the training, and nothing is
            kept.

    Raises:
        TensorMismatchError: if the tensors are not those of this network.
        NonFiniteLossError: if a term stops being finite; neither tensors nor moments are kept.
        DataError: if a frame cannot be read.
    """
    started, used = time.monotonic(), ResourceUse(device)
    networks = build_networks(settings.model, task.part_sizes, seed=settings.rounds.seed)
    networks.load_tensors(tensors)
    proximal = (tensors, settings.rounds.proximal_mu) if settings.rounds.proximal_mu > 0 else None
    first_step = (task.round_number - 1) * settings.rounds.local_steps
    trainer = local_trainer(
        networks, settings, perceptual=perceptual, device=device, step=first_step, proximal=proximal
    )
    has_moments = moments.restore(trainer, task.round_number)
    with drawn_ahead(local_batches(data, settings, _rng(task, settings)), device) as batches:
        means = _trained(trainer, batches, task, settings, started, on_step)
    moments.save(task.round_number, trainer.optimizer_tensors())
    operations = {
        "seconds": time.monotonic() - started,
        "num_steps": float(trainer.step - first_step),
        "has_moments": float(has_moments),
    }
    trained = networks.travelling_tensors()
    rate = settings.optimizer.learning_rate_generator * settings.optimizer.learning_rate_factor_at(trainer.step)
    return LocalResult(
        tensors=trained,
        num_examples=data.num_examples,
        metrics={name: mean.value for name, mean in means.items()} | used.until_now() | operations,
        one_sided=one_sided(trainer.tally, tensors, trained, learning_rate=rate, is_fresh=not has_moments),
    )


def local_trainer(
    networks: Networks,
    settings: Settings,
    *,
    perceptual: PerceptualLoss | None,
    device: torch.device,
    step: int,
    proximal: tuple[NamedArrays, float] | None = None,
) -> GANTrainer:
    """A trainer with fresh optimisers, as the settings say.

    Args:
        networks: trained in place.
        settings: of the run.
        perceptual: frozen feature distance, or None.
        device: where to compute.
        step: local steps taken in earlier rounds, for the schedules.
        proximal: global weights and mu of FedProx, or None.
    """
    return GANTrainer(
        networks,
        loss=settings.loss,
        optimizer=settings.optimizer,
        perceptual=perceptual,
        device=device,
        step=step,
        seed=settings.rounds.seed,
        proximal=proximal,
    )


def local_batches(
    data: ClientData, settings: Settings, rng: np.random.Generator, cache: FrameCache = PROCESS_CACHE
) -> Iterator[ReenactmentBatch]:
    """Endless training batches as local training draws them, moved and recoloured if the settings say so.

    Args:
        data: a client's frames.
        settings: of the run.
        rng: the only source of randomness.
        cache: where decoded frames are kept.

    Raises:
        DataError: at once if there is no pair; later, naming the file, if a frame cannot be read or has no mesh.
    """
    model, batch_size = settings.model, settings.optimizer.batch_size
    design = design_of(model.network)
    takes_several = "num-sources" in design.settings
    batches = iter_batches(
        data,
        size_px=model.image_size_px,
        batch_size=batch_size,
        rng=rng,
        split="train",
        num_sources=model.num_sources if takes_several else 1,
        use_irises=model.use_irises,
        needs_mesh=design.needs_mesh,
        cache=cache,
    )
    batches = moved(batches, settings.data.motion_jitter, rng)
    batches = recoloured(batches, settings.data.colour_jitter, rng)
    return with_other_drivers(batches, settings.data.driver_colour_jitter, rng)


def _rng(task: RoundTask, settings: Settings) -> np.random.Generator:
    seed = (settings.rounds.seed, task.partition_id, task.round_number)
    return np.random.default_rng(seed if task.salt is None else (*seed, task.salt))


def _trained(
    trainer: GANTrainer,
    batches: Iterator[ReenactmentBatch],
    task: RoundTask,
    settings: Settings,
    started: float,
    on_step: Callable[[int], None] | None,
) -> dict[str, WeightedMean]:
    """The mean terms over the round's steps, of which there are fewer when the time is over."""
    first_step, limit_s = trainer.step, settings.waiting.local_time_limit_s
    num_steps = settings.rounds.local_steps

    def is_time_over() -> bool:
        return 0 < limit_s <= time.monotonic() - started

    try:
        return run_steps(trainer, batches, num_steps, on_step, is_time_over=is_time_over)
    except NonFiniteLossError:
        if task.fails_late:
            _work_on(trainer, batches, range(trainer.step - first_step, num_steps), on_step, is_time_over)
        raise


def _work_on(
    trainer: GANTrainer,
    batches: Iterator[ReenactmentBatch],
    steps: range,
    on_step: Callable[[int], None] | None,
    is_time_over: Callable[[], bool],
) -> None:
    """Make the steps that a failed training did not, on networks that nobody gets."""
    config, part_sizes = trainer.networks.config, trainer.networks.part_sizes
    fresh = build_networks(config, part_sizes, seed=0).travelling_tensors()
    has_failed = True
    for done in steps:
        if on_step is not None:
            on_step(done)
        if is_time_over():
            return
        if has_failed:
            trainer.networks.load_tensors(fresh)
            trainer.networks.requires_grad_(True)  # the trainer's first phase may have been the one that failed
        try:
            trainer.train_step(next(batches))
            has_failed = False
        except NonFiniteLossError:
            has_failed = True


def check_start(settings: Settings, part_sizes: PartSizes, tensors: NamedArrays) -> None:
    """Check that a training could start from the tensors; no frame is looked at, and no network built.

    Args:
        settings: of the run.
        part_sizes: of the run.
        tensors: of the right names, shapes and dtypes, as `federation.packing.unpack` gives them.

    Raises:
        ConfigError: for part sizes that do not fit the frame.
        TensorMismatchError: for a value that is not finite.
    """
    part_sizes.check_within(settings.model.image_size_px)
    validate_tensors(tensors, tensors, where="weights to load")


def new_salt() -> int:
    """128 bits that nobody else knows.

    Under secure aggregation a round must not give the same bits twice: two sums of it over different sites would differ
    by a site's update exactly.
    """
    return secrets.randbits(128)
