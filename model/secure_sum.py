"""A site's side of a secure sum: the others, and the server, learn the sum of all vectors and no single one.

After Bonawitz et al. 2017, Practical Secure Aggregation for Privacy-Preserving Machine Learning, Figure 4, without the
rounds against a server that forges messages (signed keys, consistency check). Site u, whose vector is x_u:

0. AdvertiseKeys: sends two public keys, one for sealing shares and one for masks.
1. ShareKeys: splits its mask key s_u and a random seed b_u among all sites, and sends the shares sealed.
2. MaskedInputCollection: sends y_u = x_u + PRG(b_u) + sum over v > u of PRG(s_uv) - sum over v < u of PRG(s_uv),
   modulo 2^64, where u and v alone can compute s_uv.
3. Unmasking: hands out its shares of b_v for every v whose y_v arrived and of s_v for every other. Never both of one
   site: with both the server could take off all masks of y_v.

S counts sites that take part, L values of a vector. Bytes are uint8 arrays, so that they travel like tensors.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from model.secure_primitives import (
    KEY_BYTES,
    SEALED_BYTES,
    SecureSumError,
    add_mask,
    agreed_key,
    commitment,
    derived_key,
    new_secret,
    public_key,
    seal,
    split_secret,
    unseal,
)

Bytes = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.uint64]

MIN_SITES = 3
"""In a sum: from the sum of two, each of them knows the other's vector."""
MAX_SITES = 64
"""In a sum; model/secure_vector.py counts on it to exclude overflow."""


def threshold_of(num_sites: int) -> int:
    """Sites without which no mask can be taken off: more than two thirds of those that share.

    A majority would do for a server that keeps to the protocol. With more than two thirds a server that tells one half
    of the sites that v is there, and the other half that it is not, cannot collect both secrets of v either, unless
    more than a third of the sites help it (Bonawitz et al. 2017, section 6.2).
    """
    return 2 * num_sites // 3 + 1


def mask_purpose(session: str, first: int, second: int) -> str:
    """Names the mask that two sites share; the same for both."""
    return f"{session} mask of {min(first, second)} and {max(first, second)}"


def seed_purpose(session: str, site: int) -> str:
    """Names the mask that a site has for itself."""
    return f"{session} own mask of {site}"


class Phase(StrEnum):
    """What the server asks a site for: the value of `phase` in a message's config."""

    KEYS = "secure-keys"
    SHARES = "secure-shares"
    TRAIN = "secure-train"
    UNMASK = "secure-unmask"


class Step(StrEnum):
    """What a site has done last."""

    ADVERTISED = "advertised"
    SHARED = "shared"
    MASKED = "masked"
    REVEALED = "revealed"


@dataclass(kw_only=True, slots=True)
class SiteSum:
    """One site's part of one sum; the steps have one order, and each is taken once."""

    site: int
    session: str
    """Names this sum: no other one may have it."""
    min_sites: int
    """Fewest vectors in a sum that this site helps to unmask, >= 3."""
    step: Step = Step.ADVERTISED
    sealing_private: bytes = field(default=b"", repr=False)
    mask_private: bytes = field(default=b"", repr=False)
    seed: bytes = field(default=b"", repr=False)
    mask_publics: dict[int, bytes] = field(default_factory=dict)
    sealing_publics: dict[int, bytes] = field(default_factory=dict)
    seed_shares: dict[int, bytes] = field(default_factory=dict, repr=False)
    """Of every site that shared: this site's share of its seed."""
    key_shares: dict[int, bytes] = field(default_factory=dict, repr=False)
    """Of every site that shared: this site's share of its mask key."""

    @classmethod
    def begin(cls, site: int, session: str, min_sites: int) -> SiteSum:
        """Step 0, with fresh keys."""
        if min_sites < MIN_SITES:
            raise SecureSumError(f"site {site}: got a sum of {min_sites} sites, wanted at least {MIN_SITES}")
        return cls(
            site=site,
            session=session,
            min_sites=min_sites,
            sealing_private=new_secret(),
            mask_private=new_secret(),
        )

    def public_keys(self) -> Bytes:
        """[2, 32] for the server: the sealing and the mask key."""
        return _rows([public_key(self.sealing_private), public_key(self.mask_private)])

    def share(self, sites: Sequence[int], keys_S2B: Bytes) -> tuple[Bytes, Bytes]:
        """Step 1.

        Args:
            sites: [S] ids of all that advertised keys, ascending, this one among them.
            keys_S2B: [S, 2, 32] their public keys.

        Returns:
            [S, 160] shares sealed for each site, and the [32] commitment to this site's seed.

        Raises:
            SecureSumError: for too few sites, an id or a key that is there twice, or own keys that are not ours.
        """
        self._require(Step.ADVERTISED)
        if keys_S2B.shape != (len(sites), 2, KEY_BYTES) or keys_S2B.dtype != np.uint8:
            raise SecureSumError(
                f"site {self.site}: got keys of shape {keys_S2B.shape}, wanted ({len(sites)}, 2, {KEY_BYTES})"
            )
        if len(sites) < self.min_sites:
            raise SecureSumError(
                f"site {self.site}: got keys of {len(sites)} sites, wanted at least {self.min_sites}; start the others"
            )
        self.sealing_publics = {site: keys[0].tobytes() for site, keys in zip(sites, keys_S2B, strict=True)}
        self.mask_publics = {site: keys[1].tobytes() for site, keys in zip(sites, keys_S2B, strict=True)}
        if len({*self.sealing_publics.values(), *self.mask_publics.values()}) != 2 * len(sites):
            raise SecureSumError(f"site {self.site}: a site or a public key is there twice")
        own = self.public_keys()
        if (self.sealing_publics.get(self.site), self.mask_publics.get(self.site)) != tuple(k.tobytes() for k in own):
            raise SecureSumError(f"site {self.site}: its own public keys came back changed")
        self.seed = new_secret()
        threshold = threshold_of(len(sites))
        seed_shares = split_secret(self.seed, sites, threshold)
        key_shares = split_secret(self.mask_private, sites, threshold)
        sealed = [
            seal(self._sealing_key(other), (seed_shares[other], key_shares[other]), self._route(self.site, other))
            for other in sites
        ]
        self.step = Step.SHARED
        return _rows(sealed), _rows([commitment(self.seed)])[0]

    def mask(self, vector_L: Vector, sites: Sequence[int], sealed_SB: Bytes) -> Vector:
        """Step 2; this site's own secrets are forgotten with it.

        Args:
            vector_L: [L] what is to be summed; not changed.
            sites: ids of all that sent shares, ascending, this one among them.
            sealed_SB: [S, 160] the shares that they sealed for this site.

        Returns:
            [L] the vector under its masks.

        Raises:
            SecureSumError: for too few or unknown sites, or shares that were changed on their way.
        """
        self._require(Step.SHARED)
        wanted = max(self.min_sites, threshold_of(len(self.mask_publics)))
        if len(set(sites)) != len(sites) or not {self.site} <= set(sites) <= self.mask_publics.keys():
            raise SecureSumError(f"site {self.site}: got shares of sites {list(sites)}, which are not those with keys")
        if len(sites) < wanted:
            raise SecureSumError(f"site {self.site}: got shares of {len(sites)} sites, wanted at least {wanted}")
        if sealed_SB.shape != (len(sites), SEALED_BYTES) or sealed_SB.dtype != np.uint8:
            raise SecureSumError(
                f"site {self.site}: got sealed shares of shape {sealed_SB.shape}, wanted ({len(sites)}, {SEALED_BYTES})"
            )
        for other, sealed in zip(sites, sealed_SB, strict=True):
            shares = unseal(self._sealing_key(other), sealed.tobytes(), self._route(other, self.site))
            self.seed_shares[other], self.key_shares[other] = shares
        masked = vector_L.copy()
        add_mask(masked, derived_key(self.seed, seed_purpose(self.session, self.site)), is_subtracted=False)
        for other in sites:
            if other != self.site:
                purpose = mask_purpose(self.session, self.site, other)
                key = agreed_key(self.mask_private, self.mask_publics[other], purpose)
                add_mask(masked, key, is_subtracted=other < self.site)
        self.sealing_private = self.mask_private = self.seed = b""
        self.sealing_publics.clear()
        self.step = Step.MASKED
        return masked

    def reveal(self, survivors: Sequence[int]) -> Bytes:
        """Step 3; all shares are forgotten with it.

        Args:
            survivors: ids of the sites whose masked vectors arrived, ascending, this one among them.

        Returns:
            [S, 66] one share for each site that sent shares, ascending by id: of its seed for a survivor, of its mask
            key for the others.

        Raises:
            SecureSumError: if this site revealed shares of this sum before, or for too few or unknown survivors.
        """
        self._require(Step.MASKED)
        sites = sorted(self.seed_shares)
        alive = set(survivors)
        if self.site not in alive or not alive <= set(sites):
            raise SecureSumError(
                f"site {self.site}: got survivors {list(survivors)}, wanted some of {sites} and itself"
            )
        wanted = max(self.min_sites, threshold_of(len(self.mask_publics)))
        if len(alive) < wanted:
            raise SecureSumError(
                f"site {self.site}: a sum of {len(alive)} of {len(self.mask_publics)} sites is not unmasked, wanted at "
                f"least {wanted}"
            )
        shares = [self.seed_shares[site] if site in alive else self.key_shares[site] for site in sites]
        self.seed_shares.clear()
        self.key_shares.clear()
        self.mask_publics.clear()
        self.step = Step.REVEALED
        return _rows(shares)

    def to_json(self) -> str:
        """All of it, secrets included, for a file that nobody else may read."""
        return json.dumps(
            {
                "site": self.site,
                "session": self.session,
                "min_sites": self.min_sites,
                "step": self.step.value,
                **{name: getattr(self, name).hex() for name in _SECRETS},
                **{name: {k: v.hex() for k, v in getattr(self, name).items()} for name in _TABLES},
            }
        )

    @classmethod
    def from_json(cls, text: str) -> SiteSum:
        """What `to_json` wrote."""
        values = json.loads(text)
        own = cls(
            site=values["site"],
            session=values["session"],
            min_sites=values["min_sites"],
            step=Step(values["step"]),
        )
        for name in _SECRETS:
            setattr(own, name, bytes.fromhex(values[name]))
        for name in _TABLES:
            setattr(own, name, {int(site): bytes.fromhex(value) for site, value in values[name].items()})
        return own

    def _require(self, step: Step) -> None:
        if self.step is not step:
            raise SecureSumError(
                f"site {self.site}: this sum is at step {self.step.value!r}, the server asks for what comes after "
                f"{step.value!r}; every step is taken once, the round has to begin anew"
            )

    def _sealing_key(self, other: int) -> bytes:
        first, second = sorted((self.site, other))
        purpose = f"{self.session} shares between {first} and {second}"
        return agreed_key(self.sealing_private, self.sealing_publics[other], purpose)

    def _route(self, sender: int, receiver: int) -> str:
        return f"{self.session}: shares of site {sender} for site {receiver}"


_SECRETS = ("sealing_private", "mask_private", "seed")
_TABLES = ("mask_publics", "sealing_publics", "seed_shares", "key_shares")


def _rows(values: Sequence[bytes]) -> Bytes:
    """[len(values), length of one] uint8."""
    return np.frombuffer(b"".join(values), np.uint8).reshape(len(values), -1)
