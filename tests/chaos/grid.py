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

from federation.settings import Settings
from tests.support.inprocess_grid import InProcessGrid


@dataclass(frozen=True, kw_only=True)
class Weather:
    """How likely each mishap is for one client in one round."""

    crash: float = 0.0
    """The client trains and its reply is not there in time, but when the round is over; it comes once more with the
    replies of the next one, for which nobody asked it."""
    corrupt: float = 0.0
    """Its reply arrives damaged: a NaN, a missing tensor, or another shape."""
    duplicate: float = 0.0
    """It gets its message twice and answers twice, and its reply is delivered twice."""
    is_transient: bool = False
    """Whether a round that is repeated meets neither crash nor damage."""


class ChaosGrid(InProcessGrid):
    """Clients answer in a random order, some twice, some damaged, some not at all; alike if a round comes again."""

    def __init__(self, settings: Settings, weather: Weather, seed: int) -> None:
        """A grid with the clients of a simulation."""
        from client.app import app

        num_clients = settings.rounds.num_clients
        configs = [{"partition-id": index, "num-partitions": num_clients} for index in range(num_clients)]
        super().__init__(app, configs, settings.to_flat())
        self._weather, self._seed = weather, seed
        self._late: list[Message] = []
        self._due: list[Message] = []
        self._twice: set[str] = set()
        self._met: set[tuple[str, int]] = set()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver, in an order of this round's own."""
        held = list(messages)
        rng = self._rng(held[0], 0) if held else random.Random()
        rng.shuffle(self._arrival)
        self._due, self._late = self._late, []
        return super().push_messages(held)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Late replies first, then those that were asked for."""
        late, self._due = self._due, []
        fresh = list(super().pull_messages(message_ids))
        again = [copy.deepcopy(reply) for reply in fresh if reply.metadata.reply_to_message_id in self._twice]
        return [*late, *fresh, *again]

    def end_round(self) -> None:
        """What was late is there now."""
        self._replies |= {reply.metadata.reply_to_message_id: copy.deepcopy(reply) for reply in self._late}

    def _answer(self, message: Message, index: int) -> None:
        if message.content["fitins.config"]["phase"] != "train":
            super()._answer(message, index)
            return
        rng = self._rng(message, index + 1)
        message_id = message.metadata.message_id
        if rng.random() < self._weather.duplicate:
            super()._answer(copy.deepcopy(message), index)
            self._twice.add(message_id)
        super()._answer(message, index)
        moment = (message.metadata.group_id, index)
        lucky = self._rng(message, 0).randrange(len(self._contexts))  # else a round would have no update at all
        is_spared = index == lucky or (self._weather.is_transient and moment in self._met)
        self._met.add(moment)
        if is_spared:
            return
        if rng.random() < self._weather.crash:
            self._late.append(self._replies.pop(message_id))
        elif rng.random() < self._weather.corrupt:
            _damage(self._replies[message_id], rng)

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

    Odd numbers kill before the event happens, even ones right after it. A file that was about to be synced is torn
    first, as after a power cut.
    """
    num_events = 0

    def counted(function: Any) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal num_events
            num_events += 1
            if num_events == event and event % 2:
                if function.__name__ == "fsync":
                    _tear(Path(os.readlink(f"/proc/self/fd/{args[0]}")))
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


def _tear(path: Path) -> None:
    """Lose half of a file, or of the last line of one that is appended to: what was synced before stays."""
    if not path.is_file():
        return
    data = path.read_bytes()
    synced = data[:-1].rfind(b"\n") + 1 if path.suffix == ".jsonl" else 0
    os.truncate(path, (synced + len(data)) // 2)
