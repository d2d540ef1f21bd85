"""The server's side of a secure sum: it passes keys and sealed shares on, adds masked vectors, and unmasks their sum.

The other side, the source and the letters of shapes are in model/secure_sum.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from model.secure_primitives import (
    KEY_BYTES,
    SEALED_BYTES,
    SHARE_BYTES,
    SecureSumError,
    add_mask,
    agreed_key,
    commitment,
    derived_key,
    join_secret,
    public_key,
)
from model.secure_sum import Bytes, Vector, mask_purpose, seed_purpose, threshold_of


class ServerSum:
    """What the server holds of one sum. `take_...` refuses what has the wrong form; the site counts as dropped then."""

    def __init__(self, session: str, length: int) -> None:
        """Nothing has arrived.

        Args:
            session: names this sum; random, so that no two have the same.
            length: L, values of a vector.
        """
        self.session = session
        self._keys: dict[int, Bytes] = {}
        self._commitments: dict[int, bytes] = {}
        self._sealed: dict[int, Bytes] = {}
        self._sum_L = np.zeros(length, np.uint64)
        self._survivors: list[int] = []
        self._revealed: dict[int, Bytes] = {}

    @property
    def advertisers(self) -> list[int]:
        """Sites whose keys arrived, ascending."""
        return sorted(self._keys)

    @property
    def sharers(self) -> list[int]:
        """Sites whose sealed shares arrived, ascending."""
        return sorted(self._sealed)

    @property
    def survivors(self) -> list[int]:
        """Sites whose masked vectors arrived, ascending."""
        return sorted(self._survivors)

    @property
    def threshold(self) -> int:
        """Sites whose shares unmask the sum."""
        return threshold_of(len(self._keys))

    def keys_S2B(self) -> Bytes:
        """[S, 2, 32] of the advertisers."""
        return np.stack([self._keys[site] for site in self.advertisers])

    def sealed_for(self, site: int) -> Bytes:
        """[S, 160] of the sharers: what each sealed for this site."""
        column = self.advertisers.index(site)
        return np.stack([self._sealed[sharer][column] for sharer in self.sharers])

    def take_keys(self, site: int, keys_2B: Bytes) -> None:
        """[2, 32] public keys of a site."""
        _require_form(site, keys_2B, (2, KEY_BYTES), np.uint8, "public keys")
        self._keys[site] = keys_2B

    def take_shares(self, site: int, sealed_SB: Bytes, seed_commitment: Bytes) -> None:
        """[S, 160] shares that an advertiser sealed for all of them, and the [32] commitment to its seed."""
        _require_form(site, sealed_SB, (len(self._keys), SEALED_BYTES), np.uint8, "sealed shares")
        _require_form(site, seed_commitment, (KEY_BYTES,), np.uint8, "commitment")
        self._sealed[site] = sealed_SB
        self._commitments[site] = seed_commitment.tobytes()

    def take_masked(self, site: int, masked_L: Vector) -> None:
        """[L] masked vector of a sharer; it is added, not kept."""
        _require_form(site, masked_L, self._sum_L.shape, np.uint64, "masked update")
        self._sum_L += masked_L
        self._survivors.append(site)

    def take_revealed(self, site: int, shares_SB: Bytes) -> None:
        """[S, 66] shares that a survivor holds of the sharers: of the seeds of survivors, of the keys of the others."""
        _require_form(site, shares_SB, (len(self._sealed), SHARE_BYTES), np.uint8, "revealed shares")
        self._revealed[site] = shares_SB

    def unmask(self) -> Vector:
        """[L] the sum of the survivors' vectors modulo 2^64; afterwards this object is used up.

        Raises:
            SecureSumError: if fewer sites than the threshold revealed their shares, or a share was changed.
        """
        if len(self._revealed) < self.threshold:
            raise SecureSumError(
                f"{len(self._revealed)} of {len(self._keys)} sites revealed their shares, the threshold is "
                f"{self.threshold}; the sum stays masked"
            )
        for site in self.sharers:
            secret = self._joined(site)
            if site in self._survivors:
                self._require_meant(site, commitment(secret) == self._commitments[site])
                add_mask(self._sum_L, derived_key(secret, seed_purpose(self.session, site)), is_subtracted=True)
                continue
            self._require_meant(site, public_key(secret) == self._keys[site][1].tobytes())
            for other in self.survivors:  # each has added its mask with the site that dropped
                key = agreed_key(secret, self._keys[other][1].tobytes(), mask_purpose(self.session, site, other))
                add_mask(self._sum_L, key, is_subtracted=site > other)
        return self._sum_L

    def _joined(self, site: int) -> bytes:
        row = self.sharers.index(site)
        holders = sorted(self._revealed)[: self.threshold]
        shares: Mapping[int, bytes] = {holder: self._revealed[holder][row].tobytes() for holder in holders}
        return join_secret(shares)

    def _require_meant(self, site: int, is_meant: bool) -> None:
        if not is_meant:
            holders = sorted(self._revealed)[: self.threshold]
            raise SecureSumError(
                f"the shares that sites {holders} hold of site {site} do not give its secret: one of them was changed"
            )


def _require_form(site: int, got: np.ndarray, shape: tuple[int, ...], dtype: type, what: str) -> None:
    if got.shape != shape or got.dtype != dtype:
        raise SecureSumError(
            f"site {site}: {what} of shape {got.shape} and type {got.dtype}, wanted {shape} of {np.dtype(dtype)}"
        )
