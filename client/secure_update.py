"""A site's answers in the four phases of a secure round. Knows no Flower.

Every message of Flower starts a new process, so what a site must remember between phases is in one file of its state
folder that its user alone may read. It is written anew when a round begins, and removed before the shares that unmask
the round are given out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client.egress import training_scalars
from client.local_training import LocalResult
from model.config import Scalar, Settings
from model.networks import IDENTITY_ROWS
from model.secure_primitives import SecureSumError
from model.secure_sum import Phase, SiteSum
from model.secure_vector import SumLayout, losses_of

_log = logging.getLogger(__name__)

Arrays = list[npt.NDArray[Any]]
Answer = tuple[Arrays, int, dict[str, Scalar]]

STATE_NAME = "secure-sum.json"


class SecureUpdate:
    """One site in one round, for the length of one message."""

    def __init__(self, state_dir: Path, site: int, settings: Settings) -> None:
        """Nothing is read yet.

        Args:
            state_dir: the site's own folder.
            site: partition id.
            settings: of the run.
        """
        self._path = state_dir / STATE_NAME
        self._site = site
        self._settings = settings

    def keys(self, config: Mapping[str, Scalar]) -> Answer:
        """Phase 1: a sum begins, and what is left of another one is forgotten."""
        begun = SiteSum.begin(self._site, str(config["session"]), self._settings.federation.min_fit_clients)
        self._save(begun)
        return [begun.public_keys()], 0, {}

    def shares(self, arrays: Arrays, config: Mapping[str, Scalar]) -> Answer:
        """Phase 2: [S] sites and [S, 2, 32] keys arrive; [S, 160] sealed shares and the [32] commitment leave."""
        own = self._load(config)
        sites, keys_S2B = arrays
        sealed_SB, commitment = own.share(_ids(sites), keys_S2B)
        self._save(own)
        return [sealed_SB, commitment], 0, {}

    def masked(
        self,
        arrays: Arrays,
        config: Mapping[str, Scalar],
        *,
        identity_counts_I: npt.NDArray[np.int64],
        names: list[str],
        train: Callable[[Arrays], LocalResult],
    ) -> Answer:
        """Phase 3: the tensors, [S] sites and [S, 160] sealed shares arrive; the [L] masked update leaves.

        Args:
            arrays: of the message.
            config: of the message.
            identity_counts_I: [I] the site's training frames of each identity.
            names: of the tensors, in their order.
            train: trains from the tensors.

        Raises:
            SecureSumError: if the phase is out of order, or the shares were changed.
            TensorMismatchError, NonFiniteLossError: if the site's own update cannot be used.
        """
        own = self._load(config)
        *tensors, sites, sealed_SB = arrays
        result = train(tensors)
        current = dict(zip(names, tensors, strict=True))
        layout = SumLayout(current, self._settings.model.num_identities, losses_of(self._settings.loss))
        trained = dict(zip(names, result.arrays, strict=True))
        has_equal_weights = self._settings.federation.dp_noise_multiplier > 0
        vector_L = layout.pack(
            trained,
            weight=result.num_examples,
            identity_weights_I=np.minimum(identity_counts_I, 1) if has_equal_weights else identity_counts_I,
            losses=result.metrics,
        )
        self._log_limits(layout, trained)
        masked_L = own.mask(vector_L, _ids(sites), sealed_SB)
        self._save(own)
        told = training_scalars(self._settings)
        return [masked_L], 0, {name: float(value) for name, value in result.metrics.items() if name in told}

    def revealed(self, arrays: Arrays, config: Mapping[str, Scalar]) -> Answer:
        """Phase 4: [S] survivors arrive; [S, 66] shares leave, after the site has forgotten all of them."""
        own = self._load(config)
        shares_SB = own.reveal(_ids(arrays[0]))
        self._path.unlink()
        return [shares_SB], 0, {}

    def _log_limits(self, layout: SumLayout, trained: Mapping[str, npt.NDArray[np.float32]]) -> None:
        num_clipped = layout.num_clipped(trained)
        if num_clipped:
            _log.warning("%d values of the update are beyond the range of a secure sum and were clipped", num_clipped)
        if any(name in trained for name in IDENTITY_ROWS):
            _log.info("rows of the identity embeddings that no other site trains are not hidden by the sum")

    def _load(self, config: Mapping[str, Scalar]) -> SiteSum:
        try:
            own = SiteSum.from_json(self._path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, KeyError) as error:
            raise SecureSumError(
                f"site {self._site}: no secure sum is under way ({type(error).__name__}); the round has to begin anew"
            ) from error
        if own.session != config["session"]:
            raise SecureSumError(f"site {self._site}: another secure sum is under way; the round has to begin anew")
        return own

    def _save(self, own: SiteSum) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(own.to_json())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)


def _ids(sites: npt.NDArray[Any]) -> list[int]:
    if sites.ndim != 1 or sites.dtype != np.int64:
        raise SecureSumError(f"got sites of shape {sites.shape} and type {sites.dtype}, wanted [S] int64")
    return [int(site) for site in sites]


def is_secure(phase: Scalar) -> bool:
    """Whether a phase is one of a secure round."""
    return phase in {str(known) for known in Phase}
