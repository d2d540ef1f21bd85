"""One site's update: a reply with the weights that it trained, or the step to them, fit to be averaged."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from flwr.app import Message

from federation.codec import Code, Codec, moved
from federation.packing import Vector, pack, unpack
from model.errors import TensorMismatchError
from model.networks.bundle import NamedArrays, validate_tensors
from server.updates.reply import (
    ArrayForm,
    RejectedUpdateError,
    Rejection,
    read_fit_reply,
    reading_a_reply,
    size_in_bytes,
)

LARGEST_WEIGHT = 1e6
"""Of a network: a larger value is finite, and its square in a sum, or a picture made with it, need not be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientUpdate:
    """A valid reply."""

    tensors: dict[str, npt.NDArray[np.float32]]
    """Names, shapes and dtypes of the global tensors; all values finite and at most `LARGEST_WEIGHT`."""
    num_examples: int
    """Training frames, 1 to `MAX_FRAMES`: the weight in the average."""
    metrics: dict[str, float]
    """Finite scalars of known names, `loss_generator` among them unless the run keeps losses at the sites."""
    num_dropped: int
    """Scalars of other names, or no numbers, that the site sent besides."""
    num_bytes: int
    """Size of the tensors as they were sent."""


@reading_a_reply()
def read_update(
    reply: Message,
    expected: NamedArrays,
    names: Collection[str],
    *,
    codec: Codec | None = None,
    has_losses: bool = True,
) -> ClientUpdate:
    """The update in a NumPyClient's fit reply.

    Args:
        reply: content with the records `fitres.*`, or an error.
        expected: the global tensors with which the round began, in the order in which their values stand in the vector
            that travels.
        names: of the numbers that sites of this run report.
        codec: of the run; None if whole weights travel.
        has_losses: whether sites tell their losses in this run.

    Raises:
        RejectedUpdateError: if the client failed, or for zero examples, another number of arrays than one, an
            unreadable array, a wrong length or dtype, a value that is not finite or too large, or a missing generator
            loss.
    """
    (array,), num_examples, metrics = read_fit_reply(reply, [_form_of_update(expected, codec)], names)
    if num_examples == 0:
        raise RejectedUpdateError("reports 0 training frames, wanted at least 1")
    vector_L = array if codec is None else _decoded(array, expected, codec)
    tensors = unpack(vector_L, {name: array.shape for name, array in expected.items()})
    try:
        validate_tensors(tensors, expected, where="update")
    except TensorMismatchError as error:
        raise RejectedUpdateError(str(error), Rejection.NOT_FINITE) from error
    for name, array in tensors.items():
        largest_value = max(array.max(initial=0), -array.min(initial=0))
        if largest_value > LARGEST_WEIGHT:
            reason = f"update: {name} has values up to {largest_value:g}, wanted at most {LARGEST_WEIGHT:g}"
            raise RejectedUpdateError(reason, Rejection.NOT_FINITE)
    if has_losses and "loss_generator" not in metrics:
        raise RejectedUpdateError("sent no loss_generator")
    return ClientUpdate(
        tensors=tensors,
        num_examples=num_examples,
        metrics=metrics,
        num_dropped=len(reply.content.config_records["fitres.metrics"]) - len(metrics),
        num_bytes=size_in_bytes(reply.content.array_records["fitres.parameters"]),
    )


def _form_of_update(expected: NamedArrays, codec: Codec | None) -> ArrayForm:
    if codec is None:
        num_values = sum(array.size for array in expected.values())
        return ArrayForm("the update", (num_values,), np.dtype(np.float32))
    return ArrayForm("the update", (codec.max_bytes,), np.dtype(np.uint8), may_be_shorter=True)


def _decoded(code: Code, start: NamedArrays, codec: Codec) -> Vector:
    """[L] the weights to which a site's step leads, of any values."""
    try:
        return moved(pack(start), codec.decode(code))
    except TensorMismatchError as error:
        raise RejectedUpdateError(f"the update: {error}", Rejection.MISMATCH) from error
