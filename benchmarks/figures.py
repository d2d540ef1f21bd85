"""What `make bench` measures, each figure a function that can be called again: of drawn people, on one thread.

Times are CPU-seconds, of which a machine that does other things as well takes nearly as many as a free one.
"""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import secure_aggregation
from data_partition.partition import site_data
from data_partition.preparation.prepare import prepare
from data_partition.shards.shard import Shard, open_dataset
from data_partition.synth.dataset import synthesize
from deploy.files import PRESETS
from evaluation.job import EvaluationRequest, run_evaluation
from evaluation.pairs import Protocol
from federation.settings import Settings, read_preset
from federation.step_cost import Workload
from model.config import NETWORKS
from model.designs.registry import design_of
from model.setting import Scalar
from reenact.guidance_choice import Guidance
from server.rounds.federation import run_federation
from server.run_folder.history import read_history
from tests.data_partition.conftest import write_video
from tests.support.federated_setup import simulated_grid

ROOT = Path(__file__).resolve().parent.parent
PRESET_NAMES = ("tiny", "small", "paper")
CODECS = ("float32", "bfloat16", "int8")
NUM_PEOPLE, NUM_FRAMES = 2, 80
NUM_ROUNDS, LOCAL_STEPS = 3, 3
NUM_DRAWN = 5
NUM_PAIRS = 4
"""Of each person; the first is not counted, at which everything is loaded."""

Figures = dict[str, float]
"""Name, unit in it, to value."""


class Bench:
    """A folder with drawn people, and what is measured with them."""

    def __init__(self, folder: Path) -> None:
        """Draw them.

        Args:
            folder: empty.
        """
        self._folder = folder
        self._people = folder / "people"
        synthesize(self._people, num_identities=NUM_PEOPLE, num_frames=NUM_FRAMES, size_px=256, num_workers=1)
        self._num_measured = 0

    def once(self) -> Figures:
        """What is the same each time: parameters, multiply-adds, bytes."""
        counts: Figures = {}
        for preset, network in _networks():
            counts |= {f"{preset} {network}: {name}": value for name, value in self._counts(preset, network).items()}
        for codec in CODECS:
            counts |= self._bytes_of_a_round(codec)
        return counts

    def timed(self) -> Iterator[tuple[str, Callable[[], float]]]:
        """Name, unit in it, and what measures it once."""
        for preset, network in _networks():
            if preset == "paper" and network != "glr":
                continue  # a minute each on a slow core; their sizes are among `once`
            yield f"{preset} {network}: training step, CPU-s", functools.partial(self._step_s, preset, network)
            yield f"{preset} {network}: drawing a frame, CPU-s", functools.partial(self._frame_s, preset, network)
        for kind, is_secure in (("plain", False), ("secure", True)):
            yield f"tiny glr: five updates at the server, {kind}, s", functools.partial(_server_s, is_secure)
        yield "a site's process: imports, CPU-s", functools.partial(_run_s, "import client.app")
        yield "Python alone, CPU-s", functools.partial(_run_s, "pass")
        yield "evaluation of a pair under four methods, CPU-s", self._pair_s
        yield "preparation, frames a CPU-s", self._prepared_per_s

    def _shards(self) -> list[Shard]:
        return open_dataset(self._people)

    def _settings(self, preset: str, network: str, **changes: Scalar) -> Settings:
        """Of a preset, on the CPU with one thread; VGG-19 is no package's, so VGG-16 stands for it."""
        flat = read_preset(PRESETS / f"{preset}.toml") | {
            "network": network,
            "device": "cpu",
            "num-threads": 1,
            "without-consent": "synthetic",
            "perceptual-backbone": "vgg16",
            "num-clients": NUM_PEOPLE,
            "num-identities": NUM_PEOPLE,
            "min-fit-clients": NUM_PEOPLE,
            "data-dir": str(self._people),
        }
        return Settings.from_flat(flat | {name.replace("_", "-"): value for name, value in changes.items()})

    def _workload(self, preset: str, network: str) -> Workload:
        return Workload(site_data(self._shards()[0], 0), self._settings(preset, network))

    def _counts(self, preset: str, network: str) -> Figures:
        drawing = self._workload(preset, network).drawing()
        with FlopCounterMode(display=False) as counter:
            drawing()
        values = sum(tensor.numel() for tensor in drawing.networks.state_dict().values())
        return {"millions of values": values / 1e6, "drawing a frame, G multiply-adds": counter.get_total_flops() / 2e9}

    def _step_s(self, preset: str, network: str) -> float:
        work = self._workload(preset, network)
        return _cpu_s(work.train) / work.steps_in_cycle

    def _frame_s(self, preset: str, network: str) -> float:
        drawing = self._workload(preset, network).drawing()
        drawing()

        def draw() -> None:
            for _ in range(NUM_DRAWN):
                drawing()

        return _cpu_s(draw) / NUM_DRAWN

    def _bytes_of_a_round(self, codec: str) -> Figures:
        """Of a site, in the last of a few short rounds; the first begins with whole weights under every codec."""
        run = self._folder / codec
        settings = self._settings(
            "tiny",
            "glr",
            output_dir=str(run),
            update_codec=codec,
            perceptual_backbone="none",
            adversarial_from_step=0,
            local_steps=LOCAL_STEPS,
            max_rounds=NUM_ROUNDS,
            tau=0.0,
        )
        run_federation(simulated_grid(settings), settings)
        last = read_history(run)[-1]
        mean = {
            key: sum(m[key] for m in last.measured.values()) / NUM_PEOPLE / 1e6 for key in ("bytes_up", "bytes_down")
        }
        name = f"tiny glr, {codec}: a site's bytes in round {NUM_ROUNDS}"
        return {f"{name}, up, MB": mean["bytes_up"], f"{name}, down, MB": mean["bytes_down"]}

    def _pair_s(self) -> float:
        """Of the run that the bytes were counted in."""
        ends: list[float] = []

        def watch(text: str, _done: int, _total: int) -> None:
            if text == "Evaluating pairs":
                ends.append(time.process_time())

        request = EvaluationRequest(
            checkpoint=self._folder / "int8",
            dataset=self._people,
            out=self._new_folder("evaluation"),
            protocols=(Protocol.SELF,),
            num_pairs=NUM_PAIRS,
            seed=0,
            pairs=None,
            landmarks=Guidance.AUTO,
            num_sources=4,
        )
        run_evaluation(request, device=torch.device("cpu"), progress=watch)
        return (ends[-1] - ends[0]) / (len(ends) - 1)

    def _prepared_per_s(self) -> float:
        """Of one process, its start and the finding of faces with it, at 256 px."""
        shard = self._shards()[0]
        videos = self._new_folder("videos")
        videos.mkdir()
        frames = [shard.read_frame(row) for row in range(shard.num_frames)]
        write_video(videos / "anna.mp4", frames)
        return len(frames) / _cpu_s(lambda: prepare(videos, self._new_folder("prepared"), size_px=64, num_workers=1))

    def _new_folder(self, name: str) -> Path:
        self._num_measured += 1
        return self._folder / f"{name}-{self._num_measured}"


def _networks() -> Iterator[tuple[str, str]]:
    """Preset and design; drawn people have no mesh, so designs that need one are left out."""
    return itertools.product(PRESET_NAMES, (name for name in NETWORKS if not design_of(name).needs_mesh))


def _server_s(is_secure: bool) -> float:
    """Of a round."""
    return secure_aggregation.measure(secure_aggregation.settings_of("tiny", 5, is_secure=is_secure))["server_s"]


def _run_s(code: str) -> float:
    """Of a new Python that runs it."""
    return _cpu_s(lambda: subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT))


def _cpu_s(call: Callable[[], object]) -> float:
    """User's and system's time of a call, and of the processes that it waits for."""

    def used() -> float:
        children = psutil.Process().cpu_times()
        return float(time.process_time() + children.children_user + children.children_system)

    before = used()
    call()
    return used() - before
