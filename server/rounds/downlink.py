"""What the sites are sent in a round: whole weights, or the step from those of the round before, which they have."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord

from federation.codec import codec_of, digest_of, moved
from federation.packing import pack, unpack
from federation.settings import Settings
from model.designs.registry import design_of
from model.networks.bundle import NamedArrays
from model.setting import Scalar


class Downlink:
    """The way of the global weights from the server to its sites.

    With an `update-codec` the result of a round is rounded to what its step's code says, before anything is recorded:
    server, checkpoint and sites hold the same bits. The step goes to sites whose update counted in the round before,
    which therefore have its weights; every other one, and every one after the server was started anew or a round is
    asked for again, gets whole weights.
    """

    def __init__(self, settings: Settings, tensors: NamedArrays) -> None:
        """Begin with whole weights.

        Args:
            settings: of the run.
            tensors: of the right names and shapes.
        """
        self._shapes = {name: array.shape for name, array in tensors.items()}
        self._codec = codec_of(settings.rounds.update_codec, self._shapes)
        self._untrained = design_of(settings.model.network).untrained
        self._step = ArrayRecord()
        self._step_round = 0
        self._holders: frozenset[int] = frozenset()

    def records(self, round_number: int, weights: ArrayRecord, sites: Iterable[int]) -> dict[int, ArrayRecord]:
        """Partition id to what the site is sent.

        Args:
            round_number: that begins.
            weights: whole ones.
            sites: that are asked.
        """
        holders = self._holders if self._step_round == round_number - 1 else frozenset()
        self._holders = frozenset()  # a site that is asked forgets the weights of the round before
        return {site: self._step if site in holders else weights for site in sites}

    def scalars(self, tensors: NamedArrays) -> dict[str, Scalar]:
        """By what a site knows, in a message with a step, that it has the global weights."""
        return {"weights-sha256": digest_of(pack(tensors))} if self._codec else {}

    def settled(
        self, round_number: int, before: NamedArrays, after: NamedArrays, sites: Collection[int]
    ) -> dict[str, npt.NDArray[np.float32]]:
        """The weights that a round gives, as every party will have them.

        Args:
            round_number: that ends.
            before: with which it began.
            after: aggregated.
            sites: whose updates counted.
        """
        if self._codec is None:
            return dict(after)
        still = {name: before[name] for name in self._untrained if name in before}
        start_L = pack(before)
        code = self._codec.encode(pack({**after, **still}) - start_L)
        self._step, self._step_round = ArrayRecord({"step": Array(code)}), round_number
        self._holders = frozenset(sites)
        return unpack(moved(start_L, self._codec.decode(code)), self._shapes)
