"""A grid that misbehaves by a seeded schedule, and a process that is killed at a seeded moment."""

from __future__ import annotations

import copy
import os
import random
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message

from model.config import Settings
from tests.inprocess_grid import InProcessGrid


@dataclass(frozen=True, kw_only=True)
class Weather:
    """How likely each mishap is for one client in one round."""

    crash: float = 0.0
    """The client trains and its reply is lost."""
    corrupt: float = 0.0
    """Its reply arrives damaged: a NaN, a missing tensor, or another shape."""
    duplicate: float = 0.0
    """It gets its message twice and answers twice."""


class ChaosGrid(InProcessGrid):
    """Clients answer in a random order, some twice, some damaged, some not at all; alike if a round comes again."""

    def __init__(self, settings: Settings, weather: Weather, seed: int) -> None:
        """A grid with the clients of a simulation."""
        from client.app import app

        num_clients = settings.federation.num_clients
        configs = [{"partition-id": index, "num-partitions": num_clients} for index in range(num_clients)]
        super().__init__(app, configs, settings.to_flat())
        self._weather, self._seed = weather, seed

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver, in an order of this round's own."""
        held = list(messages)
        rng = self._rng(held[0], 0) if held else random.Random()
        rng.shuffle(self._arrival)
        return super().push_messages(held)

    def _answer(self, message: Message, index: int) -> None:
        rng = self._rng(message, index + 1)
        is_training = message.content["fitins.config"]["phase"] == "train"
        if is_training and rng.random() < self._weather.duplicate:
            super()._answer(copy.deepcopy(message), index)
        super()._answer(message, index)
        if is_training and rng.random() < self._weather.crash:
            self._replies.pop(message.metadata.message_id, None)
        elif is_training and rng.random() < self._weather.corrupt:
            _damage(self._replies[message.metadata.message_id], rng)

    def _rng(self, message: Message, index: int) -> random.Random:
        return random.Random(f"{self._seed}-{message.metadata.group_id}-{index}")


def _damage(reply: Message, rng: random.Random) -> None:
    (name,) = reply.content.array_records
    arrays = [array.numpy() for array in reply.content[name].values()]
    victim = rng.randrange(len(arrays))
    kind = rng.choice(("nan", "missing", "shape"))
    if kind == "missing":
        del arrays[victim]
    elif kind == "shape":
        arrays[victim] = np.zeros((*arrays[victim].shape, 2), np.float32)
    else:
        arrays[victim] = np.full_like(arrays[victim], np.nan)
    reply.content[name] = ArrayRecord({str(index): Array(array) for index, array in enumerate(arrays)})


def kill_at(event: int) -> None:
    """End this process by SIGKILL at the n-th sync, rename or other change of a file, or look for replies.

    Odd numbers kill before the event happens, even ones right after it.
    """
    num_events = 0

    def counted(function: Any) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal num_events
            num_events += 1
            if num_events == event and event % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*args, **kwargs)
            if num_events >= event:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapper

    for name in ("fsync", "rename", "replace", "unlink", "rmdir", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))
    Path.write_text = counted(Path.write_text)  # type: ignore[method-assign]
    InProcessGrid.pull_messages = counted(InProcessGrid.pull_messages)  # type: ignore[method-assign]
