"""Replies as no honest site sends them: each mutation takes a valid reply and chooses by a random generator."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord

from tests.support.inprocess_grid import InProcessGrid

Mutation = Callable[[Message, Random], Message]

NUMBERS: tuple[Any, ...] = (
    math.inf, -math.inf, math.nan, 1e308, -1e308, 0, -1, 0.5, 2**31, 2**31 + 1, 2**63, 10**400, 5e-324, True,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    *NUMBERS, "", "text", "\x1b]0;title\x07", "x" * 100_000, b"bytes", [], [1, 2], [math.nan], ["a"], None, {}, 1j,
)  # fmt: skip
RECORDS = ("fitres.parameters", "fitres.num_examples", "fitres.metrics", "fitres.status", "other")


class CannedGrid(InProcessGrid):
    """Node i answers every message with reply i."""

    def __init__(self, replies: Sequence[Message]) -> None:
        super().__init__(lambda message, context: None, [{} for _ in replies], {})
        self._canned = replies

    def _answer(self, message: Message, index: int) -> None:
        reply = self._canned[index]
        named = {"_reply_to_message_id": message.metadata.message_id, "_group_id": message.metadata.group_id}
        reply.metadata.__dict__.update(named)
        self._replies[message.metadata.message_id] = reply


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npz(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, array)
    return file.getvalue()


def header(text: str, version: tuple[int, int] = (1, 0)) -> bytes:
    """The bytes of an .npy file before its values."""
    num_bytes = len(text).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + num_bytes + text.encode("latin1")


def header_of(shape: object, descr: object = "<f4") -> bytes:
    return header(f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n")


def with_data(reply: Message, key: str, data: bytes) -> Message:
    """The bytes of one array replaced, whatever they are."""
    old = reply.content.array_records["fitres.parameters"][key]
    new = Array(dtype=old.dtype, shape=old.shape, stype=old.stype, data=data)
    reply.content.array_records["fitres.parameters"][key] = new
    return reply


def force(record: Any, key: object, value: object) -> None:
    """Put a value into a record past Flower's check of types."""
    record.__dict__["_data"][key] = value


def bytes_changed(reply: Message, random: Random) -> Message:
    record = reply.content.array_records["fitres.parameters"]
    key = random.choice(list(record))
    data = bytearray(record[key].data)
    for _ in range(random.choice([1, 1, 1, 3, 40])):
        place = random.randrange(min(len(data), random.choice([16, 128, len(data)])))
        data[place] = random.randrange(256)
    return with_data(reply, key, bytes(data))


def length_changed(reply: Message, random: Random) -> Message:
    record = reply.content.array_records["fitres.parameters"]
    key = random.choice(list(record))
    data = record[key].data
    cut = data[: random.randrange(len(data))]
    return with_data(reply, key, random.choice([cut, data + b"\0" * random.randrange(1, 5000), data + data, b""]))


def bytes_replaced(reply: Message, random: Random) -> Message:
    record = reply.content.array_records["fitres.parameters"]
    key = random.choice(list(record))
    array = record[key].numpy()
    return with_data(
        reply,
        key,
        random.choice(
            [
                npz(array),
                npy(np.array([{"a": 1}], object)),
                npy(array.astype(">f4")),
                npy(np.zeros(array.shape, np.float16)),
                npy(np.asfortranarray(array)),
                npy(array.reshape(-1)),
                npy(np.full(array.shape, "x" * 50)),
                npy(np.zeros(array.shape, [("a", "f4"), ("b", "O")])),
                header_of((2**45,)),
                header_of((2**45,), "<f8"),
                header_of((-1,)) + bytes(8),
                header_of((10**30,)),
                header_of(array.shape, "O") + bytes(array.nbytes),
                header("{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 900 + "}\n"),
                header("{" + " " * 60_000 + "}\n"),
                header("{}", (2, 0)) + bytes(20_000),
                header("{}", (9, 9)),
                bytes(random.randrange(256) for _ in range(random.randrange(300))),
                npy(np.array(random.choice([math.nan, math.inf, 3e38]), array.dtype) + np.zeros_like(array))
                if array.dtype.kind == "f"
                else npy(~array),
            ]
        ),
    )


def description_changed(reply: Message, random: Random) -> Message:
    """What a record says of an array, beside its bytes."""
    record = reply.content.array_records["fitres.parameters"]
    key = random.choice(list(record))
    name = random.choice(["dtype", "shape", "stype", "data"])
    values = {"dtype": ["float64", "object", "x" * 10_000, 7], "shape": [(2**45,), (-1,), (1, 2, 3), "ab", None]}
    value = random.choice([*values.get(name, []), "torch", "", 5, None, [1]])
    changed = copy.copy(record[key])
    changed.__dict__[name] = value
    force(record, key, changed)
    return reply


def arrays_changed(reply: Message, random: Random) -> Message:
    """Their number, order and names."""
    record = reply.content.array_records["fitres.parameters"]
    items = list(record.items())
    change = random.randrange(6)
    if change == 0:
        del items[random.randrange(len(items))]
    elif change == 1:
        items.append((random.choice(["extra", "_empty", "\x1b[2J"]), items[0][1]))
    elif change == 2:
        items.reverse()
    elif change == 3:
        items += [(f"many-{index}", items[0][1]) for index in range(2000)]
    elif change == 4:
        items[0] = ("_empty", items[0][1])
    else:
        items = []
    reply.content["fitres.parameters"] = ArrayRecord(dict(items))
    return reply


def examples_changed(reply: Message, random: Random) -> Message:
    record = reply.content.metric_records["fitres.num_examples"]
    if random.random() < 0.2:
        del record["num_examples"]
    else:
        force(record, "num_examples", random.choice(VALUES))
    return reply


def metrics_changed(reply: Message, random: Random) -> Message:
    record = reply.content.config_records["fitres.metrics"]
    known = [*record, "loss_generator", "seconds", "dp_releases", "partition-id", "num-simulated", "label-0", "label-4"]
    for _ in range(random.choice([1, 1, 2, 5])):
        name = random.choice([*known, "", "x" * 65, "unknown", "\x1b[31m", 5, None])
        if random.random() < 0.1:
            record.__dict__["_data"].pop(name, None)
        else:
            force(record, name, random.choice(VALUES))
    if random.random() < 0.1:
        for index in range(20_000):
            force(record, f"name-{index}-{'x' * 190}", 1.0)
    return reply


def records_changed(reply: Message, random: Random) -> Message:
    name = random.choice(RECORDS)
    if random.random() < 0.4 and name in reply.content:
        del reply.content[name]
    else:
        others = [ArrayRecord(), MetricRecord({"a": 1}), ConfigRecord({"num_examples": 1}), None, 7, "text", {}]
        force(reply.content, name, random.choice(others))
    return reply


def replaced_by_an_error(reply: Message, random: Random) -> Message:
    code = random.choice([-2, 0, 1, 2, 3, 5, 8, 999, 2**70, None, "2"])
    reason = random.choice(
        [None, "", 7, b"bytes", "\x1b]0;title\x07\u202egnp", "x" * 1_000_000, ["a"], "<class 'X'>:<'"]
    )
    reply.__dict__["_content"] = None
    reply.__dict__["_error"] = Error(code, reason)  # type: ignore[arg-type]
    return reply


def emptied(reply: Message, random: Random) -> Message:
    """Neither content nor error, or content that is none."""
    reply.__dict__["_content"] = random.choice([None, 7, {}, "text"])
    return reply


MUTATIONS: tuple[Mutation, ...] = (
    bytes_changed,
    length_changed,
    bytes_replaced,
    description_changed,
    arrays_changed,
    examples_changed,
    metrics_changed,
    records_changed,
    replaced_by_an_error,
    emptied,
)


def mutated(reply: Message, mutation: Mutation, seed: int) -> Message:
    """A copy of the reply, mutated."""
    return mutation(copy.deepcopy(reply), Random(seed))
