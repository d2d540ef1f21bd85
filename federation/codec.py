"""A step between two sets of weights in fewer bytes: every value is rounded, and the whole deflated.

Weights cannot be rounded without losing what a round adds to them, which is a small part of their size. Their step can,
since whoever gets it has the weights at which it begins: a site those of the round before, the server those it sent.
What both compute from it, `moved`, is the model from then on, so that nobody's weights differ by a bit.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from federation.packing import Shapes, Vector
from model.errors import TensorMismatchError

Code = npt.NDArray[np.uint8]

BLOCK_VALUES = 2048
"""Values of one tensor that share a scale in int8: the error is 0.4 of that of one scale a tensor."""
_LARGEST = 127


class Codec(ABC):
    """How the steps of one network are written."""

    rounded: str
    """NumPy's name of the type that a rounded value fits in."""

    def __init__(self, sizes: Sequence[int]) -> None:
        """For vectors of tensors.

        Args:
            sizes: values of each tensor, in the order in which they stand in the vector.
        """
        self.num_values = sum(sizes)
        """L."""

    @property
    def max_bytes(self) -> int:
        """Of the longest code that there is; most are half as long or less."""
        return self.num_bytes + self.num_bytes // 1000 + 64

    @property
    def num_scales(self) -> int:
        """float32 numbers in a code besides the rounded values."""
        return 0

    @property
    def num_bytes(self) -> int:
        """Of every code before it is deflated."""
        return 4 * self.num_scales + self.num_values * np.dtype(self.rounded).itemsize

    def encode(self, step_L: Vector) -> Code:
        """The code of a finite step: [n] uint8, n at most `max_bytes`."""
        deflater = zlib.compressobj(level=1, strategy=zlib.Z_RLE)  # values repeat where they are 0, and nowhere else
        return np.frombuffer(deflater.compress(self._to_bytes(step_L)) + deflater.flush(), np.uint8)

    def decode(self, code: Code) -> Vector:
        """[L] float32, of any values, from a code; no more memory is taken than the code of a step needs.

        Raises:
            TensorMismatchError: if this is no code of such a step.
        """
        inflater = zlib.decompressobj()
        try:
            data = inflater.decompress(code.data, self.num_bytes + 1)
        except zlib.error as error:
            raise TensorMismatchError(f"the code of a step cannot be inflated ({error})") from error
        if len(data) != self.num_bytes or not inflater.eof or inflater.unused_data:
            raise TensorMismatchError(
                f"the code of a step is not one of {self.num_bytes} bytes; do both run the same version and preset?"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            return self._from_bytes(data)

    @abstractmethod
    def _to_bytes(self, step_L: Vector) -> bytes:
        """The rounded step, `num_bytes` long."""

    @abstractmethod
    def _from_bytes(self, data: bytes) -> Vector:
        """What `_to_bytes` gave, as [L] float32."""


class BFloat16(Codec):
    """Every value to 8 significant bits; the upper bytes of all values, which are much alike, before the lower ones."""

    rounded = "uint16"

    def _to_bytes(self, step_L: Vector) -> bytes:
        low_and_high = torch.from_numpy(step_L).to(torch.bfloat16).view(torch.uint8).numpy().reshape(-1, 2)
        return low_and_high[:, ::-1].T.tobytes()

    def _from_bytes(self, data: bytes) -> Vector:
        low_and_high = np.frombuffer(data, np.uint8).reshape(2, -1).T[:, ::-1].copy()
        values: Vector = torch.from_numpy(low_and_high).view(torch.bfloat16).float().reshape(-1).numpy()
        return values


class Int8(Codec):
    """Every value to a whole number of up to 127 times its block's scale; a block is `BLOCK_VALUES` of one tensor."""

    rounded = "int8"

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(sizes)
        ends = np.cumsum([0, *sizes]).tolist()
        starts = [i for begin, end in itertools.pairwise(ends) for i in range(begin, end, BLOCK_VALUES)]
        self._starts_B = np.array(starts, np.int64)
        self._lengths_B = np.diff([*starts, self.num_values])

    @property
    def num_scales(self) -> int:
        """B, of blocks."""
        return len(self._starts_B)

    def _to_bytes(self, step_L: Vector) -> bytes:
        scale_B = np.maximum.reduceat(np.abs(step_L), self._starts_B) / np.float32(_LARGEST)
        divisor_L = np.repeat(np.where(scale_B > 0, scale_B, np.float32(1)), self._lengths_B)
        rounded_L = np.clip(np.rint(step_L / divisor_L), -_LARGEST, _LARGEST).astype(np.int8)
        return b"".join((scale_B.tobytes(), rounded_L.tobytes()))

    def _from_bytes(self, data: bytes) -> Vector:
        scale_B = np.frombuffer(data, np.float32, self.num_scales)
        rounded_L = np.frombuffer(data, np.int8, offset=scale_B.nbytes)
        return np.repeat(scale_B, self._lengths_B) * rounded_L


_CODECS: dict[str, type[Codec]] = {"bfloat16": BFloat16, "int8": Int8}


def codec_of(name: str, shapes: Shapes) -> Codec | None:
    """The codec of a run, or None where whole weights travel as they are.

    Args:
        name: the setting `update-codec`.
        shapes: of the tensors, in their order.
    """
    return _CODECS[name]([math.prod(shape) for shape in shapes.values()]) if name in _CODECS else None


def digest_of(weights_L: Vector) -> str:
    """SHA-256 of the bits of weights, hexadecimal: by it a site knows that its weights are the server's."""
    return hashlib.sha256(weights_L.tobytes()).hexdigest()


def moved(weights_L: Vector, step_L: Vector) -> Vector:
    """Weights + step, of any values; where the step is zero the very bits of the weight, the sign of a zero too."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.add(weights_L, step_L, out=weights_L.copy(), where=step_L != 0)
