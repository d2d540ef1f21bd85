"""One client's reply to a training round, checked before it may touch the global networks."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, Error, Message
from flwr.common.constant import ErrorCode

from model.errors import FederationError, NonFiniteLossError, TensorMismatchError
from model.networks import NamedArrays, validate_tensors

SITES_OWN_ERRORS = (ErrorCode.LOAD_CLIENT_APP_EXCEPTION, ErrorCode.CLIENT_APP_RAISED_EXCEPTION)
"""Codes of what went wrong in a site's app; the others tell of messages or nodes that got lost."""

_MAX_REASON_CHARACTERS = 400


class Rejection(StrEnum):
    """Kinds of reasons for leaving a client out of a round: few, so that they can be counted."""

    FAILED = "failed"
    """The client says that it failed."""
    LOSS_NOT_FINITE = "loss-not-finite"
    """The client stopped because a loss or gradient was NaN or infinite."""
    LOST = "lost"
    """The node is gone, or the message got lost on its way."""
    LATE = "late"
    """No reply in time."""
    UNREADABLE = "unreadable"
    """The reply is not one of this app."""
    MISMATCH = "mismatch"
    """Other tensors than the global networks have: number, shapes or dtypes."""
    NOT_FINITE = "not-finite"
    """NaN or infinity among tensors or metrics."""
    REPLAYED = "replayed"
    """The very update that the site sent in an earlier round."""
    TOO_LONG = "too-long"
    """A step much longer than the others'."""
    OUTLYING_LOSS = "outlying-loss"
    """L_G or L_D far from the others'."""
    OPPOSED = "opposed"
    """A step against the direction of the others'."""
    QUARANTINED = "quarantined"
    """Not asked, after updates that were rejected."""


class RejectedUpdateError(FederationError):
    """A client's reply cannot be used; the message is the reason that log and history show."""

    def __init__(self, reason: str, kind: Rejection = Rejection.UNREADABLE) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientUpdate:
    """A valid reply."""

    tensors: dict[str, npt.NDArray[np.float32]]
    """Names, shapes and dtypes of the global tensors; all values finite."""
    num_examples: int
    """Training frames, > 0: the weight in the average."""
    metrics: dict[str, float]
    """Finite scalars, `loss_generator` among them unless the run keeps losses at the sites."""
    num_bytes: int
    """Size of the tensors as they were sent."""


def read_update(reply: Message, expected: NamedArrays, *, has_losses: bool = True) -> ClientUpdate:
    """The update in a NumPyClient's fit reply.

    Args:
        reply: content with the records `fitres.*`, or an error.
        expected: the global tensors; arrays are matched to their names by position.
        has_losses: whether sites tell their losses in this run.

    Raises:
        RejectedUpdateError: if the client failed, or for zero examples, a wrong number of arrays, an unreadable
            array, a wrong shape or dtype, a value that is not finite, or a missing generator loss.
    """
    arrays, num_examples, metrics = read_fit_reply(reply)
    if num_examples <= 0:
        raise RejectedUpdateError(f"reports {num_examples} training frames, wanted at least 1")
    if len(arrays) != len(expected):
        raise RejectedUpdateError(
            f"sent {len(arrays)} tensors, expected {len(expected)}; was the client started with another preset?",
            Rejection.MISMATCH,
        )
    tensors = dict(zip(expected, arrays, strict=True))
    try:
        validate_tensors(tensors, expected, where="update")
    except TensorMismatchError as error:
        has_bad_values = any(array.dtype.kind == "f" and not np.isfinite(array).all() for array in arrays)
        raise RejectedUpdateError(str(error), Rejection.NOT_FINITE if has_bad_values else Rejection.MISMATCH) from error
    if has_losses and "loss_generator" not in metrics:
        raise RejectedUpdateError("sent no loss_generator")
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise RejectedUpdateError(f"metric {name} is {value}, wanted a finite number", Rejection.NOT_FINITE)
    num_bytes = size_in_bytes(reply.content.array_records["fitres.parameters"])
    return ClientUpdate(tensors=tensors, num_examples=num_examples, metrics=metrics, num_bytes=num_bytes)


def read_fit_reply(reply: Message) -> tuple[list[npt.NDArray[Any]], int, dict[str, float]]:
    """Arrays, number of examples and numeric metrics of a fit reply; other metrics are dropped.

    Raises:
        RejectedUpdateError: if the client failed or a record is missing or unreadable.
    """
    if reply.has_error():
        raise RejectedUpdateError(failure_reason(reply.error), _kind_of_failure(reply.error))
    try:
        records = reply.content
        arrays = [array.numpy() for array in _without_marker(records.array_records["fitres.parameters"])]
        num_examples = int(records.metric_records["fitres.num_examples"]["num_examples"])
        metrics = dict(records.config_records["fitres.metrics"])
    except (KeyError, ValueError, TypeError, EOFError) as error:
        raise RejectedUpdateError(f"sent a reply that cannot be read ({type(error).__name__}: {error})") from error
    return arrays, num_examples, {k: float(v) for k, v in metrics.items() if isinstance(v, int | float)}


def failure_reason(error: Error) -> str:
    """What went wrong at a client, as one short line without Flower's wrapping of the exception.

    Control characters become spaces: the line is shown on terminals, and would rewrite them.
    """
    text = error.reason or f"failed with code {error.code} and no reason"
    wrapped = re.fullmatch(r"<class '[^']*'>:<'(.*)'>", text.strip(), flags=re.DOTALL)
    text = wrapped.group(1) if wrapped else text
    text = text.split("Exception ClientAppException occurred. Message: ")[-1]
    printable = "".join(" " if unicodedata.category(character) == "Cc" else character for character in text)
    line = " ".join(printable.split())
    return line if len(line) <= _MAX_REASON_CHARACTERS else line[:_MAX_REASON_CHARACTERS] + " ..."


def _kind_of_failure(error: Error) -> Rejection:
    if error.code not in SITES_OWN_ERRORS:
        return Rejection.LOST
    is_not_finite = NonFiniteLossError.__name__ in (error.reason or "")
    return Rejection.LOSS_NOT_FINITE if is_not_finite else Rejection.FAILED


def size_in_bytes(record: ArrayRecord) -> int:
    """Bytes of a record's arrays as Flower sends them."""
    return sum(len(array.data) for array in record.values())


def _without_marker(record: ArrayRecord) -> list[Array]:
    """The arrays of a record; Flower marks an empty one with a key of its own."""
    return [array for key, array in record.items() if key != "_empty"]
