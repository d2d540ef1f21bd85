"""The updates of one round: kept on disk, and seen as steps away from the networks that the sites started from."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[np.float32]]
Rule = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]

_MOST_VALUES = 2**18
"""Of one client in a piece that is in memory at a time."""
_PIECE_VALUES = 2**24
"""Of all clients together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One site's update, seen as a step away from the global networks of the round."""

    norm: float
    """Euclidean length over all travelling tensors."""
    cosine_to_mean: float
    """Cosine of the angle to the step that the round took, -1 to 1; 0 if one of the two is no step at all."""


class UpdateStore:
    """Keeps the updates on disk until the round is aggregated, so that memory does not grow with the sites.

    They lie in one file without a name: whoever else sees the folder does not find them there, and they go with this
    process however it ends. It holds bare values, update after update and tensor after tensor, of which a piece of all
    clients' is read at a time. A context manager: the updates are gone when the block is left.
    """

    def __init__(self, current: Arrays, folder: Path) -> None:
        """Begin a round.

        Args:
            current: the global tensors that the sites started from.
            folder: on whose disk the updates are to lie; it exists.
        """
        self._current = current
        ends = np.cumsum([0, *(array.nbytes for array in current.values())]).tolist()
        self._offsets = dict(zip(current, ends[:-1], strict=True))
        self._num_bytes = ends[-1]
        self._starts: dict[int, int] = {}
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed on exit

    def __enter__(self) -> UpdateStore:
        """Nothing more: the file is there."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the disk its room back."""
        self._file.close()

    def add(self, client: int, tensors: Arrays) -> None:
        """Keep one validated update: names and shapes of the global tensors."""
        self._file.seek(self._starts.setdefault(client, len(self._starts) * self._num_bytes))
        for name in self._current:
            self._file.write(np.ascontiguousarray(tensors[name], np.float32).data)
        self._file.flush()

    def tensor(self, client: int, name: str) -> npt.NDArray[np.float32]:
        """One tensor of one update; it is read, so that none of the file stays mapped in memory."""
        current = self._current[name]
        return self._values(client, name, 0, current.size).reshape(current.shape)

    def products(self, clients: Sequence[int], names: Sequence[str]) -> npt.NDArray[np.float64]:
        """[n, n] inner products of the clients' steps, in float64.

        Args:
            clients: in the order of the result.
            names: of the tensors that count.
        """
        total_nn = np.zeros((len(clients), len(clients)))
        for name in names:
            current_D = self._current[name].reshape(-1)
            for where, values_nd in self._pieces(clients, name):
                steps_nd = (values_nd - current_D[where]).astype(np.float64)
                total_nn += steps_nd @ steps_nd.T
        return total_nn

    def combined(self, clients: Sequence[int], name: str, rule: Rule) -> npt.NDArray[np.float32]:
        """One tensor that a rule makes of the clients', coordinate by coordinate.

        Args:
            clients: whose updates count.
            name: of the tensor.
            rule: [n, d] to [d].
        """
        current = self._current[name]
        result_D = np.empty(current.size, np.float32)
        for where, values_nd in self._pieces(clients, name):
            result_D[where] = rule(values_nd)
        return result_D.reshape(current.shape)

    def measure(self, new: Arrays, clients: Sequence[int]) -> dict[int, Step]:
        """Each client's step against the one that leads from the old global tensors to `new`.

        One tensor of one client is in memory at a time.
        """
        steps = {}
        new_square = sum(_dot(new[n] - self._current[n], new[n] - self._current[n]) for n in self._current)
        for client in clients:
            square = product = 0.0
            for name, current in self._current.items():
                step = self.tensor(client, name) - current
                square += _dot(step, step)
                product += _dot(step, new[name] - current)
            lengths = math.sqrt(square) * math.sqrt(new_square)
            steps[client] = Step(norm=math.sqrt(square), cosine_to_mean=product / lengths if lengths else 0.0)
        return steps

    def _pieces(self, clients: Sequence[int], name: str) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        """Where a piece of a flat tensor lies, and [n, d] of all clients: the more there are, the smaller is d."""
        size = self._current[name].size
        step = max(1, min(_MOST_VALUES, _PIECE_VALUES // len(clients)))
        for start in range(0, size, step):
            count = min(step, size - start)
            piece = [self._values(client, name, start, count) for client in clients]
            yield slice(start, start + count), np.stack(piece)

    def _values(self, client: int, name: str, start: int, count: int) -> npt.NDArray[np.float32]:
        """[count] values of one flat tensor of one update."""
        self._file.seek(self._starts[client] + self._offsets[name] + start * np.dtype(np.float32).itemsize)
        return np.fromfile(self._file, np.float32, count)


def fingerprint_of(tensors: Arrays) -> str:
    """First 16 hexadecimal digits of the SHA-256 of all values, in the order of the tensors."""
    digest = hashlib.sha256()
    for array in tensors.values():
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def _dot(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """Inner product with a float64 sum."""
    return float(np.sum(np.multiply(a, b, dtype=np.float64)))
