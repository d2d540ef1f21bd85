"""The server's side of a secure sum: it passes keys and sealed shares on, adds masked vectors, and unmasks their sum.

The other side, the source and the letters of shapes are in federation/secure_sum/masking.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from federation.secure_sum.masking import mask_purpose, seed_purpose, threshold_of
from federation.secure_sum.primitives import (
    KEY_BYTES,
    SEALED_BYTES,
    SHARE_BYTES,
    SecureSumError,
    Vector,
    add_mask,
    agreed_key,
    commitment,
    derived_key,
    is_usable,
    join_secret,
    public_key,
)
from federation.secure_sum.signatures import SIGNATURE_BYTES, Bytes


class WrongSharesError(SecureSumError):
    """A site dealt shares that are none of its secret: by whose fault the sum stays masked."""

    def __init__(self, site: int) -> None:
        super().__init__(f"site {site}: dealt shares that do not give its secret")
        self.site = site


class ServerSum:
    """What the server holds of one sum. `take_...` refuses what has the wrong form; the site counts as dropped then."""

    def __init__(self, session: str, zero: Vector) -> None:
        """Nothing has arrived.

        Args:
            session: names this sum; random, so that no two have the same.
            zero: a vector of the form that all vectors have.
        """
        self.session = session
        self._keys: dict[int, Bytes] = {}
        self._signatures: dict[int, Bytes] = {}
        self._commitments: dict[int, bytes] = {}
        self._sealed: dict[int, Bytes] = {}
        self._sum = [np.zeros_like(part) for part in zero]
        self._survivors: list[int] = []
        self._unopened: dict[int, set[int]] = {}
        self._agreed: dict[int, Bytes] = {}
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
    def signers(self) -> list[int]:
        """Survivors that signed the list of them, ascending."""
        return sorted(self._agreed)

    @property
    def threshold(self) -> int:
        """Sites whose shares unmask the sum."""
        return threshold_of(len(self._keys))

    def keys_S2B(self) -> Bytes:
        """[S, 2, 32] of the advertisers."""
        return np.stack([self._keys[site] for site in self.advertisers])

    def signatures_SB(self) -> Bytes:
        """[S, 96] of the advertisers."""
        return np.stack([self._signatures[site] for site in self.advertisers])

    def agreed_SB(self) -> Bytes:
        """[signers, 96] signatures of the list of survivors."""
        return np.stack([self._agreed[site] for site in self.signers])

    def sealed_for(self, site: int) -> Bytes:
        """[S, 160] of the sharers: what each sealed for this site."""
        column = self.advertisers.index(site)
        return np.stack([self._sealed[sharer][column] for sharer in self.sharers])

    def unopened_by(self) -> dict[int, list[int]]:
        """Sharers of which too few survivors could open their shares, to the survivors that could not."""
        named = {sharer: [site for site in self.survivors if sharer in self._unopened[site]] for sharer in self.sharers}
        return {sharer: by for sharer, by in named.items() if len(self._survivors) - len(by) < self.threshold}

    def take_keys(self, site: int, keys_2B: Bytes, signature_B: Bytes) -> None:
        """[2, 32] public keys of a site and its [96] signature of them, which sites alone can check."""
        _require_form(site, keys_2B, (2, KEY_BYTES), np.uint8, "public keys")
        _require_form(site, signature_B, (SIGNATURE_BYTES,), np.uint8, "signature")
        taken = {key.tobytes() for keys in self._keys.values() for key in keys}
        own = {key.tobytes() for key in keys_2B}
        if len(own) < 2 or own & taken or not all(is_usable(key) for key in own):
            raise SecureSumError(f"site {site}: public keys that are there twice, or with which every secret is zero")
        self._keys[site] = keys_2B
        self._signatures[site] = signature_B

    def take_shares(self, site: int, sealed_SB: Bytes, seed_commitment: Bytes) -> None:
        """[S, 160] shares that an advertiser sealed for all of them, and the [32] commitment to its seed."""
        _require_form(site, sealed_SB, (len(self._keys), SEALED_BYTES), np.uint8, "sealed shares")
        _require_form(site, seed_commitment, (KEY_BYTES,), np.uint8, "commitment")
        self._sealed[site] = sealed_SB
        self._commitments[site] = seed_commitment.tobytes()

    def take_masked(self, site: int, *parts_and_unopened: npt.NDArray[Any]) -> None:
        """Masked vector of a sharer, which is added and not kept; and the sharers whose shares it cannot open."""
        *masked, unopened = parts_and_unopened
        for part, whole in zip(masked, self._sum, strict=True):
            _require_form(site, part, whole.shape, whole.dtype, "masked update")
        _require_form(site, unopened, (min(np.size(unopened), len(self._sealed)),), np.int64, "unopened shares")
        for part, whole in zip(masked, self._sum, strict=True):
            whole += part
        self._survivors.append(site)
        self._unopened[site] = {int(other) for other in unopened}

    def take_agreed(self, site: int, signature_B: Bytes) -> None:
        """[96] signature by a survivor of the list of survivors."""
        _require_form(site, signature_B, (SIGNATURE_BYTES,), np.uint8, "signature")
        self._agreed[site] = signature_B

    def take_revealed(self, site: int, shares_SB: Bytes) -> None:
        """[S, 66] shares that a survivor holds of the sharers: of the seeds of survivors, of the keys of the others."""
        _require_form(site, shares_SB, (len(self._sealed), SHARE_BYTES), np.uint8, "revealed shares")
        self._revealed[site] = shares_SB

    def unmask(self) -> Vector:
        """The sum of the survivors' vectors; afterwards this object is used up.

        One site that reveals wrong shares does no harm where one more site than the threshold revealed.

        Raises:
            WrongSharesError: if a site's shares do not give its secret, whichever of the holders is not believed.
            SecureSumError: if fewer sites than the threshold revealed their shares, or one of just so many a wrong one.
        """
        for site in self.sharers:
            public = self._keys[site][1].tobytes()
            if site in self._survivors:
                seed = self._joined(site, functools.partial(_is_committed, self._commitments[site]))
                add_mask(self._sum, derived_key(seed, seed_purpose(self.session, site)), is_subtracted=True)
                continue
            secret = self._joined(site, functools.partial(_belongs_to, public))
            for other in self.survivors:  # each has added its mask with the site that dropped
                key = agreed_key(secret, self._keys[other][1].tobytes(), mask_purpose(self.session, site, other))
                add_mask(self._sum, key, is_subtracted=site > other)
        return self._sum

    def _joined(self, site: int, is_meant: Callable[[bytes], bool]) -> bytes:
        """The site's secret from the first shares that give it; none is left out, then each in turn."""
        row = self.sharers.index(site)
        holders = [holder for holder in sorted(self._revealed) if site not in self._unopened[holder]]
        if len(holders) < self.threshold:
            raise SecureSumError(
                f"{len(holders)} of {len(self._keys)} sites revealed their shares of site {site}, the threshold is "
                f"{self.threshold}; the sum stays masked"
            )
        shares = {holder: self._revealed[holder][row].tobytes() for holder in holders}
        for chosen in _subsets(holders, self.threshold):
            secret = _secret_or_none({holder: shares[holder] for holder in chosen})
            if secret is not None and is_meant(secret):
                return secret
        if len(holders) > self.threshold:
            raise WrongSharesError(site)
        raise SecureSumError(
            f"the shares that sites {holders} hold of site {site} do not give its secret: one of them was changed"
        )


def _is_committed(committed: bytes, secret: bytes) -> bool:
    return commitment(secret) == committed


def _belongs_to(public: bytes, secret: bytes) -> bool:
    return public_key(secret) == public


def _subsets(holders: list[int], threshold: int) -> Iterator[list[int]]:
    """The first `threshold` holders, and those without each of them."""
    yield holders[:threshold]
    if len(holders) > threshold:
        yield from ([h for h in holders[: threshold + 1] if h != left_out] for left_out in holders[:threshold])


def _secret_or_none(shares: Mapping[int, bytes]) -> bytes | None:
    try:
        return join_secret(shares)
    except SecureSumError:
        return None


def _require_form(site: int, got: np.ndarray, shape: tuple[int, ...], dtype: npt.DTypeLike, what: str) -> None:
    if not isinstance(got, np.ndarray):
        raise SecureSumError(f"site {site}: {what} that are no array")
    if got.shape != shape or got.dtype != dtype:
        raise SecureSumError(
            f"site {site}: {what} of shape {got.shape} and type {got.dtype}, wanted {shape} of {np.dtype(dtype)}"
        )
