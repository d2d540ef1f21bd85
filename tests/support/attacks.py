"""What one hostile site of a federation may send in place of its honest update, and a grid in which it does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord

from data_partition.shards.shard import Shard, open_dataset
from data_partition.shards.writer import ShardWriter
from federation.packing import unpack
from federation.settings import Settings
from model.designs.registry import travelling_shapes
from tests.support.inprocess_grid import InProcessGrid
from tests.support.packed import packed

Arrays = list[np.ndarray]
Attack = Callable[[Arrays, Arrays, np.random.Generator], Arrays]
"""(tensors that the site was sent, its honest update, randomness) to what it sends."""


def nan(sent: Arrays, honest: Arrays, rng: np.random.Generator) -> Arrays:
    """One value of every tensor is NaN."""
    poisoned = [array.copy() for array in honest]
    for array in poisoned:
        array.reshape(-1)[0] = np.nan
    return poisoned


def stretched(factor: float) -> Attack:
    """The honest step, times a factor; a negative one undoes what the others learn."""
    return lambda sent, honest, rng: [
        (old + np.float32(factor) * (new - old)).astype(np.float32) for old, new in zip(sent, honest, strict=True)
    ]


def noise(factor: float) -> Attack:
    """A step of Gaussian noise, `factor` times as long as the honest one."""

    def attack(sent: Arrays, honest: Arrays, rng: np.random.Generator) -> Arrays:
        drawn = [rng.standard_normal(array.shape, np.float32) for array in sent]
        scale = factor * _length([new - old for old, new in zip(sent, honest, strict=True)]) / _length(drawn)
        return [(old + np.float32(scale) * step).astype(np.float32) for old, step in zip(sent, drawn, strict=True)]

    return attack


def replay() -> Attack:
    """The update of the first round, in every round."""
    first: list[Arrays] = []

    def attack(sent: Arrays, honest: Arrays, rng: np.random.Generator) -> Arrays:
        first.append([array.copy() for array in honest])
        return first[0]

    return attack


def disguised(attack: Attack) -> Attack:
    """The same, every value changed by about a millionth, so that no two updates have the same bits."""
    return lambda sent, honest, rng: [
        (array * (1 + np.float32(1e-6) * rng.standard_normal(array.shape, np.float32))).astype(np.float32)
        for array in attack(sent, honest, rng)
    ]


ATTACKS: dict[str, Callable[[], Attack]] = {
    "none": lambda: lambda sent, honest, rng: honest,
    "nan": lambda: nan,
    "scaled": lambda: stretched(50.0),
    "sign-flipped": lambda: stretched(-1.0),
    "flipped-and-stretched": lambda: stretched(-5.0),
    "noise": lambda: noise(5.0),
    "replay": replay,
    "disguised-replay": lambda: disguised(replay()),
    "boast": lambda: stretched(-1.0),  # and a number of frames: `_FRAMES`
    "identity-swap": lambda: lambda sent, honest, rng: honest,  # its data are the attack: `write_swapped`
}
_FRAMES = {"boast": 10**6}
"""Attack to the number of training frames that comes with its updates."""


class HostileGrid(InProcessGrid):
    """The clients of a simulation; one of them attacks in every round."""

    def __init__(self, settings: Settings, attack: str, *, attacker: int, seed: int = 0) -> None:
        """A grid.

        Args:
            settings: of the run.
            attack: a name in `ATTACKS`.
            attacker: partition id.
            seed: of the attacker's noise.
        """
        from client.app import app

        num_clients = settings.rounds.num_clients
        configs = [{"partition-id": index, "num-partitions": num_clients} for index in range(num_clients)]
        super().__init__(app, configs, settings.to_flat())
        self._settings, self._attack, self._attacker = settings, ATTACKS[attack](), attacker
        self._num_frames = _FRAMES.get(attack)
        self._rng = np.random.default_rng(seed)

    def _answer(self, message: Message, index: int) -> None:
        sent = [array.numpy().copy() for array in message.content.array_records["fitins.parameters"].values()]
        config = message.content.config_records["fitins.config"]
        super()._answer(message, index)
        if index != self._attacker or config["phase"] != "train":
            return
        reply = self._replies[message.metadata.message_id]
        shapes = travelling_shapes(self._settings.model)
        (honest,) = [array.numpy() for array in reply.content.array_records["fitres.parameters"].values()]
        before, trained = (list(unpack(vector, shapes).values()) for vector in (*sent, honest))
        vector_L = packed(self._attack(before, trained, self._rng))
        reply.content["fitres.parameters"] = ArrayRecord({"0": Array(vector_L)})
        if self._num_frames is not None:
            reply.content["fitres.num_examples"] = MetricRecord({"num_examples": self._num_frames})


def write_swapped(root: Path, people: Path, attacker: int) -> Path:
    """A dataset in which the attacker's frames are those of two people in turn, as if they were one.

    Args:
        root: folder of the new dataset.
        people: a dataset of at least one person more than there are sites; the last one is the stranger.
        attacker: which person gets the stranger's frames among its own.
    """
    *shards, stranger = open_dataset(people)
    for index, shard in enumerate(shards):
        sources = [shard, stranger] if index == attacker else [shard]
        with ShardWriter(root, shard.identity, shard.size_px, "test", consent=shard.consent) as writer:
            for row in range(min(source.num_frames for source in sources)):
                _copy_frame(writer, sources[row % len(sources)], row)
    return root


def _copy_frame(writer: ShardWriter, shard: Shard, row: int) -> None:
    writer.add(
        shard.read_frame(row),
        clip="clip-0",
        frame_index=row,
        timestamp_s=row / 25,
        landmarks_KC=shard.landmarks_FKC[row],
        pose_C=shard.pose_FC[row],
        au_presence_A=shard.au_presence_FA[row],
        au_intensity_A=shard.au_intensity_FA[row],
        confidence=float(shard.confidence_F[row]),
    )


def _length(arrays: Arrays) -> float:
    return float(np.sqrt(sum(np.square(array, dtype=np.float64).sum() for array in arrays)))
