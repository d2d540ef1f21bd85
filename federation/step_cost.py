"""What a training step and a drawn frame cost: the one place that measures both, on drawn people or a dataset.

Networks are untrained; they take as long as trained ones. Every loss term is on, in its true proportion.
"""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
import torch

from data_partition.batches import FrameCache
from data_partition.partition import ClientData, site_data
from data_partition.shards.shard import open_shard
from data_partition.statistics import local_statistics
from data_partition.synth.dataset import synthesize
from federation.local_training import local_batches, local_trainer
from federation.resources import ResourceUse
from federation.settings import Settings
from model.batch import GeneratorInputs, ReenactmentBatch
from model.designs.registry import build_networks, design_of
from model.errors import WeightsError
from model.landmarks.geometry import PartSizes
from model.networks.bundle import Networks
from model.training.trainer import GANTrainer, pick_device, run_steps

NUM_FRAMES = 20
"""Of the one drawn person, the fewest that can be drawn."""
CONTEXT_BYTES = 600 * 2**20
"""What a process takes of a card besides its tensors: CUDA's context and libraries. Assumed, not measured."""
_USABLE_SHARE = 0.9
"""Of a memory that training processes may fill."""


def settings_here(settings: Settings) -> Settings:
    """The settings with a perceptual-backbone whose file is on this machine: theirs, else vgg16, else none."""
    for backbone in (settings.loss.perceptual_backbone, "vgg16"):
        here = settings.replaced({"perceptual-backbone": backbone})
        try:
            design_of(here.model.network).load_perceptual(here.loss)
        except WeightsError:
            continue
        return here
    return settings.replaced({"perceptual-backbone": "none"})


def drawn_data(folder: Path, settings: Settings) -> ClientData:
    """A drawn person's frames, of the side that the settings train at; files in `folder`."""
    size_px = settings.model.image_size_px
    paths = synthesize(folder, num_identities=1, num_frames=NUM_FRAMES, size_px=size_px, num_workers=1)
    return site_data(open_shard(paths[0]), 0)


class Workload:
    """Training steps and frames of some settings, to be repeated as often as a measurement needs."""

    def __init__(self, data: ClientData, settings: Settings) -> None:
        """Build the networks.

        Args:
            data: with a training pair, and meshes where the network needs them.
            settings: of the run; num-threads is for the caller to set.

        Raises:
            WeightsError: if the settings need a pretrained file that is not on this machine.
            ConfigError: if they name a device this machine lacks.
        """
        self._data, self._settings = data, settings
        self._part_sizes = _part_sizes(data, settings)
        self.trainer = self._new_trainer()
        self.steps_in_cycle = math.lcm(*(term.every(settings.loss) for term in self.trainer.design.terms))
        self.batch = next(self.batches(FrameCache(max_bytes=0)))

    def batches(self, cache: FrameCache) -> Iterator[ReenactmentBatch]:
        """As training draws them, from a new generator."""
        rng = np.random.default_rng(self._settings.rounds.seed)
        return local_batches(self._data, self._settings, rng, cache)

    def train(self, num_steps: int | None = None) -> None:
        """Steps on one batch; None is a cycle, as many as have all terms in their true proportion."""
        run_steps(self.trainer, itertools.repeat(self.batch), num_steps or self.steps_in_cycle)

    def drawing(self) -> Drawing:
        """One frame of other networks of this kind, where training runs."""
        one = self._settings.replaced({"batch-size": 1})
        networks = build_networks(one.model, self._part_sizes, seed=0).to(self.trainer.device).eval()
        batch = next(local_batches(self._data, one, np.random.default_rng(0)))
        return Drawing(networks, batch.to(self.trainer.device).generator_inputs())

    def _new_trainer(self) -> GANTrainer:
        settings = self._settings
        design = design_of(settings.model.network)
        return local_trainer(
            build_networks(settings.model, self._part_sizes, seed=settings.rounds.seed),
            settings,
            perceptual=design.load_perceptual(settings.loss),
            device=pick_device(settings.optimizer.device),
            step=max(term.since(settings.loss) for term in design.terms),
        )


class Drawing:
    """Draws a frame when called, from as many sources as training has, and waits for it."""

    def __init__(self, networks: Networks, inputs: GeneratorInputs) -> None:
        """On one device, ready to draw."""
        self.networks, self._inputs = networks, inputs

    def __call__(self) -> None:
        """One frame, to the memory of the CPU."""
        with torch.inference_mode():
            self.networks.generator(self._inputs).image_NCHW.cpu()


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Of some settings on a device."""

    device: str
    """Its name, as the driver has it; cpu."""
    is_mixed: bool
    """Whether steps are computed in bfloat16."""
    perceptual: str
    """perceptual-backbone that was measured."""
    step_s: float
    """Mean seconds of a training step."""
    frame_s: float
    """Seconds to draw a frame."""
    process_bytes: int
    """Peak resident memory of a training process."""
    card_bytes: int
    """Peak memory of a card that it holds, without `CONTEXT_BYTES`; 0 on a CPU."""
    device_bytes: int
    """All memory of the device that trains."""
    utilisation: float | None
    """Of the card at the end of the steps, 0 to 1; None on a CPU, or without NVIDIA's management library."""

    @property
    def bytes_each(self) -> int:
        """Of the device's memory, what a training process takes."""
        return self.card_bytes + CONTEXT_BYTES if self.card_bytes else self.process_bytes

    @property
    def num_that_fit(self) -> int:
        """Training processes that the device's memory holds side by side."""
        return int(_USABLE_SHARE * self.device_bytes / self.bytes_each)


def measured(settings: Settings, min_seconds: float) -> Cost | None:
    """The cost of steps and frames, in a process of its own; None if that ended early, as for want of memory.

    Args:
        settings: of a run; its data-dir is not looked at. The network needs no mesh.
        min_seconds: of each of the two measurements; a slow device takes longer, as it makes whole cycles.

    Raises:
        ConfigError: if they name a device this machine lacks.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_measured_here, settings_here(settings), min_seconds).result()
        except (BrokenProcessPool, torch.OutOfMemoryError):
            return None


def calls_per_s(call: Callable[[], object], min_seconds: float) -> float:
    """Calls a second, over at least `min_seconds` and one call; a CUDA device is waited for at the end."""
    started, num_calls = time.perf_counter(), 0
    while num_calls == 0 or time.perf_counter() - started < min_seconds:
        call()
        num_calls += 1
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return num_calls / (time.perf_counter() - started)


def _measured_here(settings: Settings, min_seconds: float) -> Cost:
    torch.set_num_threads(settings.optimizer.num_threads)
    with tempfile.TemporaryDirectory() as folder:
        work = Workload(drawn_data(Path(folder), settings), settings)
        device = work.trainer.device
        used = ResourceUse(device)
        work.train(1)  # the first step also allocates
        cycles_per_s = calls_per_s(work.train, min_seconds)
        use = used.until_now()
        card_bytes = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0
        drawing = work.drawing()
    drawing()
    return Cost(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        is_mixed=work.trainer.is_mixed,
        perceptual=settings.loss.perceptual_backbone,
        step_s=1 / (cycles_per_s * work.steps_in_cycle),
        frame_s=1 / calls_per_s(drawing, min_seconds),
        process_bytes=int(use["peak_memory_bytes"]),
        card_bytes=card_bytes,
        device_bytes=_device_bytes(device),
        utilisation=use.get("gpu_utilisation"),
    )


def _device_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total)


def _part_sizes(data: ClientData, settings: Settings) -> PartSizes:
    size_px = settings.model.image_size_px
    num_identities = settings.model.num_identities
    sums_P2, *_ = local_statistics(data, num_identities=num_identities, size_px=size_px)
    return PartSizes.from_mean(sums_P2 / data.identity_counts(num_identities).sum(), size_px)
