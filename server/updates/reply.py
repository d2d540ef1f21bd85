"""One site's reply, checked before it may touch anything: whatever it holds, the worst is that it is left out.

What a reply may hold is known before it comes. Its arrays are compared with that, first by what the record says of
them, then by the header in their bytes, and only then read; nothing is allocated for an array that differs.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, Error, Message
from flwr.common.constant import ErrorCode

from federation.reported import largest
from model.errors import FederationError, NonFiniteLossError

UNREADABLE_REPLY = -1
"""Code that the server gives in a reply's place if Flower cannot read it; none of Flower's own."""

SITES_OWN_ERRORS = (ErrorCode.LOAD_CLIENT_APP_EXCEPTION, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, UNREADABLE_REPLY)
"""Codes of what went wrong in a site's app; the others tell of messages or nodes that got lost."""

MAX_FRAMES = 2**31
"""Of one site: years of video."""
_MAX_REASON_CHARACTERS = 400
_MAX_NAME_CHARACTERS = 64
_MAX_UNKNOWN_SCALARS = 64
_STYPE = "numpy.ndarray"
_NPY_VERSION = (1, 0)
_MAX_HEADER_BYTES = 1024
_MAX_ARRAYS = 8


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
    """NaN or infinity among tensors or metrics, or a weight so large that it soon leads to one."""
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
        super().__init__(printable(reason))
        self.kind = kind


@dataclass(frozen=True, slots=True)
class ArrayForm:
    """What an array of a reply has to be."""

    name: str
    """For messages."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    may_be_shorter: bool = False
    """Whether a vector may have fewer values than the shape says."""

    @property
    def num_bytes(self) -> int:
        """Of the values, at most."""
        return math.prod(self.shape) * self.dtype.itemsize

    def allows(self, shape: tuple[int, ...]) -> bool:
        """Whether an array may have a shape."""
        return shape == self.shape or (self.may_be_shorter and len(shape) == 1 and 0 <= shape[0] < self.shape[0])


@contextlib.contextmanager
def reading_a_reply() -> Iterator[None]:
    """Within it, whatever goes wrong is the fault of the reply that is read, and never ends more than its part.

    Raises:
        RejectedUpdateError: in the place of every other exception, MemoryError among them.
    """
    try:
        yield
    except RejectedUpdateError:
        raise
    except Exception as error:
        raise RejectedUpdateError(f"sent a reply that cannot be read ({type(error).__name__}: {error})") from error


@reading_a_reply()
def read_fit_reply(
    reply: Message, expected: Sequence[ArrayForm] | None, names: Collection[str] = ()
) -> tuple[list[npt.NDArray[Any]], int, dict[str, float]]:
    """Arrays, number of examples and numbers of a fit reply.

    Args:
        reply: content with the records `fitres.*`, or an error.
        expected: what its arrays have to be, in their order. None if the caller looks at that himself, where more than
            one form is right: then they are up to `_MAX_ARRAYS` of plain numbers, and as long as they were sent.
        names: of the numbers that are wanted; others are dropped.

    Returns:
        Read-only arrays of the expected forms, of any values; examples, 0 to `MAX_FRAMES`; finite numbers, the largest
        ones cut to what `federation.reported.largest` says.

    Raises:
        RejectedUpdateError: if the client failed, or what it sent is anything else.
    """
    if reply.has_error():
        raise RejectedUpdateError(failure_reason(reply.error), _kind_of_failure(reply.error))
    records = reply.content
    sent = _without_marker(records.array_records["fitres.parameters"])
    arrays = _arrays(sent, _own_forms(sent) if expected is None else expected)
    num_examples = _number_of_frames(records.metric_records["fitres.num_examples"]["num_examples"])
    return arrays, num_examples, _scalars(records.config_records["fitres.metrics"], names)


def _arrays(arrays: Sequence[Array], expected: Sequence[ArrayForm]) -> list[npt.NDArray[Any]]:
    if len(arrays) != len(expected):
        raise RejectedUpdateError(
            f"sent {len(arrays)} arrays, expected {len(expected)}; does the client run another version?",
            Rejection.MISMATCH,
        )
    places = [_require_form(array, form) for array, form in zip(arrays, expected, strict=True)]
    return [_values(array, form.dtype, place) for array, form, place in zip(arrays, expected, places, strict=True)]


class _Place(NamedTuple):
    """Where the values of an array are among its bytes."""

    offset: int
    shape: tuple[int, ...]
    is_by_column: bool


def _require_form(array: Array, form: ArrayForm) -> _Place:
    """Where the values are, if the array has the form; nothing is decoded."""
    if array.stype != _STYPE:
        raise RejectedUpdateError(f"{form.name} is sent as {array.stype!r}, expected {_STYPE}", Rejection.MISMATCH)
    if array.dtype or array.shape:  # Flower's NumPyClient says neither outside of the bytes
        _require_same(form, tuple(array.shape), array.dtype)
    if len(array.data) > form.num_bytes + _MAX_HEADER_BYTES:
        raise RejectedUpdateError(
            f"{form.name} has {len(array.data)} bytes, expected {form.num_bytes} and a header", Rejection.MISMATCH
        )
    shape, is_by_column, dtype, offset = _header(array)
    _require_same(form, shape, str(dtype))
    num_bytes = math.prod(shape) * dtype.itemsize
    if len(array.data) != offset + num_bytes:
        raise RejectedUpdateError(
            f"{form.name} has {len(array.data) - offset} bytes of values, expected {num_bytes}", Rejection.MISMATCH
        )
    return _Place(offset, shape, is_by_column)


def _header(array: Array) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, order, dtype and length of the header in an array's bytes."""
    header = io.BytesIO(array.data[: 2 * _MAX_HEADER_BYTES])
    version = np.lib.format.read_magic(header)
    if version != _NPY_VERSION:
        raise RejectedUpdateError(f"an array has a header of version {version}, expected {_NPY_VERSION}")
    shape, is_by_column, dtype = np.lib.format.read_array_header_1_0(header, max_header_size=_MAX_HEADER_BYTES)
    return shape, is_by_column, dtype, header.tell()


def _own_forms(arrays: Sequence[Array]) -> list[ArrayForm]:
    """What arrays say of themselves, if that is few of plain numbers; their length is compared with it afterwards."""
    if len(arrays) > _MAX_ARRAYS:
        raise RejectedUpdateError(f"sent {len(arrays)} arrays, expected {_MAX_ARRAYS} at most", Rejection.MISMATCH)
    forms = []
    for index, array in enumerate(arrays):
        shape, _, dtype, _ = _header(array)
        if dtype.kind not in "iuf" or min(shape, default=0) < 0:
            raise RejectedUpdateError(f"array {index} has shape {shape} and dtype {dtype}", Rejection.MISMATCH)
        forms.append(ArrayForm(f"array {index}", shape, dtype))
    return forms


def _require_same(form: ArrayForm, shape: tuple[int, ...], dtype: str) -> None:
    if not form.allows(shape):
        most = "at most " if form.may_be_shorter else ""
        raise RejectedUpdateError(f"{form.name} has shape {shape}, expected {most}{form.shape}", Rejection.MISMATCH)
    if dtype != str(form.dtype):
        raise RejectedUpdateError(f"{form.name} has dtype {dtype}, expected {form.dtype}", Rejection.MISMATCH)


def _values(array: Array, dtype: np.dtype[Any], place: _Place) -> npt.NDArray[Any]:
    """The bytes, seen as what they were found to be."""
    values = np.frombuffer(array.data, dtype, count=math.prod(place.shape), offset=place.offset)
    return values.reshape(place.shape, order="F" if place.is_by_column else "C")


def _number_of_frames(value: object) -> int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= MAX_FRAMES or value != int(value):  # type: ignore[operator,call-overload]
        raise RejectedUpdateError(f"reports {value} training frames, wanted a whole number up to {MAX_FRAMES}")
    return int(value)  # type: ignore[call-overload,no-any-return]


def _scalars(record: Mapping[str, object], names: Collection[str]) -> dict[str, float]:
    """The numbers of these names."""
    if len(record) > len(names) + _MAX_UNKNOWN_SCALARS or any(len(name) > _MAX_NAME_CHARACTERS for name in record):
        raise RejectedUpdateError(
            f"sent {len(record)} numbers, or names too long; wanted {len(names)} of at most {_MAX_NAME_CHARACTERS} "
            "characters"
        )
    scalars = {}
    for name in sorted(record.keys() & set(names)):
        value = record[name]
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        if value != value or value in (math.inf, -math.inf):
            raise RejectedUpdateError(f"metric {name} is {value}, wanted a finite number", Rejection.NOT_FINITE)
        scalars[name] = float(max(-largest(name), min(value, largest(name))))
    return scalars


def failure_reason(error: Error) -> str:
    """What went wrong at a client, as one short line without Flower's wrapping of the exception."""
    text = str(error.reason or f"failed with code {error.code} and no reason")[: 10 * _MAX_REASON_CHARACTERS]
    wrapped = re.fullmatch(r"<class '[^']*'>:<'(.*)'>", text.strip(), flags=re.DOTALL)
    text = wrapped.group(1) if wrapped else text
    return printable(text.split("Exception ClientAppException occurred. Message: ")[-1])


def printable(text: str) -> str:
    """Text from elsewhere as one short line that may be shown on a terminal.

    Control characters, among them those that begin a terminal's commands, and characters that turn the direction of
    writing or cannot be seen become spaces.
    """
    text = text[: 10 * _MAX_REASON_CHARACTERS]
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= _MAX_REASON_CHARACTERS else line[:_MAX_REASON_CHARACTERS] + " ..."


def _kind_of_failure(error: Error) -> Rejection:
    if error.code == UNREADABLE_REPLY:
        return Rejection.UNREADABLE
    if error.code not in SITES_OWN_ERRORS:
        return Rejection.LOST
    is_not_finite = NonFiniteLossError.__name__ in str(error.reason)
    return Rejection.LOSS_NOT_FINITE if is_not_finite else Rejection.FAILED


def size_in_bytes(record: ArrayRecord) -> int:
    """Bytes of a record's arrays as Flower sends them."""
    return sum(len(array.data) for array in record.values())


def _without_marker(record: ArrayRecord) -> list[Array]:
    """The arrays of a record; Flower marks an empty one with a key of its own."""
    return [array for key, array in record.items() if key != "_empty"]
