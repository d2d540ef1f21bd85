"""A site's end of a run whose weights travel as rounded steps (`federation.codec`). Knows no Flower."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from client.consent.known_weights import KnownWeights
from federation.codec import Code, Codec, digest_of, moved
from federation.packing import Shapes, Vector, pack, unpack
from model.errors import NonFiniteLossError, TensorMismatchError, UnknownWeightsError
from model.networks.bundle import NamedArrays
from model.run_files import RoundFiles

_log = logging.getLogger(__name__)

_ERROR = "error"


class CodedWeights:
    """What a site gets and sends in one round, for the length of one message."""

    def __init__(
        self, codec: Codec, shapes: Shapes, round_number: int, *, known: KnownWeights, errors: RoundFiles
    ) -> None:
        """Nothing is read yet.

        Args:
            codec: of the run.
            shapes: of the tensors, in their order.
            round_number: from 1.
            known: the weights from which the site trained last.
            errors: what rounding took from its updates, and was not sent yet.
        """
        self._codec = codec
        self._shapes = shapes
        self._round_number = round_number
        self._known = known
        self._errors = errors

    def received(self, array: npt.NDArray[Any], digest: str) -> NamedArrays:
        """The weights with which the round starts, the server's to the bit.

        Args:
            array: [L] float32, whole weights; or [n] uint8, the step from those of the round before.
            digest: of the weights at the server, as `digest_of` gives it.

        Raises:
            UnknownWeightsError: for a step, if the site does not have the weights at which it begins.
            TensorMismatchError: if this is neither.
        """
        return unpack(self._whole(array, digest), self._shapes)

    def sent(self, start: NamedArrays, trained: NamedArrays) -> Code:
        """[n] uint8, the code of the site's step and of what rounding took from the step of the round before.

        What rounding takes now is on disk when this returns, for the next round (Seide et al. 2014, 1-Bit Stochastic
        Gradient Descent; Karimireddy et al. 2019, Error Feedback Fixes SignSGD).

        Raises:
            NonFiniteLossError: if the step is not finite.
        """
        step_L = pack(trained) - pack(start) + self._error_before()
        if not np.isfinite(step_L).all():
            raise NonFiniteLossError(f"round {self._round_number}: the update has values that are not finite")
        code = self._codec.encode(step_L)
        self._errors.save(self._round_number, {_ERROR: torch.from_numpy(step_L - self._codec.decode(code))})
        return code

    def _whole(self, array: npt.NDArray[Any], digest: str) -> Vector:
        if array.dtype == np.float32:
            return array
        if array.dtype != np.uint8 or array.ndim != 1:
            raise TensorMismatchError(
                f"got weights of shape {array.shape} and dtype {array.dtype}, expected [{self._codec.num_values}] "
                "float32, or a step as [n] uint8; do both run the same version?"
            )
        last_round, weights = self._known.last(self._shapes) or (0, {})
        if last_round == self._round_number - 1 and weights:
            weights_L = moved(pack(weights), self._codec.decode(array))
            if digest_of(weights_L) == digest:
                return weights_L
        raise UnknownWeightsError(
            f"round {self._round_number}: got the step from the weights of round {self._round_number - 1}, which this "
            "site does not have, or not as the server; the server sends whole weights when it asks again"
        )

    def _error_before(self) -> Vector:
        """[L] of the round before; zero where it is not known, as in round 1."""
        try:
            tensor = self._errors.load(self._round_number - 1)[_ERROR]
        except LookupError as error:
            if self._round_number > 1:
                _log.warning("round %d: what rounding took is lost: %s", self._round_number, error)
            return np.zeros(self._codec.num_values, np.float32)
        values_L: Vector = tensor.numpy()
        return values_L
