"""A site's answers in the five phases of a secure sum. Knows no Flower.

Every message of Flower starts a new process, so what a site must remember between phases is in one file of its state
folder, one for each run, that its user alone may read. It is written anew when a sum begins, and removed before the
shares that unmask the sum are given out.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client.consent.egress import training_scalars
from client.secure_sum.unmasking_record import UnmaskingRecord
from federation.local_training import LocalResult
from federation.secure_sum.masking import Phase, RefusedKeysError, SiteSum
from federation.secure_sum.primitives import SecureSumError, Vector
from federation.secure_sum.session import Kind, SumName, content_digest, start_digest
from federation.secure_sum.signatures import Signatures
from federation.secure_sum.statistics import pack_statistics
from federation.secure_sum.vector import SumLayout
from federation.settings import Settings
from model.designs.registry import IDENTITY_ROWS
from model.errors import TensorMismatchError
from model.files import write_text
from model.landmarks.geometry import PartSizes
from model.networks.bundle import NamedArrays
from model.setting import Scalar

_log = logging.getLogger(__name__)

Arrays = list[npt.NDArray[Any]]
Answer = tuple[Arrays, int, dict[str, Scalar]]

_LONGEST_SUM_S = 7 * 24 * 3600.0
"""Age at which the file of another run is taken for left behind."""


def state_name(run_id: str) -> str:
    """Name of a run's file in the state folder."""
    return f"secure-sum-{hashlib.sha256(run_id.encode()).hexdigest()[:16]}.json"


class SecureUpdate:
    """One site in one sum, for the length of one message."""

    def __init__(
        self,
        state_dir: Path,
        site: int,
        settings: Settings,
        signatures: Signatures,
        config: Mapping[str, Scalar],
    ) -> None:
        """Nothing is read yet.

        Args:
            state_dir: the site's own folder.
            site: partition id.
            settings: of the run.
            signatures: the site's own key, and those of the others.
            config: of the message.

        Raises:
            SecureSumError: if the message does not name a sum.
        """
        self._name = SumName.from_flat(config)
        self._path = state_dir / state_name(self._name.run_id)
        self._record = UnmaskingRecord(state_dir, signatures)
        self._site = site
        self._settings = settings
        self._signatures = signatures

    def keys(self) -> Answer:
        """Phase 1: a sum begins, and what is left of another one of this run is forgotten."""
        self._remove_left_behind()
        begun = SiteSum.begin(self._site, str(self._name), self._settings.rounds.min_fit_clients)
        self._save(begun)
        return list(begun.advertise(self._signatures)), 0, {}

    def shares(self, arrays: Arrays) -> Answer:
        """Phase 2: the shares.

        [S] sites, [S, 2, 32] keys and [S, 96] signatures arrive; [S, 160] sealed shares and the [32] commitment leave,
        or the ids of those whose keys this site does not accept.
        """
        own = self._load()
        sites, keys_S2B, signatures_SB = _require_number(arrays, 3)
        self._record.check(self._site, self._name, own.start, _ids(sites), is_final=False)
        try:
            sealed_SB, commitment = own.share(_ids(sites), keys_S2B, signatures_SB, self._signatures)
        except RefusedKeysError as error:
            _log.warning("%s", error)
            return [np.array(error.refused, np.int64)], 0, {}
        self._save(own)
        return [sealed_SB, commitment], 0, {}

    def masked_update(
        self,
        arrays: Arrays,
        *,
        part_sizes: PartSizes,
        identity_counts_I: npt.NDArray[np.int64],
        received: Callable[[npt.NDArray[Any]], NamedArrays],
        train: Callable[[NamedArrays], LocalResult],
    ) -> Answer:
        """Phase 3 of a round: the training.

        The tensors as one vector, [S] sites and [S, 160] sealed shares arrive; the masked update leaves, and the ids of
        the sites whose shares could not be opened.

        Args:
            arrays: of the message.
            part_sizes: of the message.
            identity_counts_I: [I] the site's training frames of each identity.
            received: makes the tensors of the vector.
            train: trains from the tensors.

        Raises:
            SecureSumError: if the phase is out of order, or the tensors, settings or sizes are not those announced.
            UnknownWeightsError: as `CodedWeights.received`.
            TensorMismatchError, NonFiniteLossError: if the site's own update cannot be used.
        """
        weights, sites, sealed_SB = _require_number(arrays, 3)
        current = received(weights)
        own = self._load()
        self._require_digest(
            Kind.TRAIN,
            content_digest(
                Kind.TRAIN,
                self._settings,
                round_number=self._name.round_number,
                part_sizes=part_sizes,
                tensors=current,
            ),
        )
        own.start = start_digest(
            self._settings, round_number=self._name.round_number, part_sizes=part_sizes, tensors=current
        )
        self._record.check(self._site, self._name, own.start, _ids(sites), is_final=False)
        result = train(current)
        layout = SumLayout.of_run(current, self._settings)
        vector = layout.pack(
            result.tensors,
            weight=result.num_examples,
            # A lone frame of a clip is never drawn, and under noise the weight is 1.
            identity_weights_I=np.minimum(identity_counts_I, result.num_examples),
            losses=result.metrics,
        )
        self._log_limits(layout, result)
        told = training_scalars(self._settings)
        metrics: dict[str, Scalar] = {name: float(value) for name, value in result.metrics.items() if name in told}
        return self._mask(own, vector, sites, sealed_SB), 0, metrics

    def masked_statistics(self, arrays: Arrays, statistics_V: Callable[[], npt.NDArray[np.float64]]) -> Answer:
        """Phase 3 before round 1.

        [S] sites and [S, 160] sealed shares arrive; the [L] masked statistics leave, and the ids of the sites whose
        shares could not be opened.

        Args:
            arrays: of the message.
            statistics_V: [V] the site's, in the order of `secure_statistics.pack_statistics`.

        Raises:
            SecureSumError: if the phase is out of order, or the settings are not those announced.
        """
        sites, sealed_SB = _require_number(arrays, 2)
        own = self._load()
        self._require_digest(Kind.STATISTICS, content_digest(Kind.STATISTICS, self._settings))
        self._record.check(self._site, self._name, own.start, _ids(sites), is_final=False)
        return self._mask(own, [pack_statistics(statistics_V())], sites, sealed_SB), 0, {}

    def agreed(self, arrays: Arrays) -> Answer:
        """Phase 4: [S] survivors arrive; the [96] signature of their list leaves."""
        own = self._load()
        (survivors,) = _require_number(arrays, 1)
        self._record.check(self._site, self._name, own.start, _ids(survivors), is_final=True)
        signature = own.agree(_ids(survivors), self._signatures)
        self._save(own)
        return [signature], 0, {}

    def revealed(self, arrays: Arrays) -> Answer:
        """Phase 5: the unmasking.

        [signers] sites and their [signers, 96] signatures arrive; [S, 66] shares leave, after the site has written down
        whose sum it helps to unmask, and forgotten all shares.
        """
        own = self._load()
        signers, signatures_SB = _require_number(arrays, 2)
        shares_SB = own.reveal(_ids(signers), signatures_SB, self._signatures)
        self._record.add(self._site, self._name, own.start, own.survivors)
        self._path.unlink()
        return [shares_SB], 0, {}

    def _mask(self, own: SiteSum, vector: Vector, sites: npt.NDArray[Any], sealed_SB: npt.NDArray[Any]) -> Arrays:
        masked, unopened = own.mask(vector, _ids(sites), sealed_SB)
        if unopened:
            _log.warning("shares of sites %s cannot be opened: they were sealed wrongly or changed", unopened)
        self._save(own)
        return [*masked, np.array(unopened, np.int64)]

    def _require_digest(self, kind: Kind, digest: str) -> None:
        if self._name.kind is not kind or self._name.digest != digest:
            raise SecureSumError(
                f"site {self._site}: the model, settings, part sizes or round are not those that all sites were told "
                "of when the sum began; nothing is sent"
            )

    def _log_limits(self, layout: SumLayout, result: LocalResult) -> None:
        num_clipped = layout.num_clipped(result.tensors, result.metrics)
        if num_clipped:
            _log.warning(
                "%d values of the update or losses are beyond the range of a secure sum and were clipped", num_clipped
            )
        if any(name in result.tensors for name in IDENTITY_ROWS):
            _log.info("rows of the identity embeddings that no other site trains are not hidden by the sum")

    def _load(self) -> SiteSum:
        try:
            own = SiteSum.from_json(self._path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, KeyError) as error:
            raise SecureSumError(
                f"site {self._site}: no secure sum is under way ({type(error).__name__}); the round has to begin anew"
            ) from error
        if own.session != str(self._name):
            raise SecureSumError(f"site {self._site}: another secure sum is under way; the round has to begin anew")
        return own

    def _save(self, own: SiteSum) -> None:
        write_text(self._path, own.to_json(), is_private=True)

    def _remove_left_behind(self) -> None:
        """Files of runs that ended in the middle of a sum."""
        for path in self._path.parent.glob("secure-sum-*.json"):
            if path != self._path and path.stat().st_mtime < time.time() - _LONGEST_SUM_S:
                path.unlink(missing_ok=True)


def _require_number(arrays: Arrays, wanted: int) -> Arrays:
    if len(arrays) != wanted:
        raise TensorMismatchError(
            f"the server sent {len(arrays)} arrays, expected {wanted}; do both run the same version and preset?"
        )
    return arrays


def _ids(sites: npt.NDArray[Any]) -> list[int]:
    if sites.ndim != 1 or sites.dtype != np.int64:
        raise SecureSumError(f"got sites of shape {sites.shape} and type {sites.dtype}, wanted [S] int64")
    return [int(site) for site in sites]


def is_secure(phase: Scalar) -> bool:
    """Whether a phase is one of a secure sum."""
    return phase in {str(known) for known in Phase}
